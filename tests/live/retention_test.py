#!/usr/bin/env python3
"""Data that retention deletes before it was read is said, counted, and never skipped in silence."""

import os
import signal
import unittest

import confluent_kafka
import confluent_kafka.admin

import live


class Retention(live.LiveTest):
    stages = ("preprocess",)

    def setUp(self):
        self.worker = self.fleet.workers["preprocess"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.digits = [value for _, value in live.digits(200, cls.scratch / "digits")]
        cls.sent = 0

    def send(self, count):
        self.fleet.send("images", [(f"i{self.sent + i}", self.digits[i], [("label", b"1")]) for i in range(count)])
        type(self).sent += count

    def delete(self, share):
        """Deletes so much of what is unread of every partition; how many records that was."""
        ends, behind = self.fleet.ends("images"), self.fleet.lag("preprocess")
        gone = {p: int(behind[p] * share) for p in ends}
        parts = [confluent_kafka.TopicPartition(self.fleet.topic("images"), p, ends[p][1] - behind[p] + n)
                 for p, n in gone.items() if n]
        for future in self.fleet.admin.delete_records(parts).values():
            future.result(10)
        return sum(gone.values())

    def counted(self):
        body = self.worker.probe("/metrics")[1]
        return sum(int(float(line.split()[-1])) for line in body.splitlines()
                   if line.startswith("darkroom_retention_gap_records_total"))

    def prepared(self):
        return len(self.fleet.read("images.prepared"))

    def test_1_while_the_worker_was_away(self):
        self.send(80)
        self.fleet.wait_idle(30)
        self.worker.stop()
        self.send(160)
        gone = self.delete(0.5)
        self.assertGreater(gone, 40)
        self.worker.start()
        live.wait_for("the worker to be ready", 30, self.worker.ready)
        self.fleet.wait_idle(30)
        live.wait_for("the count", 10, lambda: self.counted() == gone)
        self.assertEqual(self.sent - gone, self.prepared())
        self.assertIn("retention deleted offsets", self.worker.log.read_text())
        type(self).gone = gone

    def test_2_all_that_was_unread(self):
        self.worker.stop()
        self.send(50)
        gone = self.delete(1)
        self.assertEqual(50, gone)
        self.worker.start()
        live.wait_for("the worker to be ready", 30, self.worker.ready)
        self.fleet.wait_idle(30)
        live.wait_for("the count", 10, lambda: self.counted() == gone)
        self.assertEqual(self.sent - self.gone - gone, self.prepared())
        type(self).gone += gone

    def test_3_under_the_eyes_of_a_worker_that_stands_still(self):
        before = self.counted()
        for pid in self.worker.children():
            os.kill(pid, signal.SIGSTOP)
        try:
            self.send(200)
            self.delete(0.9)
        finally:
            for pid in self.worker.children():
                os.kill(pid, signal.SIGCONT)
        self.send(10)
        self.fleet.wait_idle(60)
        # What the broker had sent already is read all the same: whatever is not, is counted.
        live.wait_for("the count", 10, lambda: self.prepared() + self.gone + self.counted() - before == self.sent)
        self.assertGreater(self.counted() - before, 0)


if __name__ == "__main__":
    unittest.main()
