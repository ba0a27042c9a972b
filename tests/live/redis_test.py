#!/usr/bin/env python3
"""Redis full, with an eviction policy, down for a minute, and back but empty. Nothing is lost, nothing spins,
predict goes on answering, and the workers say what is the matter or what is gone."""

import json
import time
import unittest

import live
from stressed import FULL, MINUTE, StressTest


class Full(StressTest):
    """Also an eviction policy, and Redis away."""

    own = ("redis",)

    def test_full(self):
        self.a_model()
        train, store = self.worker("train"), self.worker("store")
        train.stop()
        self.publish(200)
        self.done("preprocess", "store", "batch")
        used = self.redis.client.info("memory")["used_memory"]
        self.redis.client.config_set("maxmemory", used // 2)
        train.start()
        self.publish(200)
        self.ask(100)
        for worker in (train, store):
            self.says(worker, "is out of memory (maxmemory)")
            self.backs_off(worker)
        self.quiet(10 if FULL else 3)
        self.done("predict")
        if FULL:
            for worker in (train, store):
                live.wait_for(f"{worker.name} to be not ready", 15, lambda: worker.probe("/readyz")[0] == 503)
                self.assertIn("maxmemory", worker.probe("/readyz")[1])
        self.redis.client.config_set("maxmemory", 0)
        for worker in (train, store):
            self.goes_on(worker, 30)
        self.whole()
        self.nobody_died()

    def test_eviction_policy(self):
        self.a_model()
        for stage in ("store", "train", "deploy") if FULL else ("store",):
            worker = self.worker(stage)
            worker.stop()
            self.redis.client.config_set("maxmemory-policy", "allkeys-lru")
            lines = len(worker.log.read_text().splitlines())
            worker.start()
            self.publish(50)
            live.wait_for("the word", 10, lambda: "maxmemory-policy is allkeys-lru, and must be noeviction" in
                          "\n".join(worker.log.read_text().splitlines()[lines:]))
            self.assertEqual(503, worker.probe("/readyz")[0])
            if stage == "store":
                live.wait_for("its input to wait", 10, lambda: any(self.fleet.lag("store").values()))
            self.backs_off(worker)
            self.redis.client.config_set("maxmemory-policy", "noeviction")
            self.goes_on(worker, 30)
        self.whole()
        self.nobody_died()

    def test_down(self):
        self.a_model()
        train, store, predict = (self.worker(stage) for stage in ("train", "store", "predict"))
        train.stop()
        self.publish(100)
        self.done("preprocess", "store", "batch")
        self.redis.kill()
        began = time.monotonic()
        train.start()
        publisher = live.Publisher(self.fleet, "images", self.new_images(int(20 * MINUTE)), 20)
        asker = live.Publisher(self.fleet, "predictions.requests", self.new_requests(int(20 * MINUTE)), 20)
        publisher.start()
        asker.start()
        for worker in (train, store):
            self.says(worker, f"Redis at 127.0.0.1:{self.redis.port}")
            self.backs_off(worker)
        self.quiet(max(3, MINUTE - (time.monotonic() - began) - 5))
        for worker in (train, store):
            live.wait_for(f"{worker.name} to be not ready", 10, lambda: worker.probe("/readyz")[0] == 503)
        self.assertEqual(200, predict.probe("/readyz")[0])
        publisher.join()
        asker.join()
        self.assertIsNone(publisher.error or asker.error)
        self.done("predict")
        time.sleep(max(0, began + MINUTE - time.monotonic()))
        self.redis.start()
        began = time.monotonic()
        for worker in (train, store):
            self.goes_on(worker, 30)
        self.whole()
        print(f"Redis was away {MINUTE:.0f} s; all done {time.monotonic() - began:.1f} s after it was back")
        self.nobody_died()


class Empty(StressTest):
    """The data of Redis are gone. What was learned is gone with them, and says so; what is served goes on, and
    publishing again brings the images back."""

    own = ("redis",)

    def test_empty(self):
        self.a_model(200)
        served = self.fleet.messages("models.deployed")[-1]["version"]
        had = self.fleet.messages("models.trained")[-1]["version"]
        train, predict = self.worker("train"), self.worker("predict")
        self.worker("batch").stop()
        self.publish(100)  # in images.stored, and with no row soon
        self.done("preprocess", "store")
        self.redis.empty()

        self.ask(50)
        self.done("predict")
        self.worker("batch").start()
        self.says(train, f"version {had}, which it had, is not in Redis", 30)
        self.fleet.wait_idle(30)
        trained = self.fleet.messages("models.trained")[-1]
        self.assertEqual((1, 100), (trained["version"], trained["missing"]))
        last = self.fleet.messages("models.deployed")[-1]
        self.assertEqual((1, served, False), (last["judged"], last["version"], last["promoted"]))

        second = live.Worker(self.fleet, "predict", 2).start()
        self.addCleanup(second.stop)
        self.says(second, "names a version that cannot be served", 30)
        self.says(second, "is not in Redis")
        live.wait_for("it to be ready all the same", 20, second.ready)
        second.stop()
        self.ask(50)
        self.fleet.wait_idle(30)
        self.answered_once()
        versions = {json.loads(result.value)["version"] for result in self.fleet.read("predictions.results")}
        self.assertEqual({served}, versions)

        before = list(self.images)
        self.publish(200)
        self.fleet.wait_idle(60)
        last = self.fleet.messages("models.deployed")[-1]
        self.assertTrue(last["promoted"], last)
        self.says(self.worker("deploy"), f"the weights of version {served}, which served, are gone")
        self.ask(50)
        self.fleet.wait_idle(30)
        self.assertEqual(last["version"], json.loads(max(self.fleet.read("predictions.results"),
                                                         key=lambda r: int(r.key.split(b"-")[1])).value)["version"])
        self.fleet.send("images", before)
        self.fleet.wait_idle(60)
        self.assertEqual(len(self.images), len(self.fleet.rows()[0]))
        self.answered_once()
        self.quiet(3)
        self.nobody_died()

    @unittest.skipUnless(FULL, "in the long run")
    def test_weights_gone(self):
        """Only the artifacts: train cannot go on, says so, and the whole model is removed as the README says."""
        self.a_model()
        train = self.worker("train")
        train.stop()
        keys = list(self.redis.client.scan_iter(match=f"{self.fleet.prefix}artifact:*", count=1000))
        self.redis.client.delete(*keys)
        train.start()
        self.publish(100)
        self.says(train, "cannot go on from version", 30)
        self.says(train, "is not in Redis")
        self.backs_off(train)
        self.quiet(5)
        self.ask(50)
        self.done("predict")
        train.stop()
        for key in self.redis.client.scan_iter(match=f"{self.fleet.prefix}*{{default}}*", count=1000):
            self.redis.client.delete(key)
        train.start()
        deployed = len(self.fleet.messages("models.deployed"))
        self.fleet.send("images", self.images)
        self.fleet.wait_idle(60)
        self.assertTrue(any(message["promoted"] for message in self.fleet.messages("models.deployed")[deployed:]))
        self.assertEqual(len(self.images), len(self.fleet.rows()[0]))
        self.ask(50)
        self.fleet.wait_idle(30)
        self.answered_once()
        self.nobody_died()


if __name__ == "__main__":
    unittest.main()
