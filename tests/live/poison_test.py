#!/usr/bin/env python3
"""A record that ends the process, on a real broker, with a stage of the test's own (poison_stage.c): it is
dead-lettered after its third death by its own fault or soon after, however many instances meet it, and the rest
come through once. Deaths from outside, of child and of parent, dead-letter nothing."""

import os
import random
import signal
import subprocess
import threading
import time
import unittest

import live
from stressed import FULL

live.STAGES["poison"] = "images"
PARTITIONS = 8
KILLS, GROUPS = (200, 8) if FULL else (12, 4)
SESSION = {"kafka_session_timeout_ms": 6000}  # the least that a broker allows


class Instance(live.Worker):
    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(live.BUILD / "poison_stage")], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environment)
        return self


class Group:
    """Topics, and some instances of the stage."""

    def __init__(self, instances, name, slow="1ms"):
        self.fleet = live.Fleet((), None, name)
        self.deaths_file = self.fleet.folder / "deaths"
        self.deaths_file.touch()
        self.lag = live.Lag(self.fleet, "poison")
        self.keys, self.bad = [], []
        for number in range(1, instances + 1):
            instance = Instance(self.fleet, "poison", number, deaths=self.deaths_file, slow=slow, **SESSION)
            self.fleet.workers[instance.name] = instance.start()
        for instance in self.instances():
            live.wait_for(f"{instance.name} to be ready", 30, instance.ready)
        live.wait_for("every instance to have its share", 30, self.shared)

    def instances(self):
        return list(self.fleet.workers.values())

    def shared(self):
        lines = [instance.probe("/metrics")[1] for instance in self.instances()]
        return all('darkroom_assigned_partitions{stage="poison"} 0' not in text and "assigned" in text for text in lines)

    def send(self, n, poison_in=None):
        """n records to every partition; in the middle of one of them a poisoned one."""
        producer = self.fleet.producer()
        for i in range(n):
            for partition in range(PARTITIONS):
                key = f"{partition}/{len(self.keys)}"
                self.keys.append(key)
                producer.produce(self.fleet.topic("images"), key=key, value=b"good", partition=partition)
                if partition == poison_in and i == n // 2:
                    self.bad.append(f"bad-{len(self.bad)}")
                    producer.produce(self.fleet.topic("images"), key=self.bad[-1], value=b"die", partition=partition)
        if producer.flush(30):
            raise live.Failed("not all was sent")

    def deaths(self):
        return self.deaths_file.read_text().splitlines()

    def finish(self, seconds):
        live.wait_for("all to be done", seconds, lambda: not self.lag.unread(), 0.2)

    def close(self):
        self.fleet.close()


class Poison(unittest.TestCase):
    def group(self, *words, **more):
        group = Group(*words, **more)
        self.addCleanup(group.close)
        return group

    def judge(self, group, text):
        """Outputs once each, and one letter for each poisoned record, after at least three deaths of its own."""
        outputs, letters = group.fleet.read("images.prepared"), group.fleet.read("images.dlq")
        self.assertEqual(sorted(group.keys), sorted(record.key.decode() for record in outputs), text)
        self.assertEqual(group.bad, [letter.key.decode() for letter in letters], text)
        for letter in letters:
            said = {name: value.decode() for name, value in letter.headers}
            self.assertEqual("kills-worker", said["dlq.reason"])
            self.assertEqual(b"die", letter.value)
            text += f"; buried at {said['dlq.attempts']} attempts"
        if letters:
            self.assertGreaterEqual(len(group.deaths()), 3 * len(letters), text)
            came = {record.key: record.time for record in group.fleet.read("images")}
            place = dict(letters[0].headers)["dlq.partition"]
            beside = [r.time - came[r.key] for r in outputs if r.key.split(b"/")[0] == place]
            elsewhere = [r.time - came[r.key] for r in outputs if r.key.split(b"/")[0] != place]
            text += (f"; letter {(letters[0].time - came[letters[0].key]) / 1000:.1f} s after the record came, its partition's "
                     f"others at most {max(beside) / 1000:.1f} s, those of other partitions at most {max(elsewhere) / 1000:.1f} s")
        print(text)

    def meet(self, instances):
        group = self.group(instances, f"poison{instances}")
        group.send(50, poison_in=3)
        group.finish(240)
        deaths = len(group.deaths())
        self.judge(group, f"{instances} instances: {deaths} deaths of one poisoned record")
        return deaths

    def test_one_instance(self):
        self.assertEqual(3, self.meet(1))

    @unittest.skipUnless(FULL, "in the long run")
    def test_two_instances(self):
        self.assertLessEqual(self.meet(2), 4)

    @unittest.skipUnless(FULL, "in the long run")
    def test_three_instances(self):
        self.assertLessEqual(self.meet(3), 5)

    def test_taken_over(self):
        """The one that died of it is gone for good, and another one takes its partition."""
        group = self.group(2, "takeover")
        group.send(50, poison_in=3)
        live.wait_for("the first death", 20, group.deaths)
        child = int(group.deaths()[0].rsplit(" ", 1)[1])
        live.wait_for("its parent to have a new child", 10, lambda: [
            i for i in group.instances() if child not in i.children() and "died of signal 6" in i.log.read_text()])
        first, = [i for i in group.instances() if "died of signal 6" in i.log.read_text()]
        first.kill()
        group.finish(240)
        self.judge(group, f"two instances, the first of them killed for good: {len(group.deaths())} deaths")


class Kills(unittest.TestCase):
    """Every second group also has a poisoned record, which is to be found among the kills from outside."""

    def run_group(self, group, number, kills, errors, done):
        try:
            group.send(20, poison_in=3 if number % 2 else None)
            instance, = group.instances()
            for i in range(kills):
                live.wait_for(f"{instance.name} to be ready", 60, instance.ready, 0.02)
                if not group.lag.unread():
                    group.send(10)
                time.sleep(random.uniform(0, 0.6))
                children = instance.children()
                if i % 2 or not children:
                    instance.kill()
                    instance.start()
                else:
                    try:
                        os.kill(children[0], signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                done.append(number)
            live.wait_for(f"{instance.name} to be ready", 60, instance.ready)
            group.finish(240)
        except Exception as error:  # told by the main thread
            errors.append(error)

    judge = Poison.judge

    def test_kills_from_outside(self):
        errors, done, groups = [], [], []
        for number in range(GROUPS):
            groups.append(Group(1, f"kills{number}", slow="10ms"))
            self.addCleanup(groups[-1].close)
        began = time.monotonic()
        threads = [threading.Thread(target=self.run_group, args=(group, number, KILLS // GROUPS, errors, done))
                   for number, group in enumerate(groups)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)
        for group in groups:
            self.judge(group, f"{group.fleet.prefix} {len(group.keys)} records, {len(group.deaths())} deaths of its own")
        print(f"{len(done)} kills from outside in {GROUPS} groups, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    unittest.main()
