#!/usr/bin/env python3
"""Bad input: what a training stage refuses is in its dead-letter topic byte for byte with the reason, what
predict refuses gets an error result, and the rest go on."""

import json
import struct
import unittest
import zlib

import live


def bomb(side=30000):
    """A small file that says it is side x side pixels."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(bytes(100000))) + chunk(b"IEND", b""))


class Refused(live.LiveTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = live.digits(300, cls.scratch / "digits")
        whole = cls.good[0][1]
        cls.bad = {  # key -> value, headers, reason
            b"truncated": (whole[:len(whole) // 2], [("label", b"1"), ("x-mine", b"\x00\xff"), ("x-mine", b"2")], "broken-image"),
            b"text": (b"this is no picture", [("label", b"1")], "not-png"),
            b"empty": (b"", [("label", b"1")], "empty"),
            b"tombstone": (None, [("label", b"1"), ("x-null", None)], "empty"),
            b"bomb": (bomb(), [("label", b"1")], "too-large"),
            b"label": (whole, [("label", b"")], "bad-label"),
            b"model": (whole, [("label", b"1"), ("ce_model", b"No Such Name")], "bad-model"),
        }
        bad = [(key, value, headers) for key, (value, headers, _) in cls.bad.items()]
        good = [(f"digit-{i}", value, [("label", label)]) for i, (label, value) in enumerate(cls.good)]
        cls.fleet.send("images", good[:150] + bad + good[150:])
        cls.fleet.wait_idle(60)
        asked = [(b"ask-" + key, value, headers) for key, (value, headers, _) in cls.bad.items() if key != b"label"]
        cls.fleet.send("predictions.requests", [("before", whole, [])] + asked + [("after", whole, [])])
        cls.fleet.wait_idle(30)
        cls.letters = {letter.key: letter for letter in cls.fleet.read("images.dlq")}
        cls.results = {result.key: json.loads(result.value) for result in cls.fleet.read("predictions.results")}

    def test_each_has_one_dead_letter_with_its_reason(self):
        self.assertEqual(sorted(self.bad), sorted(letter.key for letter in self.fleet.read("images.dlq")))
        said = {key: dict(letter.headers).get("dlq.reason", b"").decode() for key, letter in self.letters.items()}
        self.assertEqual({key: reason for key, (_, _, reason) in self.bad.items()}, said)

    def test_dead_letters_are_as_they_came(self):
        for key, (value, headers, _) in self.bad.items():
            letter = self.letters[key]
            self.assertEqual(value, letter.value, key)
            self.assertEqual(headers, letter.headers[:len(headers)], key)
            self.assertTrue(all(name.startswith("dlq.") for name, _ in letter.headers[len(headers):]), letter.headers)

    def test_the_rest_went_on(self):
        self.assertEqual(len(self.good), len(self.fleet.rows()[0]))

    def test_requests_get_error_results(self):
        wanted = {b"ask-" + key: reason for key, (_, _, reason) in self.bad.items() if key != b"label"}
        self.assertEqual(wanted, {key: result["error"]["reason"] for key, result in self.results.items()
                                  if key.startswith(b"ask-")})

    def test_good_requests_among_them_are_answered(self):
        for key in (b"before", b"after"):
            self.assertIn("label", self.results[key])

    def test_an_unknown_model_is_an_error_at_once(self):
        self.fleet.send("predictions.requests", [("unknown", self.good[0][1], [("ce_model", b"nobody")])])
        result, = live.wait_for("the result", 20, lambda: [r for r in self.fleet.read("predictions.results")
                                                           if r.key == b"unknown"])
        self.assertEqual("no-model", json.loads(result.value)["error"]["reason"])

    def test_an_expired_request_is_an_error(self):
        self.fleet.send("predictions.requests",
                        [("late", self.good[0][1], [("ce_expirytime", b"2020-01-01T00:00:00Z")])])
        result, = live.wait_for("the result", 20, lambda: [r for r in self.fleet.read("predictions.results")
                                                           if r.key == b"late"])
        self.assertEqual("expired", json.loads(result.value)["error"]["reason"])

    def test_later_stages_bury_foreign_messages(self):
        for topic in ("images.prepared", "images.stored", "batches", "models.trained"):
            self.fleet.send(topic, [(b"foreign", b"\x00 no message of ours", [("x", b"y")])])
        for topic in ("images.prepared", "images.stored", "batches", "models.trained"):
            letter, = live.wait_for(f"{topic}.dlq", 20, lambda: self.fleet.read(topic + ".dlq"))
            self.assertEqual((b"foreign", b"\x00 no message of ours", ("x", b"y")),
                             (letter.key, letter.value, letter.headers[0]))
            self.assertIn("dlq.reason", dict(letter.headers))


if __name__ == "__main__":
    unittest.main()
