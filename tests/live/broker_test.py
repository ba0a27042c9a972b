#!/usr/bin/env python3
"""The broker killed for shorter and for longer than a transaction may last, frozen, and with its disk full."""

import os
import signal
import time
import unittest

import confluent_kafka.admin

import live
from stressed import FULL, MINUTE, Patient, StressTest, backoff

TRANSACTION_TIMEOUT = 10  # seconds: what the workers ask for (transaction.timeout.ms)


class Broker(StressTest):
    own = ("broker", "redis")
    disk = 512

    def outage(self, seconds, down, up, meanwhile=lambda: None):
        """Images come all the time, requests only afterwards: predict is idle, and the others are in the middle of
        something. All wait quietly, and go on by themselves."""
        self.a_model()
        pace = 10
        publisher = live.Publisher(Patient(self.fleet), "images", self.new_images(int(pace * (seconds + 4))), pace)
        publisher.start()
        time.sleep(2)
        self.fleet.admin = None  # librdkafka 2.16's fails an assertion when a broker dies
        down()
        began = time.monotonic()
        if seconds > 8:
            time.sleep(4)  # until the last connection is given up
            self.quiet(seconds - 7)
        time.sleep(max(0, seconds - (time.monotonic() - began)))
        meanwhile()
        seen = {worker.name: (worker.probe("/readyz")[0], round(backoff(worker), 1)) for worker in self.fleet.workers.values()}
        up()
        self.fleet.admin = confluent_kafka.admin.AdminClient(live.client())
        began = time.monotonic()
        for worker in self.fleet.workers.values():
            self.goes_on(worker)
        ready = time.monotonic() - began
        publisher.join(300)
        self.assertIsNone(publisher.error)
        self.ask(100)
        self.whole(180)
        print(f"the broker was away {seconds:.0f} s; all ready {ready:.1f} s and all done {time.monotonic() - began:.1f} s "
              f"after it was back; /readyz and seconds of back-off before: {seen}")
        self.nobody_died()

    def kill_for(self, seconds, meanwhile=lambda: None):
        self.outage(seconds, self.broker.kill, self.broker.start, meanwhile)

    @unittest.skipUnless(FULL, "in the long run")
    def test_killed_for_less_than_a_transaction_may_last(self):
        self.kill_for(TRANSACTION_TIMEOUT / 3)

    def test_killed_for_longer_than_a_transaction_may_last(self):
        self.assertGreater(MINUTE, TRANSACTION_TIMEOUT)
        self.kill_for(MINUTE, self.all_say_so)

    def all_say_so(self):
        """One that is idle at once; one with a commit under way when it has asked for its outcome long enough."""
        for worker in self.fleet.workers.values() if FULL else [self.worker("predict")]:
            live.wait_for(f"{worker.name} to be not ready", 30, lambda: worker.probe("/readyz")[0] == 503)
            self.assertIn(f"no broker at {self.broker.address}", worker.probe("/readyz")[1])
            self.says(worker, f"no broker at {self.broker.address}", 1)
            self.assertGreater(backoff(worker), 0)

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
        publisher = live.Publisher(Patient(self.fleet), "images", self.new_images(1000), 200)
        asker = live.Publisher(Patient(self.fleet), "predictions.requests", self.new_requests(1000), 200)
        publisher.start()
        asker.start()
        self.fleet.admin = None
        space = os.statvfs(self.broker.data)
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - (256 << 10)))
        live.wait_for("the broker to give up", 60, lambda: not self.broker.alive())
        print("the broker died of its full disk")
        time.sleep(4)
        self.quiet(4)
        filler.unlink()
        self.broker.start()
        self.fleet.admin = confluent_kafka.admin.AdminClient(live.client())
        for worker in self.fleet.workers.values():
            self.goes_on(worker)
        for thread in (publisher, asker):
            thread.join(300)
            self.assertIsNone(thread.error)
        self.whole(180)
        self.nobody_died()


if __name__ == "__main__":
    unittest.main()
