#!/usr/bin/env python3
"""Too much at once: 100,000 requests for one predict worker, a thousand batches for one slow trainer. Memory is
bounded, and all is done once."""

import collections
import math
import time
import unittest

import live
from stressed import FULL, StressTest, backoff, cpu_seconds

REQUESTS = 100_000
BATCHES, A_BATCH, A_PASS = 1000, 10, 16  # batches, images in each, and batches that train takes at once


class Load(StressTest):
    own = ("redis",)
    models = {"default": {"batch.count": 200, "batch.age": "1s"},
              "slow": {"batch.count": A_BATCH, "batch.age": "1s", "network": "cnn" if FULL else "mlp"}}

    def dump(self, **settings):
        """Every request is there before the worker is."""
        self.a_model()
        self.worker("predict").stop()
        new = self.new_requests(REQUESTS)
        self.fleet.send("predictions.requests", new, seconds=120)
        worker = live.Worker(self.fleet, "predict", **settings)
        self.fleet.workers["predict"] = worker
        began = time.monotonic()
        worker.start()
        live.wait_for("the worker to be ready", 30, worker.ready)
        live.wait_for("all requests to be answered", 180, lambda: worker.measure() and not any(self.fleet.lag("predict").values()))
        seconds = time.monotonic() - began
        print(f"{REQUESTS} requests at once: {seconds:.1f} s, {cpu_seconds(worker):.1f} s of processor, "
              f"peak {worker.measure() / 1e6:.1f} MB of worker and parent {settings or ''}")
        self.assertLess(worker.measure(), 100e6)
        self.answered_once()
        self.quiet(3, ["predict"])

    def test_requests_at_once(self):
        self.dump()

    @unittest.skipUnless(FULL, "in the long run")
    def test_requests_at_once_at_least_once(self):
        self.dump(delivery="at-least-once")

    def test_slow_trainer(self):
        self.a_model()
        train = self.worker("train")
        train.stop()
        files = [(label, value) for label, value in self.files]
        self.fleet.send("images", [(f"slow-{i}", value, [("label", label), ("ce_model", "slow")])
                                   for i in range(BATCHES * A_BATCH) for label, value in [files[i % len(files)]]], seconds=120)
        self.done("preprocess", "store", "batch", seconds=120)
        batches = [batch for batch in self.fleet.messages("batches") if batch["model"] == "slow"]
        self.assertGreaterEqual(len(batches), BATCHES)
        began = time.monotonic()
        self.redis.kill()  # it has nothing to learn from yet
        train.start()
        self.says(train, "Redis at", 30)
        before = backoff(train)
        self.backs_off(train)
        self.redis.start()
        live.wait_for("the first version", 60, lambda: self.versions())
        first = train.measure()
        self.done("train", "deploy", seconds=600)
        seconds = time.monotonic() - began
        versions = self.versions()
        print(f"{len(batches)} waiting batches in {len(versions)} versions, {seconds:.1f} s; peak memory of train "
              f"{first / 1e6:.1f} MB after the first version, {train.measure() / 1e6:.1f} MB at the end; "
              f"backed off {backoff(train) - before:.1f} s")
        self.once([batch["batch"] for batch in batches], [b for v in versions for b in v["batches"]], "batches learned")
        sizes = collections.Counter(len(version["batches"]) for version in versions)
        self.assertLessEqual(max(sizes), A_PASS)
        self.assertLessEqual(len(versions), math.ceil(len(batches) / A_PASS) + 4, sizes)
        self.assertLess(train.measure() - first, 32e6)
        self.quiet(3)
        self.nobody_died()

    def versions(self):
        return [version for version in self.fleet.messages("models.trained") if version["model"] == "slow"]


if __name__ == "__main__":
    unittest.main()
