#!/usr/bin/env python3
"""Dead letters that people work with: listed, shown, sent back and dropped by `darkroom dlq`. Sending back is
exactly-once: ten thousand letters, the command killed with -9 again and again, each is there once."""

import collections
import json
import random
import re
import signal
import subprocess
import time
import unittest

import confluent_kafka
import confluent_kafka.admin as admin

import live


def listed(fleet, *words):
    """`darkroom dlq list --json`: letters by name."""
    lines = fleet.command("dlq", "list", "--json", *words).stdout.splitlines()
    return {letter["letter"]: letter for letter in map(json.loads, lines)}


def limit(fleet, topic, size):
    """The largest record that a topic takes, as an operator would set it."""
    entry = admin.ConfigEntry("max.message.bytes", str(size), incremental_operation=admin.AlterConfigOpType.SET)
    resource = admin.ConfigResource(admin.ResourceType.TOPIC, fleet.topic(topic), incremental_configs=[entry])
    for future in fleet.admin.incremental_alter_configs([resource]).values():
        future.result(20)
    def told():
        (future,) = fleet.admin.describe_configs([admin.ConfigResource(admin.ResourceType.TOPIC, fleet.topic(topic))]).values()
        return future.result(20)["max.message.bytes"].value == str(size)
    live.wait_for("the broker to know the limit", 20, told)


