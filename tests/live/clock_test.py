#!/usr/bin/env python3
"""The clock of one worker jumps by an hour, forwards and back: nothing hangs, nothing is lost, batches close at
their age, and the times of its events are what its clock says. A worker whose clock is set back is started again by
its parent: Kafka's client would wait the longer for it. tests/live/clock_jump.c is the clock."""

import collections
import datetime
import json
import struct
import time
import unittest

import live
from stressed import FULL, StressTest, metric

HOUR = 3600


class ClockTest(StressTest):
    stages = ()
    models = {"default": {"batch.count": 1000, "batch.age": "1s"}, "aged": {"batch.age": "1s", "keep.age": "30m"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.jumps, cls.set_back = {}, collections.Counter()
        for stage in live.STAGES:
            worker = live.Worker(cls.fleet, stage)
            worker.environment.update(LD_PRELOAD=str(live.BUILD / "clock_jump.so"), CLOCK_JUMP=str(cls.clock(stage)))
            cls.set_clock(stage, 0)
            cls.fleet.workers[stage] = worker.start()
        for worker in cls.fleet.workers.values():
            live.wait_for(f"{worker.name} to be ready", 30, worker.ready)

    @classmethod
    def clock(cls, stage):
        return cls.fleet.folder / f"{stage}.clock"

    @classmethod
    def set_clock(cls, stage, seconds):
        cls.set_back[stage] += seconds < cls.jumps.get(stage, 0)
        cls.jumps[stage] = seconds
        with open(cls.clock(stage), "r+b" if cls.clock(stage).exists() else "wb") as file:
            file.write(struct.pack("q", seconds))

    def round(self, what):
        """A few images and requests, from the drop to the last result."""
        began = time.monotonic()
        self.publish(20)
        self.ask(20)
        try:
            self.fleet.wait_idle(60)
        finally:
            print(f"{what}: {time.monotonic() - began:.1f} s")

    def nobody_died(self):
        """But whose clock was set back, as often as it was."""
        for stage, worker in self.fleet.workers.items():
            live.wait_for(f"{stage} to be ready", 30, worker.ready)
            self.assertEqual(self.set_back[stage], metric(worker, "darkroom_restarts_total"), worker.tail(30))
            if self.set_back[stage]:
                self.says(worker, "the clock was set back")

    def test_jumps(self):
        self.a_model()
        self.round("no jump")
        plan = ([(stage, jump) for stage in live.STAGES for jump in (HOUR, 0, -HOUR, 0)] if FULL else
                [(stage, -HOUR if i % 2 else HOUR) for i, stage in enumerate(live.STAGES)])
        for stage, jump in plan:
            self.set_clock(stage, jump)
            self.round(f"{stage} at {jump:+} s")
        for stage in live.STAGES:
            self.set_clock(stage, 0)
        self.round("all right again")
        self.whole()
        self.nobody_died()

    def test_set_back_while_idle(self):
        """What waits for a moment of the day would wait an hour longer; longer than a session may be silent."""
        self.a_model()
        for stage in ("preprocess", "predict"):
            self.set_clock(stage, -HOUR)
        time.sleep(80 if FULL else 10)  # a session lasts 8 s, and /healthz believes 60
        for stage in ("preprocess", "predict"):
            self.goes_on(self.worker(stage))
            self.assertEqual(200, self.worker(stage).probe("/healthz")[0])
        self.round("some time after it was set back")
        for stage in ("preprocess", "predict"):
            self.set_clock(stage, 0)
        self.whole(120)
        self.nobody_died()

    def test_ahead_of_a_table_kept_by_age(self):
        """What comes from an hour ahead does not make all that was there before too old."""
        for first, jump in ((0, 0), (20, HOUR - 60), (40, 0)):
            self.set_clock("preprocess", jump)
            self.fleet.send("images", [(f"aged-{i}", self.files[i][1], [("label", self.files[i][0]), ("ce_model", "aged")])
                                       for i in range(first, first + 20)])
            self.done("preprocess", "store")
        self.assertEqual(60, len(self.fleet.rows("aged")[0]))

    def test_times_are_the_workers(self):
        self.a_model()
        self.set_clock("predict", HOUR // 2)
        self.ask(1)
        self.fleet.wait_idle(30)
        self.set_clock("predict", 0)
        result = max(self.fleet.read("predictions.results"), key=lambda r: int(r.key.split(b"-")[1]))
        self.assertIn("label", json.loads(result.value))
        said = datetime.datetime.fromisoformat(dict(result.headers)["ce_time"].decode()).timestamp()
        self.assertAlmostEqual(time.time() + HOUR / 2, said, delta=60)

    def test_two_hours_ahead_is_refused_by_the_broker_and_said(self):
        self.a_model()
        worker = self.worker("preprocess")
        self.set_clock("preprocess", 2 * HOUR)
        self.publish(20)
        self.says(worker, "timestamp", 15)
        self.backs_off(worker)
        self.quiet(3)
        self.set_clock("preprocess", 0)
        self.whole()
        self.nobody_died()


if __name__ == "__main__":
    unittest.main()
