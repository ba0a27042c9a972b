#!/usr/bin/env python3
"""Anybody's client: kcat and a few lines of Python publish bare PNG files and read results, as README.md
shows it."""

import json
import subprocess
import time
import unittest

import confluent_kafka

import live


class Clients(live.LiveTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.digits = live.digits(300, cls.scratch / "digits")
        cls.file = next((cls.scratch / "digits").rglob("*.png"))
        cls.fleet.send("images", [(f"digit-{i}", value, [("label", label)])
                                  for i, (label, value) in enumerate(cls.digits)])
        cls.fleet.wait_idle(60)

    def kcat(self, *words, **more):
        return subprocess.run(["kcat", "-b", live.KAFKA, *words], capture_output=True, text=True, timeout=30, **more)

    def test_kcat_publishes_an_image(self):
        before = len(self.fleet.rows()[0])
        run = self.kcat("-P", "-t", self.fleet.topic("images"), "-k", "from-kcat", "-H", "label=7", str(self.file))
        self.assertEqual(0, run.returncode, run.stderr)
        live.wait_for("the image to be stored", 20, lambda: len(self.fleet.rows()[0]) == before + 1)
        stored = [message for message in self.fleet.messages("images.stored") if message["id"] == "from-kcat"]
        self.assertEqual(["7"], [message["label"] for message in stored])

    def test_kcat_asks_and_reads_the_result(self):
        run = self.kcat("-P", "-t", self.fleet.topic("predictions.requests"), "-k", "kcat-asks", str(self.file))
        self.assertEqual(0, run.returncode, run.stderr)
        self.fleet.wait_idle(20)
        run = self.kcat("-C", "-t", self.fleet.topic("predictions.results"), "-o", "beginning", "-e", "-q",
                        "-X", "isolation.level=read_committed", "-f", "%k %s\n")
        answers = [line.split(" ", 1)[1] for line in run.stdout.splitlines() if line.startswith("kcat-asks ")]
        self.assertEqual(1, len(answers), run.stdout + run.stderr)
        self.assertIn(json.loads(answers[0])["label"], "0123456789")

    def test_python_publishes_and_asks(self):
        before = len(self.fleet.rows()[0])
        image = self.file.read_bytes()

        producer = confluent_kafka.Producer({"bootstrap.servers": live.KAFKA})
        producer.produce(self.fleet.topic("images"), key="from-python", value=image, headers={"label": "7"})
        producer.produce(self.fleet.topic("predictions.requests"), key="python-asks", value=image)
        producer.flush()

        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": live.KAFKA, "group.id": self.fleet.topic("readme"), "auto.offset.reset": "earliest"})
        consumer.subscribe([self.fleet.topic("predictions.results")])
        answer, end = None, time.monotonic() + 30
        while answer is None and time.monotonic() < end:
            message = consumer.poll(1)
            if message and not message.error() and message.key() == b"python-asks":
                answer = json.loads(message.value())
        consumer.close()

        self.assertIsNotNone(answer, "no result")
        self.assertIn(answer["label"], answer["probabilities"])
        self.assertAlmostEqual(1, sum(answer["probabilities"].values()), places=3)
        live.wait_for("the image to be stored", 20, lambda: len(self.fleet.rows()[0]) == before + 1)

    def test_predict_command(self):
        run = self.fleet.command("predict", str(self.file))
        self.assertIn(str(self.file.name), run.stdout)

    def test_an_image_without_a_label_is_kept_and_not_batched(self):
        self.fleet.send("images", [("no-label", self.file.read_bytes(), [])])
        self.fleet.wait_idle(20)
        row, = [message["row"] for message in self.fleet.messages("images.stored") if message["id"] == "no-label"]
        self.assertIn(row, self.fleet.rows()[0])
        self.assertNotIn(row, [image["row"] for batch in self.fleet.messages("batches") for image in batch["images"]])

    def test_trace_headers_come_back(self):
        trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        self.fleet.send("predictions.requests", [("traced", self.file.read_bytes(), [trace, ("correlation-id", b"x1")])])
        result, = live.wait_for("the result", 20, lambda: [r for r in self.fleet.read("predictions.results")
                                                           if r.key == b"traced"])
        self.assertIn(trace, result.headers)
        self.assertIn(("correlation-id", b"x1"), result.headers)


if __name__ == "__main__":
    unittest.main()