class Work(live.LiveTest):
    """What is refused is found, looked at, put right, sent back or dropped."""

    def refused(self, topic, records, letters):
        """Sends records, and returns the letters that come of them, by key."""
        self.fleet.send(topic, records)
        keys = {key.decode() for key, _, _ in records}
        def ask():
            found = {letter["key"]: letter for letter in listed(self.fleet, topic).values() if letter["key"] in keys}
            return found if len(found) == letters else None
        return live.wait_for(f"{letters} dead letters of {topic}", 20, ask)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = [value for _, value in live.digits(20, cls.scratch / "digits")]

    def test_list_and_show_and_drop(self):
        hostile = b"\x1b[2J\xff"
        found = self.refused("images", [
            (b"a-text", b"this is no picture", [("label", b"1"), ("x-\x1b[31m", hostile)]),
            (b"a-label", self.good[0], [("label", b"")]),
            (b"a-model", self.good[0], [("label", b"1"), ("ce_model", b"No Such Name")])], 3)
        self.assertEqual({"a-text": "not-png", "a-label": "bad-label", "a-model": "bad-model"},
                         {key: letter["reason"] for key, letter in found.items()})
        name = found["a-text"]["letter"]
        for reason in ("not-png", "bad-label", "bad-model"):
            counted = re.compile(f'darkroom_dead_letters_total{{stage="preprocess",reason="{reason}"}} [1-9]')
            live.wait_for(f"{reason} to be counted", 10,
                          lambda: counted.search(self.fleet.workers["preprocess"].probe("/metrics")[1]))
        for letter in found.values():
            self.assertEqual(("open", "preprocess", 0, 1), tuple(letter[x] for x in ("state", "stage", "replays", "attempts")))

        def names(*words):
            mine = {letter["letter"]: key for key, letter in found.items()}
            return {mine[name] for name in listed(self.fleet, *words) if name in mine}
        self.assertEqual({"a-text", "a-label"}, names("images", "--reason", "not-png,bad-label"))
        self.assertEqual({"a-text"}, names(name))
        self.assertEqual(set(found), names("--stage", "preprocess", "--since", "5m"))
        self.assertEqual(set(), names("--stage", "store"))
        self.assertEqual(set(), names("--until", "5m"))
        self.assertEqual(set(), names("images.prepared"))

        table = self.fleet.command("dlq", "list", "images").stdout
        self.assertIn(name, table)
        shown = self.fleet.command("dlq", "show", name)
        self.assertIn("x-\\x1b[31m: \\x1b[2J\\xff", shown.stdout)
        self.assertIn("dlq.reason: not-png", shown.stdout)
        self.assertNotIn("\x1b", shown.stdout + shown.stderr + table)
        path = self.scratch / "value"
        self.fleet.command("dlq", "show", "--value", str(path), found["a-label"]["letter"])
        self.assertEqual(self.good[0], path.read_bytes())

        self.assertEqual(2, self.fleet.command("dlq", "drop", check=False).returncode)
        self.assertIn("dropped 1 letter", self.fleet.command("dlq", "drop", "images", "--reason", "not-png").stdout)
        self.assertNotIn(name, listed(self.fleet))
        self.assertEqual("dropped", listed(self.fleet, "--done")[name]["state"])
        self.assertIn("dropped 0 letters", self.fleet.command("dlq", "drop", name).stdout)
        self.assertIn("replayed 0 letters", self.fleet.command("dlq", "replay", name).stdout)
        self.assertIn("dlq.reason: not-png", self.fleet.command("dlq", "show", name).stdout)
        self.fleet.command("dlq", "drop", *(found[key]["letter"] for key in ("a-label", "a-model")))
        self.assertEqual(set(), names())

    def test_a_wrong_label_is_corrected(self):
        letter = self.refused("images", [(b"wrong", self.good[1], [("label", b"\x1b[2J"), ("x-mine", b"1")])], 1)["wrong"]
        self.assertEqual(("bad-label", 0), (letter["reason"], letter["replays"]))

        # As it was it is refused as it was; the new letter has the trail of both.
        for replays in (1, 2):
            self.assertIn("replayed 1 letter", self.fleet.command("dlq", "replay", letter["letter"]).stdout)
            def ask():
                return next((x for x in listed(self.fleet, "images").values() if x["key"] == "wrong"), None)
            again = live.wait_for("the letter to come back", 20, ask)
            self.assertEqual((replays, "bad-label"), (again["replays"], again["reason"]))
            letter = again
        trail, = [r for r in self.fleet.read("images.dlq") if f"images.dlq/{r.partition}/{r.offset}" == letter["letter"]]
        counted = collections.Counter(name for name, _ in trail.headers)
        self.assertEqual((3, 2, 3), (counted["dlq.reason"], counted["dlq.replays"], counted["dlq.offset"]))
        self.assertEqual([("label", b"\x1b[2J"), ("x-mine", b"1")], trail.headers[:2])
        self.assertEqual((b"wrong", self.good[1]), (trail.key, trail.value))

        self.assertEqual(2, self.fleet.command("dlq", "replay", "--label", "7", check=False).returncode)
        self.fleet.command("dlq", "replay", "--label", "7", letter["letter"])
        self.fleet.wait_idle(60)
        stored = [message for message in self.fleet.messages("images.stored") if message["id"] == "wrong"]
        self.assertEqual(["7"], [message["label"] for message in stored])
        batched = [image["row"] for batch in self.fleet.messages("batches") for image in batch["images"]]
        self.assertEqual(1, batched.count(stored[0]["row"]))

    def test_a_row_that_was_written_is_batched_once(self):
        """store writes rows, what it has to tell is refused by the broker, and the records with it; with the origin
        in the letters' headers, store knows its own row again, and tells. A row that was corrected before the
        letter came back stays corrected."""
        def restart():
            self.fleet.workers["store"].stop()
            live.wait_for("store to be ready", 30, self.fleet.workers["store"].start().ready)
        limit(self.fleet, "images.stored", 100)
        restart()
        before = self.fleet.rows()[0]
        self.fleet.send("images", [(b"late", self.good[2], [("label", b"7")]), (b"corrected", self.good[3], [("label", b"7")])])
        def ask():
            letters = [x for x in listed(self.fleet, "images.prepared").values() if x["key"] in ("late", "corrected")]
            return letters if len(letters) == 2 else None
        for letter in live.wait_for("the prepared records to be refused", 30, ask):
            self.assertEqual(("too-long", "store"), (letter["reason"], letter["stage"]))
        self.fleet.wait_idle(30)
        rows, index = self.fleet.rows()
        self.assertEqual(rows, index)
        self.assertEqual(2, len(rows - before))
        self.assertEqual(set(), (rows - before) & {message["row"] for message in self.fleet.messages("images.stored")})

        limit(self.fleet, "images.stored", 1 << 20)
        restart()
        self.fleet.send("images", [(b"corrected", self.good[3], [("label", b"8")])])
        self.fleet.wait_idle(60)
        table = self.fleet.command("images", "export", "--csv").stdout
        self.assertIn("replayed 2 letters", self.fleet.command("dlq", "replay", "images.prepared").stdout)
        self.assertIn("replayed 0 letters", self.fleet.command("dlq", "replay", "images.prepared").stdout)
        self.fleet.wait_idle(60)
        stored = [message for message in self.fleet.messages("images.stored") if message["row"] in rows - before]
        self.assertEqual([("corrected", "7", 1), ("corrected", "8", 2), ("late", "7", 1)],
                         sorted((m["id"], m["label"], m["revision"]) for m in stored))
        batched = collections.Counter((image["row"], image["revision"]) for batch in self.fleet.messages("batches")
                                      for image in batch["images"])
        self.assertEqual([1, 1, 1], [batched[m["row"], m["revision"]] for m in stored])
        self.assertEqual(table, self.fleet.command("images", "export", "--csv").stdout)
        self.assertEqual({}, listed(self.fleet, "images.prepared"))


