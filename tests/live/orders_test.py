#!/usr/bin/env python3
"""Orders on a real broker: what serves is rolled back, promoted, pinned under load and while deploy is killed, each
order once; and what the command line says of lineage, and takes out of the store."""

import collections
import hashlib
import json
import random
import re
import subprocess
import time
import unittest

import live


class Orders(live.LiveTest):
    models = {"default": {"batch.count": 100, "batch.age": "1s"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        digits = live.digits(1510, cls.scratch / "train")
        cls.images, cls.more = digits[:1300], digits[1300:]
        cls.asked = live.digits(200, cls.scratch / "ask")
        for first in range(0, 900, 300):  # so there are versions
            cls.publish(cls.images[first:first + 300])

    @classmethod
    def publish(cls, images):
        cls.fleet.send("images", [(hashlib.sha256(value).hexdigest(), value, [("label", label)])
                                  for label, value in images])
        cls.fleet.wait_idle(90)

    def deployed(self):
        return self.fleet.messages("models.deployed")

    def versions(self):
        return [m for m in self.fleet.messages("models.trained") if "version" in m and "artifact" in m]

    def answers(self, order):
        """How often an order was carried out, from the records alone."""
        seen, times = set(), 0
        for message in self.deployed():
            now = {each["order"] for each in message.get("orders", [])}
            times += order in now - seen
            seen |= now
        return times

    def start(self, *words):
        return subprocess.Popen([str(live.BUILD / "darkroom"), *words], env=self.fleet.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def order_id(self, text):
        return re.search(r"\(order ([0-9a-f]{32})\)", text).group(1)

    # ---- what serves

    def test_1_rollback_under_load(self):
        newest, old = max(m["version"] for m in self.versions()), 1
        self.fleet.command("models", "promote", "default", str(newest))
        requests = [(f"load-{i}", self.asked[i % len(self.asked)][1], []) for i in range(6000)]
        load = live.Publisher(self.fleet, "predictions.requests", requests, 800)
        load.start()
        time.sleep(2)
        began = time.time()
        said = self.fleet.command("models", "rollback", "default", "--to", f"v{old}")
        took = time.time() - began
        load.join()
        self.assertIsNone(load.error)
        self.fleet.wait_idle(30)
        self.assertIn(f"to version {old}", said.stdout)
        order = next(r for r in reversed(self.fleet.read("models.trained")) if b'"order"' in r.value)
        results = [(r, json.loads(r.value)) for r in self.fleet.read("predictions.results") if r.key.startswith(b"load-")]
        self.assertEqual(len(requests), len(results))
        self.assertEqual(1, max(collections.Counter(r.key for r, _ in results).values()))
        self.assertEqual({newest, old}, {m["version"] for _, m in results})
        first = min(r.time for r, m in results if m["version"] == old) - order.time
        last = max(r.time for r, m in results if m["version"] == newest) - order.time
        print(f"rollback under 800 requests/s: the first answer of the old version {first} ms after the order, the last of "
              f"the other {last} ms after it; the command took {took:.2f} s")
        self.assertLess(last, 1000)
        for partition in {r.partition for r, _ in results}:
            order_of = [m["version"] for r, m in sorted(((r, m) for r, m in results if r.partition == partition),
                                                        key=lambda each: each[0].offset)]
            self.assertEqual(1, sum(a != b for a, b in zip(order_of, order_of[1:])), "it went back and forth")

    def test_2_deploy_is_killed_in_the_middle(self):
        deploy, newest = self.fleet.workers["deploy"], max(m["version"] for m in self.versions())
        for round_ in range(4):
            target = 1 + (self.deployed()[-1]["version"] == 1) * (newest - 1)
            command = self.start("models", "promote", "default", str(target), "--wait", "60s")
            said = command.stderr.readline()
            time.sleep(random.Random(round_).random() * 0.05)
            deploy.kill()
            deploy.start()
            out, err = command.communicate(timeout=90)
            self.assertEqual(0, command.returncode, said + out + err)
            self.assertEqual(1, self.answers(self.order_id(said)))
            self.assertEqual(target, self.deployed()[-1]["version"])

    def test_3_the_command_is_killed_in_the_middle(self):
        self.fleet.command("models", "promote", "default", "2")
        command = self.start("models", "rollback", "default", "--to", "1")
        order = self.order_id(command.stderr.readline())
        command.kill()
        command.communicate()
        for _ in range(2):  # whether or not it was sent
            again = self.fleet.command("models", "rollback", "default", "--to", "1", "--order", order)
            self.assertIn("version 1", again.stdout)
        self.assertEqual(1, self.answers(order))

    def test_4_without_deploy(self):
        deploy = self.fleet.workers["deploy"]
        deploy.stop()
        late = self.fleet.command("models", "pin", "default", "--wait", "2s", check=False)
        self.assertEqual(3, late.returncode, late.stdout + late.stderr)
        order = self.order_id(late.stderr)
        self.assertIn(f"--order {order}", late.stderr.replace("\n", " "))
        deploy.start()
        live.wait_for("deploy to be ready", 60, deploy.ready)
        told = self.fleet.command("models", "pin", "default", "--order", order, "--wait", "60s")
        self.assertIn("is pinned", told.stdout)
        self.assertEqual(1, self.answers(order))
        self.fleet.command("models", "unpin", "default")

    def test_5_pinned(self):
        self.fleet.command("models", "promote", "default", "1", "--pin")
        before = self.deployed()[-1]
        self.publish(self.images[900:])
        after = self.deployed()[-1]
        self.assertGreater(after["judged"], before["judged"])
        self.assertEqual(1, after["version"])
        self.assertTrue(after["pinned"])
        self.assertIn("v1 pinned", self.fleet.command("status").stdout)
        self.assertIn("served, pinned", self.fleet.command("models", "list").stdout)
        self.assertIn("pinned no more", self.fleet.command("models", "unpin", "default").stdout)
        self.fleet.command("models", "promote", "default", str(after["judged"]))
        self.fleet.command("models", "rollback", "default")
        self.assertEqual(1, self.deployed()[-1]["version"])
        self.assertIn("rolled back", self.fleet.command("models", "show", "default", str(after["judged"])).stdout)

    def test_6_refused(self):
        newest = max(m["version"] for m in self.versions())
        self.fleet.command("models", "promote", "default", str(newest))
        for words, why in ((("promote", "default", "999"), "no version 999"), (("remove", "default", str(newest)), "serves"),
                           (("rollback", "nobody"), "no model"), (("remove", "default", "1"), None),
                           (("promote", "default", "1"), "are gone"), (("rollback", "default", "--to", "1"), "are gone")):
            run = self.fleet.command("models", *words, check=False)
            self.assertEqual(1 if why else 0, run.returncode, run.stdout + run.stderr)
            if why:
                self.assertIn(why, run.stderr)
        for words in (("promote", "default"), ("promote", "default", "x"), ("pin", "Not A Model")):
            self.assertEqual(2, self.fleet.command("models", *words, check=False).returncode)
        self.assertEqual([], self.fleet.read("models.trained.dlq"))

    # ---- lineage

    def test_7_from_an_answer_to_the_batches(self):
        self.fleet.send("predictions.requests", [("whose", self.asked[0][1], [])])
        self.fleet.wait_idle(30)
        answer = next(m for m in self.fleet.messages("predictions.results") if m["id"] == "whose")
        found = json.loads(self.fleet.command("models", "find", answer["artifact"][:10], "--json").stdout)
        self.assertEqual((answer["model"], answer["version"], "artifact"), (found["model"], found["version"], found["what"]))
        lines = self.fleet.command("models", "lineage", "default", f"v{answer['version']}", "--json").stdout.splitlines()
        chain = [json.loads(line) for line in lines]
        self.assertEqual(list(range(answer["version"], 0, -1)), [each["version"] for each in chain])
        records = {json.loads(r.value)["batch"]: r for r in self.fleet.read("batches")}
        batches = {id: len(json.loads(r.value)["images"]) for id, r in records.items()}
        learned = [batch for each in chain for batch in each["batches"]]
        self.assertEqual(len(learned), len({batch["id"] for batch in learned}))
        for batch in learned:
            self.assertEqual(batches[batch["id"]], batch["images"])
            record = records[batch["id"]]
            self.assertEqual((record.partition, record.offset), (batch["partition"], batch["offset"]))
        table = self.fleet.command("models", "lineage", "default").stdout
        self.assertIn(learned[0]["id"][:12], table)
        self.assertEqual(1, self.fleet.command("models", "find", "0123456789abcdef", check=False).returncode)

    def test_7_made_again(self):
        """Five versions, one of which met a label that none before it knew."""
        known = {label for label, _ in self.images}
        for images in ([("other", value) for _, value in self.more[:70]], self.more[70:140], self.more[140:]):
            self.publish(images)
        newest = max(m["version"] for m in self.versions())
        labels = [next(m["labels"] for m in self.versions() if m["version"] == version)
                  for version in range(newest - 5, newest + 1)]
        self.assertIn((len(known), len(known) + 1), list(zip(labels, labels[1:])))
        for version in range(newest - 4, newest + 1):
            self.assertIn("is the same bit for bit", self.fleet.command("models", "verify", "default", str(version)).stdout)

    # ---- the store

    def remove(self, *words):
        return self.fleet.command("images", "remove", *words)

    def test_8_images_are_removed(self):
        rows = lambda: len(self.fleet.rows()[0])
        before = rows()
        sevens = {value for label, value in self.images if label == "7"}
        label, one = next((label, value) for label, value in self.images if label != "7")
        name = hashlib.sha256(one).hexdigest()
        self.assertIn("would be removed", self.remove("--id", name, "--source", "images").stdout)
        self.assertEqual(before, rows())
        self.assertIn("1 image of", self.remove("--id", name, "--source", "images", "--yes").stdout)
        self.assertIn("no such image", self.remove("--id", name, "--source", "images", "--yes").stderr)
        self.assertEqual(before - 1, rows())
        count = int(re.match(r"\d+", self.remove("--label", "7").stdout).group())
        self.assertGreaterEqual(count, len(sevens))
        self.assertTrue(self.remove("--label", "7", "--yes").stdout.startswith(f"{count} images"))
        stored, index = self.fleet.rows()
        self.assertEqual((before - 1 - count, stored), (len(stored), index))
        exported = self.fleet.command("images", "export", "--csv").stdout.splitlines()[1:]
        self.assertEqual(len(stored), len(exported))
        self.assertFalse(any(line.startswith("7,") for line in exported))
        versions = len(self.versions())
        self.publish([(label, one), *(("7", value) for value in sorted(sevens)[:5])])  # stored again, and learned again
        self.assertEqual(len(stored) + 6, rows())
        self.assertGreater(len(self.versions()), versions)

    def test_9_removed_on_the_way(self):
        """A batch whose images are gone when train comes to it: they are missing, and it goes on."""
        train = self.fleet.workers["train"]
        train.stop()
        images = live.digits(60, self.scratch / "few")
        self.fleet.send("images", [(f"late-{i}", value, [("label", "late")]) for i, (_, value) in enumerate(images)])
        live.wait_for("the images to be in a batch", 30,
                      lambda: sum(len(m["images"]) for m in self.fleet.messages("batches")
                                  if m["images"][0]["label"] == "late") == len(images))
        self.remove("--label", "late", "--yes")
        train.start()
        self.fleet.wait_idle(60)
        self.assertEqual(len(images), self.versions()[-1]["missing"])


if __name__ == "__main__":
    unittest.main()
