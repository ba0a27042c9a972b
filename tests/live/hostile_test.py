#!/usr/bin/env python3
"""Names that are hostile to keys of Redis, CSV, JSON, logs and terminals, records that are large or odd in
every part, through the whole fleet and out of every command."""

import csv
import io
import json
import re
import struct
import unittest
import zlib

import confluent_kafka
import confluent_kafka.admin

import live

# Clean text, so it is taken as it is.
CLEAN = ["a b", "*", "?[a-z]", "{default}:x", "darkroom.image:{default}:0", "\\", '"', '","row":"', "'", "`id`", "$(id)",
         "%s%n%p", "../../etc/passwd", "=1+1", "@SUM(A1)", "+1", "-1", "a,b;c", "</script>", "\u202egnp", "\ufeffbom",
         "\U0001f4f7", "\u00e9", "null", "NaN", " ", "\\u0000", "\\x00", "FLUSHALL", "$5", "*1", "x" * 128, " x ", '""']
# Not clean: refused by name.
DIRTY = [b"\x1b[2J", b"\x1b]0;title\x07", b"\x9b2J", b"\xc2\x9b2J", b"a\r\nb", b"\x00", b"\xff\xfe", b"\x7f", b"y" * 100000, b""]

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # but the line's end


def picture(number):
    """A PNG of its own for every number."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + bytes((number * 7 + x * y) % 256 for x in range(28)) for y in range(28))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Hostile(live.LiveTest):
    settings = {"log_format": "json", "log_level": "debug"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fleet = cls.fleet
        fleet.send("images", [(f"key-{i}", picture(i), [("ce_id", name), ("label", name), ("filename", name)])
                              for i, name in enumerate(CLEAN)])
        fleet.send("images", [(b"dirty-%d" % i, picture(100 + i), [("ce_id", name), ("label", b"l")])
                              for i, name in enumerate(DIRTY)])
        fleet.send("images", [(b"label-%d" % i, picture(200 + i), [("label", name)]) for i, name in enumerate(DIRTY)])
        fleet.wait_idle(90)
        fleet.send("predictions.requests", [(b"ask-%d" % i, picture(i), [("ce_id", name)]) for i, name in enumerate(CLEAN)])
        fleet.send("predictions.requests", [(b"odd-%d" % i, picture(i), [("ce_id", name)]) for i, name in enumerate(DIRTY)])
        fleet.wait_idle(60)

    def results(self):
        return {result.key: json.loads(result.value) for result in self.fleet.read("predictions.results")}

    def test_every_image_is_stored_under_a_plain_key(self):
        rows, index = self.fleet.rows()
        self.assertEqual(len(CLEAN), len(rows))
        self.assertEqual(rows, index)
        plain = re.compile(re.escape(self.fleet.prefix) +
                           r"(image:NAME:[0-9a-f]{32}|images:NAME|models|artifact:[0-9a-f]{64}|model:NAME:[a-z]+)"
                           .replace("NAME", r"\{(default|named)\}"))
        for key in self.fleet.redis.scan_iter(match=self.fleet.prefix + "*", count=1000):
            self.assertTrue(plain.fullmatch(key.decode()), key)

    def test_messages_say_the_names_as_they_were(self):
        stored = [message for message in self.fleet.messages("images.stored") if message["model"] == "default"]
        self.assertEqual(sorted(CLEAN), sorted(message["id"] for message in stored))
        self.assertEqual(sorted(CLEAN), sorted(message["label"] for message in stored))
        self.assertEqual(sorted(CLEAN), sorted({image["label"] for batch in self.fleet.messages("batches")
                                                for image in batch["images"] if batch["model"] == "default"}))

    def test_csv_gives_the_names_back(self):
        text = self.fleet.command("images", "export", "--csv").stdout
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        self.assertEqual(["label", "time", "filename", "px0"], rows[0][:4])
        self.assertEqual({3 + 28 * 28}, {len(row) for row in rows})
        self.assertEqual(sorted(CLEAN), sorted(row[0] for row in rows[1:]))
        self.assertEqual(sorted(CLEAN), sorted(row[2] for row in rows[1:]))

    def test_what_is_not_clean_is_a_dead_letter_as_it_came(self):
        letters = {letter.key: letter for letter in self.fleet.read("images.dlq")}
        self.assertEqual(2 * len(DIRTY), len(letters))
        for i, name in enumerate(DIRTY):
            for key, reason, header in ((b"dirty-%d", b"bad-id", ("ce_id", name)), (b"label-%d", b"bad-label", ("label", name))):
                letter = letters[key % i]
                self.assertEqual(header, letter.headers[0])
                self.assertEqual(reason, dict(letter.headers)["dlq.reason"])

    def test_every_request_has_one_answer(self):
        results = self.results()
        for i, name in enumerate(CLEAN):
            self.assertEqual(name, results[b"ask-%d" % i]["id"])
            self.assertAlmostEqual(1, sum(results[b"ask-%d" % i]["probabilities"].values()), places=3)
        for i in range(len(DIRTY)):
            self.assertEqual("bad-id", results[b"odd-%d" % i]["error"]["reason"])
        keys = [result.key for result in self.fleet.read("predictions.results")]
        self.assertEqual(len(keys), len(set(keys)))

    def test_commands_show_no_control_character(self):
        count = str(len(CLEAN) + len(DIRTY))  # and what other tests asked
        for words in (("results", "--from-beginning", "--limit", count), ("results", "--from-beginning", "--json", "--limit", count),
                      ("images", "export", "--csv"), ("models", "list"), ("models", "show", "default", "1"), ("status",)):
            run = self.fleet.command(*words)
            text = run.stdout.replace("\r\n", "\n") if "--csv" in words else run.stdout
            self.assertIsNone(CONTROLS.search(text + run.stderr), words)
            if "--json" in words:
                self.assertEqual(int(count), len([json.loads(line) for line in run.stdout.splitlines()]))

    def test_logs_are_lines_of_json(self):
        for worker in self.fleet.workers.values():
            for line in worker.log.read_bytes().splitlines():
                text = line.decode()  # fails where it is no UTF-8
                self.assertIsNone(CONTROLS.search(text), text)
                self.assertIn("msg", json.loads(text))

    def test_messages_that_are_none_are_dead_letters_with_their_reason(self):
        hexes, row = "0123456789abcdef" * 4, "0123456789abcdef" * 2
        good = {
            "images.stored": {"schema": 1, "id": "i", "source": "s", "row": row, "revision": 1, "model": "m", "label": "l",
                              "split": "train", "pixels": hexes},
            "batches": {"schema": 1, "batch": hexes, "model": "m",
                        "images": [{"row": row, "revision": 1, "label": "l", "split": "train"}]},
            "models.trained": {"schema": 1, "model": "m", "version": 1, "parent": 0, "artifact": hexes, "lineage": hexes,
                               "batches": [hexes], "images": 1, "presentations": 1, "labels": 1,
                               "training": {"images": 0}, "evaluation": {"images": 0}, "time": "2026-01-01T00:00:00Z"}}
        for topic, message in good.items():
            text = json.dumps(message)
            bad = {
                b"tombstone": (None, "empty"), b"empty": (b"", "empty"), b"foreign": (b"\x00\xff", "bad-message"),
                b"cut": (text[:-1].encode(), "bad-message"), b"behind": ((text + "x").encode(), "bad-message"),
                b"deep": ((text[:-1] + ',"x":' + "[" * 100000 + "]" * 100000 + "}").encode(), "bad-message"),
                b"twice": ((text[:-1] + ',"model":"m"}').encode(), "bad-message"),
                b"nan": ((text[:-1] + ',"x":NaN}').encode(), "bad-message"),
                b"no-utf-8": (text[:-1].encode() + b',"x":"\xff"}', "bad-message"),
                b"nul": (text[:-1].encode() + b',"x":"\x00"}', "bad-message"),
                b"list": (f"[{text}]".encode(), "bad-message"), b"number": (b"1e999", "bad-message"),
                b"later": (json.dumps({**message, "schema": 2}).encode(), "bad-message"),
                b"huge": (json.dumps({**message, "schema": 10**400}).encode(), "bad-message"),
                b"wrong": (json.dumps({**message, "model": ["m"]}).encode(), "bad-message"),
                b"hostile": (json.dumps({**message, "model": "a}:{b"}).encode(), "bad-model"),
            }
            self.fleet.send(topic, [(key, value, []) for key, (value, _) in bad.items()])
            letters = live.wait_for(f"{topic}.dlq", 40, lambda: (lambda all: len(all) == len(bad) and all)(
                [r for r in self.fleet.read(topic + ".dlq") if r.key in bad]))
            self.assertEqual({key: reason for key, (_, reason) in bad.items()},
                             {r.key: dict(r.headers)["dlq.reason"].decode() for r in letters})
            self.assertEqual({key: value for key, (value, _) in bad.items()}, {r.key: r.value for r in letters})
        self.fleet.wait_idle(30)

    def test_what_is_served_goes_on_beside_messages_that_are_none(self):
        self.fleet.send("models.deployed", [(b"default", b"{", []), (b"default", b'{"schema":1}', []), (b"", b"x", []),
                                            (b"nobody", None, []), (b"\xff", None, [])])
        self.fleet.send("predictions.requests", [(b"beside", picture(1), [])])
        result, = live.wait_for("the answer", 30, lambda: [r for r in self.fleet.read("predictions.results")
                                                           if r.key == b"beside"])
        self.assertIn("label", json.loads(result.value))

    def test_files_with_hostile_names_are_published(self):
        folder = self.scratch / "named"
        for i, name in enumerate(["=1+1", "a b", "%n%s", "\x1b[2J", "\u202egnp", "-rf"]):
            (folder / name).mkdir(parents=True)
            (folder / name / f"{name}.png").write_bytes(picture(300 + i))
        run = self.fleet.command("publish", "--model", "named", str(folder), check=False)
        self.assertEqual(1, run.returncode)  # one folder's name is no label
        self.assertIn("5 images", run.stdout)
        self.assertIn("\\x1b[2J", run.stderr)
        self.assertIsNone(CONTROLS.search(run.stdout + run.stderr))


class Large(live.LiveTest):
    """Records that are large in a part: each has its answer, and the next one is not held up."""

    stages = ("preprocess", "predict")

    def ask(self, key, value, headers):
        self.fleet.send("predictions.requests", [(key, value, headers)], self.wide)
        result, = live.wait_for("the answer", 30, lambda: [r for r in self.fleet.read("predictions.results") if r.key == key])
        return json.loads(result.value), result

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.wide = confluent_kafka.Producer({"bootstrap.servers": live.KAFKA, "message.max.bytes": 17 << 20})

    def test_a_request_with_a_header_larger_than_an_answer_may_be(self):
        for name in ("traceparent", "correlation-id", "x-mine", "ce_subject", "ce_label", "reply-to"):
            answer, result = self.ask(b"large-" + name.encode(), picture(1), [(name, b"h" * (2 << 20))])
            self.assertIn("error", answer)
            self.assertLess(sum(len(value) for _, value in result.headers), 10000)

    def test_a_request_with_an_id_or_model_larger_than_an_answer_may_be(self):
        for name, reason in (("ce_id", "bad-id"), ("ce_model", "bad-model"), ("ce_source", "bad-event")):
            answer, _ = self.ask(b"large-" + name.encode(), picture(1), [(name, b"\x01" * (2 << 20))])
            self.assertEqual(reason, answer["error"]["reason"])

    def test_many_headers(self):
        answer, _ = self.ask(b"many", picture(1), [(f"h{i}", b"\xff") for i in range(20000)] + [("traceparent", b"t")] * 1000)
        self.assertEqual("no-model", answer["error"]["reason"])

    def test_an_image_with_odd_headers_goes_on(self):
        self.fleet.send("images", [
            (b"odd", picture(1), [("label", b"1"), ("label", b"\xff"), ("\u00e9\n", None), ("", b""), ("x" * 30000, b"\x00")]),
            (b"\xff\x00", picture(2), [("label", None)]),
            (None, picture(3), []), (b"", picture(4), []),
            (b"k" * 1000, picture(5), [])], self.wide)
        self.fleet.wait_idle(30)
        prepared = {dict(r.headers)["ce_id"] for r in self.fleet.read("images.prepared")}
        self.assertLessEqual({b"odd", b"0xff00"}, prepared)
        self.assertEqual(4, len(prepared))
        letter, = [r for r in self.fleet.read("images.dlq") if r.key == b"k" * 1000]
        self.assertEqual(b"bad-id", dict(letter.headers)["dlq.reason"])

    def test_a_file_larger_than_a_topic_takes_is_an_error_at_once(self):
        folder = self.scratch / "large"
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "huge.png").write_bytes(picture(1) + bytes(17 << 20))
        (folder / "1" / "large.png").write_bytes(picture(2) + bytes(200000))
        (folder / "1" / "small.png").write_bytes(picture(3))
        resource = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.ConfigResource.Type.TOPIC, self.fleet.topic("images"))
        resource.add_incremental_config(confluent_kafka.admin.ConfigEntry(
            "max.message.bytes", "100000", incremental_operation=confluent_kafka.admin.AlterConfigOpType.SET))
        self.fleet.admin.incremental_alter_configs([resource])[resource].result(10)
        run = self.fleet.command("publish", str(folder), check=False)
        self.assertEqual(1, run.returncode)
        self.assertIn("published 1 images", run.stdout)
        self.assertIn("2 failed", run.stdout)
        self.assertRegex(run.stderr, r"huge\.png: .*16")
        self.assertRegex(run.stderr, r"large\.png: .*")


if __name__ == "__main__":
    unittest.main()