class Once(unittest.TestCase):
    """Letters by the thousand in front of a command that dies; no stage runs, so what was sent back can be counted."""

    def setUp(self):
        self.fleet = live.Fleet(stages=(), name="dlq")
        self.addCleanup(self.fleet.close)
        self.random = random.Random(4)

    def letters(self, count):
        self.fleet.send("images.dlq", ((f"letter-{i}".encode(), b"value %d" % i, [
            ("x-mine", b"%d" % i), ("dlq.reason", b"not-png" if i % 2 else b"bad-label"), ("dlq.text", b"no good"),
            ("dlq.stage", b"preprocess"), ("dlq.topic", self.fleet.topic("images").encode()), ("dlq.partition", b"0"),
            ("dlq.offset", b"%d" % i), ("dlq.time", b"2026-11-23T10:00:00.000Z")]) for i in range(count)))

    def start(self, *words):
        return subprocess.Popen([str(live.BUILD / "darkroom"), "dlq", *words], env=self.fleet.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end(self, topic):
        def ask():
            try:
                return [high for _, high in self.fleet.ends(topic).values()]
            except confluent_kafka.KafkaException:  # the topic is new, and not every broker knows its leaders
                return None
        return sum(live.wait_for(f"the end of {topic}", 20, ask, 0.002))

    def begun(self, process, topic, by):
        """Waits until the topic has grown by so many records, or the process has ended."""
        before = self.end(topic)
        live.wait_for("the command to get on", 30, lambda: self.end(topic) - before >= by or process.poll() is not None, 0.002)

    def counted(self, count):
        """Every letter is on the images topic once, as it was, with its trail."""
        records = self.fleet.read("images")
        times = collections.Counter(record.key for record in records)
        lost = count - len(times)
        doubled = sum(n - 1 for n in times.values())
        for record in records:
            i = int(record.key.split(b"-")[1])
            self.assertEqual((b"value %d" % i, ("x-mine", b"%d" % i)), (record.value, record.headers[0]))
            self.assertEqual(b"1", dict(record.headers)["dlq.replays"])
        return lost, doubled

    def test_replay_of_ten_thousand_killed_half_way(self):
        count, begun, kills = 10000, [], 0
        self.letters(count)
        while kills < 8:
            # By turns at full speed, when a kill meets a transaction under way, and slowly enough to be hit mid-way.
            process = self.start("replay", *(("--rate", "4000") if kills % 2 else ()))
            self.begun(process, "images", self.random.randrange(1, 800))
            time.sleep(self.random.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            output, _ = process.communicate()
            if process.returncode == 0:
                break
            kills += 1
            begun.append(self.end("images"))  # with what was aborted, and with markers
        rest = int(re.search(r"replayed ([\d,]+) letters", self.fleet.command("dlq", "replay").stdout)[1].replace(",", ""))
        lost, doubled = self.counted(count)
        print(f"{count} letters, killed {kills} times, when {begun} offsets were taken, {rest} sent by the last: "
              f"{lost} lost, {doubled} doubled")
        self.assertEqual((0, 0), (lost, doubled))
        self.assertGreaterEqual(kills, 5)
        self.assertLess(rest, count)
        self.assertIn("replayed 0 letters", self.fleet.command("dlq", "replay").stdout)
        self.assertEqual({}, listed(self.fleet))
        self.assertEqual(count, sum(l["state"] == "replayed" for l in listed(self.fleet, "--done").values()))

    def test_a_command_that_slept_does_nothing_twice(self):
        count = 3000
        self.letters(count)
        sleeper = self.start("replay", "--rate", "800")
        self.addCleanup(sleeper.kill)
        self.begun(sleeper, "images", 200)
        sleeper.send_signal(signal.SIGSTOP)
        self.fleet.command("dlq", "replay")
        self.assertEqual((0, 0), self.counted(count))
        sleeper.send_signal(signal.SIGCONT)
        output, _ = sleeper.communicate(timeout=60)
        self.assertEqual((1, True), (sleeper.returncode, "the same command goes on" in output), output)
        self.assertEqual((0, 0), self.counted(count))

    def test_drop_killed_half_way_and_filters(self):
        count = 2000
        self.letters(count)
        process = self.start("drop", "--reason", "not-png", "--rate", "600")
        self.begun(process, "images.dlq", 200)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertNotEqual(0, process.returncode)
        self.fleet.command("dlq", "drop", "--reason", "not-png")
        states = collections.Counter((l["reason"], l["state"]) for l in listed(self.fleet, "--done").values())
        self.assertEqual({("not-png", "dropped"): count // 2, ("bad-label", "open"): count // 2}, states)
        marks = [record for record in self.fleet.read("images.dlq") if record.value is None]
        self.assertEqual(count // 2, len(marks))
        self.assertIn("replayed 300 letters", self.fleet.command("dlq", "replay", "--limit", "300").stdout)
        interrupted = self.start("replay", "--rate", "100")
        self.begun(interrupted, "images", 20)
        interrupted.send_signal(signal.SIGINT)
        output, _ = interrupted.communicate(timeout=20)
        self.assertEqual(1, interrupted.returncode, output)
        self.assertIn("interrupted: the same command goes on", output)
        self.fleet.command("dlq", "replay")
        self.assertEqual({2 * i for i in range(count // 2)}, {int(r.key.split(b"-")[1]) for r in self.fleet.read("images")})
        self.assertEqual(count // 2, len(self.fleet.read("images")))

    def test_what_cannot_go_back_stays(self):
        """A letter whose record was never kept, and one that the topic does not take with its trail."""
        limit(self.fleet, "images", 2000)
        trail = [("dlq.reason", b"too-long"), ("dlq.time", b"2026-11-23T10:00:00.000Z")]
        self.fleet.send("images.dlq", [(None, None, trail + [("dlq.left-out", b"key, value and headers")]),
                                       (b"long", b"x" * 1800, trail), (b"fine", b"x", trail), (b"fine too", None, trail)])
        run = self.fleet.command("dlq", "replay", check=False)
        self.assertEqual(1, run.returncode)
        self.assertIn("replayed 2 letters; 2 could not be", run.stdout)
        self.assertEqual([(b"fine", b"x"), (b"fine too", None)], sorted((r.key, r.value) for r in self.fleet.read("images")))
        self.assertEqual(["images.dlq/0/0", "images.dlq/0/1"], sorted(listed(self.fleet)))

    def test_no_topics_no_broker_wrong_words(self):
        environment = {**self.fleet.environment, "DARKROOM_PREFIX": "nobody."}
        run = subprocess.run([str(live.BUILD / "darkroom"), "dlq", "list"], env=environment, text=True, capture_output=True, timeout=60)
        self.assertEqual((1, True), (run.returncode, "darkroom topics create" in run.stderr), run.stderr)
        for words in (("show", "images.dlq"), ("list", "models.deployed"), ("list", "--reason", "bad-lable"),
                      ("replay", "--since", "yesterday"), ("drop",), ("show", "images.dlq/0/0", "images.dlq/0/1")):
            self.assertEqual(2, self.fleet.command("dlq", *words, check=False).returncode, words)
        run = self.fleet.command("dlq", "show", "images.dlq/0/99", check=False)
        self.assertEqual((1, True), (run.returncode, "no letter" in run.stderr), run.stderr)
        self.assertEqual("", self.fleet.command("dlq", "list").stdout)


if __name__ == "__main__":
    unittest.main()
