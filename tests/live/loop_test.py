#!/usr/bin/env python3
"""The whole loop: files become a model and the model answers, and every count on the way is exact."""

import collections
import json
import os
import subprocess
import unittest

import live


class Loop(live.LiveTest):
    IMAGES, REQUESTS = 1500, 300

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.train = cls.scratch / "train"
        live.digits(cls.IMAGES, cls.train)
        cls.asked = live.digits(cls.REQUESTS, cls.scratch / "ask")
        cls.fleet.command("publish", str(cls.train))
        cls.fleet.wait_idle(90)
        cls.fleet.send("predictions.requests",
                       [(f"request-{i}", value, []) for i, (_, value) in enumerate(cls.asked)])
        cls.fleet.wait_idle(30)

    def test_every_image_is_stored_once(self):
        files = list(self.train.rglob("*.png"))
        self.assertEqual(self.IMAGES, len(files))
        distinct = len({path.read_bytes() for path in files})
        rows, index = self.fleet.rows()
        self.assertEqual(distinct, len(rows))
        self.assertEqual(rows, index)
        stored = self.fleet.messages("images.stored")
        self.assertEqual(rows, {message["row"] for message in stored})
        self.assertEqual(len(rows), len(stored))

    def test_every_image_is_in_one_batch(self):
        batched = [image["row"] for batch in self.fleet.messages("batches") for image in batch["images"]]
        self.assertEqual(len(batched), len(set(batched)))
        self.assertEqual(self.fleet.rows()[0], set(batched))

    def test_every_batch_is_in_one_version(self):
        batches = [batch["batch"] for batch in self.fleet.messages("batches")]
        trained = self.fleet.messages("models.trained")
        learned = [batch for version in trained for batch in version["batches"]]
        self.assertEqual(sorted(batches), sorted(learned))
        self.assertEqual(list(range(1, len(trained) + 1)), [version["version"] for version in trained])
        self.assertEqual(list(range(len(trained))), [version["parent"] for version in trained])

    def test_every_request_has_one_result(self):
        results = self.fleet.read("predictions.results")
        self.assertEqual(sorted(f"request-{i}".encode() for i in range(len(self.asked))),
                         sorted(result.key for result in results))
        answers = [json.loads(result.value) for result in results]
        self.assertEqual([], [answer for answer in answers if "error" in answer])
        right = sum(answer["label"] == self.asked[int(answer["id"].removeprefix("request-"))][0] for answer in answers)
        print(f"{right} of {len(answers)} digits named rightly")
        self.assertGreater(right / len(answers), 0.7)

    def test_nothing_was_refused(self):
        for topic in self.fleet.topics():
            if topic.endswith(".dlq"):
                self.assertEqual([], self.fleet.read(topic), topic)

    def test_what_is_served_was_promoted(self):
        last = self.fleet.messages("models.deployed")[-1]
        trained = {version["version"]: version["artifact"] for version in self.fleet.messages("models.trained")}
        self.assertEqual(trained[last["version"]], last["artifact"])
        self.assertEqual(max(trained), last["judged"])

    def test_publishing_again_doubles_nothing(self):
        before = self.fleet.rows()[0], len(self.fleet.read("images.stored"))
        self.fleet.command("publish", str(self.train))
        self.fleet.wait_idle(60)
        self.assertEqual(before, (self.fleet.rows()[0], len(self.fleet.read("images.stored"))))

    def test_idle_means_no_lag(self):
        for stage in self.fleet.workers:
            self.assertEqual({0}, set(self.fleet.lag(stage).values()), stage)

    def test_messages_fit_their_schemas(self):
        modules = live.ROOT / ".darkroom" / "npm" / "node_modules"
        if not modules.is_dir():
            self.skipTest("the AsyncAPI parser is not there")
        files = []
        for topic in ("images.stored", "batches", "models.trained", "models.deployed", "predictions.results"):
            for i, record in enumerate(self.fleet.read(topic)[:3]):
                files.append(self.scratch / f"{topic}.{i}.json")
                files[-1].write_bytes(record.value)
                headers = collections.Counter(name for name, _ in record.headers)
                self.assertLessEqual({"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"},
                                     headers.keys(), topic)
                self.assertEqual({1}, set(headers.values()), topic)
        run = subprocess.run(["node", str(live.ROOT / "tests/unit/asyncapi_test.js"), *map(str, files)],
                             env={**os.environ, "NODE_PATH": str(modules)}, capture_output=True, text=True)
        self.assertEqual(0, run.returncode, run.stdout + run.stderr)


if __name__ == "__main__":
    unittest.main()
