#!/usr/bin/env python3
"""The broker killed for shorter and for longer than a transaction may last, frozen, and with its disk full."""

import os
import signal
import time
import unittest

import confluent_kafka.admin

import live
from stressed import FULL, MINUTE, StressTest, backoff

TRANSACTION_TIMEOUT = 10  # seconds: what the workers ask for (transaction.timeout.ms)
SESSION_TIMEOUT = 8


class Broker(StressTest):
    own = ("broker", "redis")
    disk = 512

    def outage(self, seconds, down, up):
        """Traffic goes on over the outage. Each worker says what is missing, waits quietly, and goes on."""
        self.a_model()
        pace, before = 30, 2
        publishers = [live.Publisher(self.fleet, "images", self.new_images(int(pace * (seconds + 4))), pace),
                      live.Publisher(self.fleet, "predictions.requests", self.new_requests(int(pace * (seconds + 4))), pace)]
        for publisher in publishers:
            publisher.start()
        time.sleep(before)
        self.fleet.admin = None  # librdkafka 2.16's fails an assertion when a broker dies
        down()
        began = time.monotonic()
        if seconds > 8:
            time.sleep(4)  # until the last connection is given up
            self.quiet(seconds - 7)
        time.sleep(max(0, seconds - (time.monotonic() - began)))
        seen = {worker.name: (worker.probe("/readyz")[0], backoff(worker))
                for worker in self.fleet.workers.values()}
        up()
        self.fleet.admin = confluent_kafka.admin.AdminClient(live.client())
        began = time.monotonic()
        for worker in self.fleet.workers.values():
            live.wait_for(f"{worker.name} to be ready", 60, worker.ready)
        ready = time.monotonic() - began
        for publisher in publishers:
            publisher.join(120)
            self.assertIsNone(publisher.error)
        self.whole(120)
        print(f"the broker was away {seconds:.0f} s; all ready {ready:.1f} s and all done {time.monotonic() - began:.1f} s "
              f"after it was back; not ready and back-off before: {seen}")
        self.nobody_died()
        return seen

    def kill_for(self, seconds):
        return self.outage(seconds, self.broker.kill, self.broker.start)

    @unittest.skipUnless(FULL, "in the long run")
    def test_killed_for_less_than_a_transaction_may_last(self):
        self.kill_for(TRANSACTION_TIMEOUT / 3)

    def test_killed_for_longer_than_a_transaction_may_last(self):
        self.assertGreater(MINUTE, TRANSACTION_TIMEOUT)
        seen = self.kill_for(MINUTE)
        for name, (status, backed_off) in seen.items():
            self.assertGreater(backed_off, 0, name)
            self.assertEqual(503, status, name)
        for worker in self.fleet.workers.values():
            self.says(worker, f"no broker at {self.broker.address}", 1)

    @unittest.skipUnless(FULL, "in the long run")
    def test_frozen_for_less_than_a_transaction_may_last(self):
        self.freeze_for(TRANSACTION_TIMEOUT / 2)

    @unittest.skipUnless(FULL, "in the long run")
    def test_frozen_for_longer_than_a_transaction_may_last(self):
        self.freeze_for(MINUTE)

    def freeze_for(self, seconds):
        return self.outage(seconds, lambda: self.broker.signal(signal.SIGSTOP), lambda: self.broker.signal(signal.SIGCONT))

    def test_disk_full(self):
        if not self.broker.disk:
            self.skipTest("no disk of its own can be mounted here")
        self.a_model()
        filler = self.broker.data / "filler"
        publisher = live.Publisher(self.fleet, "images", self.new_images(3000), 300)
        asker = live.Publisher(self.fleet, "predictions.requests", self.new_requests(3000), 300)
        publisher.start()
        asker.start()
        self.fleet.admin = None
        space = os.statvfs(self.broker.data)
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - (256 << 10)))
        live.wait_for("the broker to give up", 60, lambda: not self.broker.alive())
        print("the broker died of its full disk")
        time.sleep(4)
        self.quiet(max(3, MINUTE - 10))
        filler.unlink()
        self.broker.start()
        self.fleet.admin = confluent_kafka.admin.AdminClient(live.client())
        for worker in self.fleet.workers.values():
            live.wait_for(f"{worker.name} to be ready", 60, worker.ready)
        for thread in (publisher, asker):
            thread.join(120)
            self.assertIsNone(thread.error)
        self.whole(120)
        self.nobody_died()


if __name__ == "__main__":
    unittest.main()
