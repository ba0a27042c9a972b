"""judge: whether what a fleet sent is what it owed. Due is what is owed for the records that were published, Seen
what an independent client read of the fleet's outputs; judge() compares the two, record by record: what is due
and was not seen is lost, what was seen and is not due, or not due again, is doubled."""

import collections
import json

OUTPUTS = ("images.stored", "batches", "models.trained", "models.deployed", "predictions.results")


def is_output(topic):
    return topic in OUTPUTS or topic.endswith(".dlq")


class Verdicts:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, wanted, found):
        self.say(what, wanted == found, found, f"wanted {wanted}")

    def at_most(self, what, most, found):
        self.say(what, found <= most, found, f"at most {most}")

    def at_least(self, what, least, found):
        self.say(what, found >= least, found, f"at least {least}")

    def say(self, what, good, found, wanted):
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'}  {what:<56} {found}" + ("" if good else f"   {wanted}"))

    def close(self):
        if self.passed:
            print(f"[  PASSED  ] {self.passed} test(s).")
        if self.failed:
            print(f"[  FAILED  ] {self.failed} test(s).")
        return 1 if self.failed else 0


class Due:
    def __init__(self):
        self.images = {}                      # (source, id) -> the label of each revision, None where it has none
        self.letters = collections.Counter()  # (topic, key, reason)
        self.requests = {}                    # key -> the reason of its error result, or None


class Seen:
    """Of one model; records come in the order of their partitions."""

    def __init__(self):
        self.stored = collections.Counter()   # (source, id, revision)
        self.row_of = {}                      # (source, id) -> row
        self.batched = collections.Counter()  # (row, revision)
        self.batches = collections.Counter()  # batch
        self.learned = collections.Counter()  # batch, by the versions' messages
        self.versions = []                    # (version, parent)
        self.judged = 0                       # the last version that deploy has judged
        self.deployed = {}                    # (version, artifact) -> time of the first message
        self.answered = {}                    # the same of the first result
        self.results = collections.Counter()  # key of the request
        self.errors = {}                      # key of the request -> reason
        self.letters = collections.Counter()  # (topic, key, reason)

    def take(self, record):
        """Returns which revision, or which request's key, it is the output of; None for other topics."""
        if record.topic.endswith(".dlq"):
            reason = dict(record.headers)["dlq.reason"].decode()
            self.letters[record.topic, record.key.decode(), reason] += 1
            return None
        message = json.loads(record.value)
        if record.topic == "images.stored":
            name = message["source"], message["id"]
            revision = *name, int(message["revision"])
            self.stored[revision] += 1
            self.row_of[name] = message["row"]
            return revision
        elif record.topic == "batches":
            self.batches[message["batch"]] += 1
            self.batched.update((image["row"], int(image["revision"])) for image in message["images"])
        elif record.topic == "models.trained":
            self.versions.append((message["version"], message["parent"]))
            self.learned.update(message["batches"])
        elif record.topic == "models.deployed":
            self.judged = message["judged"]
            self.deployed.setdefault((message["version"], message["artifact"]), record.time)
        elif record.topic == "predictions.results":
            key = record.key.decode()
            self.results[key] += 1
            if "error" in message:
                self.errors[key] = message["error"]["reason"]
            else:
                self.answered.setdefault((message["version"], message["artifact"]), record.time)
            return key
        return None


def once(keys):
    return collections.Counter(dict.fromkeys(keys, 1))


def judge(verdicts, due, seen, rows, index):
    """rows and index are the images' names in Redis, by their rows and by the index of them. Returns how many of
    all are lost and doubled."""
    lost = doubled = 0

    def compare(what, owed, found):
        nonlocal lost, doubled
        missing, more = owed - found, found - owed
        verdicts.check(f"{what}: lost", 0, missing.total())
        verdicts.check(f"{what}: doubled", 0, more.total())
        for word, some in (("lost", missing), ("doubled", more)):
            for key in list(some)[:5]:
                print(f"        {word}: {key}")
        lost, doubled = lost + missing.total(), doubled + more.total()

    revisions = {(*name, i): label for name, labels in due.images.items() for i, label in enumerate(labels, 1)}
    compare("revisions of images in images.stored", once(revisions), seen.stored)
    compare("rows in Redis", once(seen.row_of.get(name, name) for name in due.images), once(rows))
    verdicts.check("rows that are not in the index, or the other way", 0, len(rows ^ index))
    compare("labelled revisions in batches",
            once((seen.row_of.get((source, name)), i) for (source, name, i), label in revisions.items() if label),
            seen.batched)
    compare("batches by their name", once(seen.batches), seen.batches)
    compare("batches in versions", once(seen.batches), seen.learned)
    count = len(seen.versions)
    verdicts.check("versions follow one another", True,
                   seen.versions == [(version, version - 1) for version in range(1, count + 1)])
    verdicts.check("the last version has been judged", count, seen.judged)
    compare("results of requests", once(due.requests), seen.results)
    verdicts.check("error results that are not due, or not given", 0,
                   sum(reason != seen.errors.get(key) for key, reason in due.requests.items()))
    compare("dead letters", due.letters, seen.letters)
    verdicts.check("models that answered and were not deployed before", 0,
                   sum(time < seen.deployed.get(model, time + 1) for model, time in seen.answered.items()))
    return lost, doubled
