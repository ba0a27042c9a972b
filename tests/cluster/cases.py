"""cases: what tests/cluster/run does once there are a broker, a Redis and a darkroom command; its --help says what each
case is. Everything is counted by an independent client (tests/live/judge.py), never by the programs
under test, and over all that was published since the fleet was applied."""

import collections
import contextlib
import itertools
import json
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import types
import uuid

import confluent_kafka
import confluent_kafka.admin

import cluster
import inside
import judge  # of tests/live, as live is
import live
import overlay

PREFIX = "darkroom."  # the settings' default
ROLLOUT = 180  # s that a stage may take to come up anew
REST = 300     # s in which the fleet has to be done with what was published
START_UP = 5   # s that a cold answer may take beyond KEDA's polling interval


@contextlib.contextmanager
def to_the_end():
    """What puts the cluster in order is not cut short: a signal that comes meanwhile counts afterwards."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)


class Fleet(live.Fleet):
    """Topics and Redis of the fleet on the cluster; its workers are the cluster's."""

    def __init__(self, folder):
        super().__init__(stages=(), name="cluster", logs=folder, prefix=PREFIX)

    def stages(self):
        return set(live.STAGES)

    def lag(self, stage):
        """A group that was never awake has no position, and is behind nothing where nothing came."""
        ends = self.ends(live.STAGES[stage])
        return {p: behind if ends[p][1] else 0 for p, behind in super().lag(stage).items()}


class Answers(threading.Thread):
    """When which result was there for a subscriber."""

    def __init__(self, fleet):
        super().__init__(daemon=True)
        self.times, self.error = {}, None
        self.consumer = confluent_kafka.Consumer({
            **live.client(), "group.id": f"answers-{uuid.uuid4().hex}", "enable.auto.commit": False,
            "isolation.level": "read_committed", "fetch.wait.max.ms": 20})
        topic = fleet.topic("predictions.results")
        ends = fleet.ends("predictions.results")
        self.consumer.assign([confluent_kafka.TopicPartition(topic, p, end) for p, (_, end) in ends.items()])
        self.start()

    def run(self):
        try:
            while True:
                for message in self.consumer.consume(500, 0.02):
                    if not message.error():
                        self.times.setdefault(message.key().decode(), time.time())
        except Exception as error:  # whoever asks for a time hears of it
            self.error = error

    def seen(self):
        """Key -> when its first result came, so far."""
        if self.error:
            raise live.Failed(f"the subscriber has ended: {self.error!r}")
        return self.times.copy()

    def longest_gap(self, since, until):
        """Seconds in which no answer came."""
        times = sorted(when for when in self.seen().values() if since < when < until)
        return max((after - before for before, after in zip([since, *times], [*times, until])), default=0)

    def first(self, keys, seconds):
        """When the first answer to one of them came."""
        def ask():
            seen = self.seen()
            return min((seen[key] for key in keys if key in seen), default=0)
        return live.wait_for(f"the first of {len(keys)} answers from {keys[0]} on", seconds, ask, 0.005)


class Traffic:
    """Digits to publish, and what is due for those that were. The labels of the requests are kept to ourselves."""

    def __init__(self, fleet, files):
        self.fleet, self.files = fleet, files
        self.due, self.labels, self.producer = judge.Due(), {}, fleet.producer()
        self.numbers = {"images": itertools.count(), "predictions.requests": itertools.count()}

    def records(self, topic, files):
        word = "image" if topic == "images" else "request"
        for label, value in files:
            key = f"{word}-{next(self.numbers[topic])}"
            if topic == "images":
                yield key, value, [("label", label)]
            else:
                self.labels[key] = label
                yield key, value, []

    def acked(self, topic):
        def take(portion):
            for key, _, headers in portion:
                if topic == "images":
                    self.due.images["images", key] = [dict(headers)["label"]]
                else:
                    self.due.requests[key] = None
        return take

    def send(self, topic, files):
        """All of them at once; their keys."""
        records = list(self.records(topic, files))
        self.fleet.send(topic, records, self.producer, seconds=120)
        self.acked(topic)(records)
        return [key for key, _, _ in records]

    @contextlib.contextmanager
    def load(self, images, requests):
        """So many a second of each, one after another, while the block runs."""
        publishers = [live.Publisher(self.fleet, topic, self.records(topic, itertools.cycle(self.files)), pace,
                                     self.acked(topic))
                      for topic, pace in (("images", images), ("predictions.requests", requests))]
        for each in publishers:
            each.start()
        try:
            yield publishers
        finally:
            for each in publishers:
                each.over.set()
            for each in publishers:
                each.join(60)
        for each in publishers:
            if each.error:
                raise each.error


class Quiet(judge.Verdicts):
    """Says only what failed, and counts as one."""

    def say(self, what, good, found, wanted):
        if not good:
            super().say(what, good, found, wanted)
        else:
            self.passed += 1


class Cases:
    def __init__(self, words, fleet, there, traffic, verdicts):
        self.words, self.fleet, self.cluster = words, fleet, there
        self.traffic, self.verdicts = traffic, verdicts
        self.random, self.answers = random.Random(words.seed), Answers(fleet)

    # ---- counting

    def rest(self):
        self.fleet.wait_idle(REST)

    def zero(self, seconds):
        began = time.monotonic()
        live.wait_for("every stage to be at zero", seconds, self.cluster.at_zero, 0.2)
        return time.monotonic() - began

    def count(self, what, full=False):
        """Of all that was ever published."""
        seen, right = judge.Seen(), 0
        for topic in self.fleet.topics():
            if judge.is_output(topic):
                for record in self.fleet.read(topic):
                    seen.take(record)
                    if topic == "predictions.results":
                        right += json.loads(record.value).get("label") == self.traffic.labels.get(record.key.decode())
        verdicts = self.verdicts if full else Quiet()
        lost, doubled = judge.judge(verdicts, self.traffic.due, seen, *self.fleet.rows())
        verdicts.check("partitions with lag", 0, sum(lag != 0 for stage in live.STAGES
                                                     for lag in self.fleet.lag(stage).values()))
        if verdicts.failed and verdicts is not self.verdicts:
            self.verdicts.failed += verdicts.failed
        self.verdicts.check(f"{what}: lost, doubled", (0, 0), (lost, doubled))
        print(f"      of {len(self.traffic.due.images)} images and {len(self.traffic.due.requests)} requests so far: "
              f"{len(seen.batches)} batches, {len(seen.versions)} versions")
        return seen, right

    def healthy(self, what, since):
        """No container of those that came since has ended by itself."""
        restarted = [pod.name for pod in self.cluster.since(since) if pod.restarts]
        self.verdicts.check(f"{what}: containers that ended by themselves", [], restarted)

    # ---- from zero and back

    def start(self):
        """A model in service, and nobody there."""
        since = time.time()
        self.traffic.send("images", self.traffic.files[:self.words.first])
        live.wait_for("a model in service", REST, lambda: self.fleet.read("models.deployed"), 0.5)
        self.rest()
        print(f"      {self.words.first} images, and a model in service after {time.time() - since:.0f} s")
        self.zero(self.words.cooldown + REST)

    def parts(self, since, answered):
        """Where the time of a cold answer went, in the order in which it happened."""
        def first(times):
            return min((when for when in times if when > since), default=answered)
        pods = [pod for pod in self.cluster.since(since) if pod.stage == "predict"]
        said = {word: first(when for pod in pods for when, text in self.cluster.lines(pod) if word in text)
                for word in ("reads ", "are ours", "serves now")}
        marks = sorted([(self.cluster.asked_for("predict", since), "KEDA's poll"),
                        (first(pod.created for pod in pods), "pod made"), (said["reads "], "pod start"),
                        (said["are ours"], "group join"), (said["serves now"], "model load"), (answered, "answer")])
        times = [since, *(when for when, _ in marks)]
        return ", ".join(f"{what} {after - before:.2f}" for (_, what), before, after in zip(marks, times, times[1:]))

    def one_answer(self, word):
        """Seconds that a single request waits."""
        since = time.time()
        key, = self.traffic.send("predictions.requests", [self.random.choice(self.traffic.files[-self.words.requests:])])
        answered = self.answers.first([key], self.words.poll + 60)
        time.sleep(1.5)  # what the pod said is on its way
        print(f"      {word}: answered after {answered - since:.3f} s" +
              (f": {self.parts(since, answered)}" if word == "cold" else ""))
        return answered - since

    def cold(self):
        words, files, colds = self.words, self.traffic.files, []
        for _ in range(words.colds):
            time.sleep(self.random.uniform(0, words.poll))
            colds.append(self.one_answer("cold"))
            for _ in range(3):
                self.one_answer("warm")
            self.rest()
            self.zero(words.cooldown + 60)

        since = time.time()
        sender = threading.Thread(target=self.traffic.send,
                                  args=("images", files[words.first:words.first + words.images]))
        sender.start()
        keys = self.traffic.send("predictions.requests", files[-words.requests:])
        sender.join()
        print(f"      {words.images} images and {words.requests} requests were published in {time.time() - since:.1f} s")
        first = self.answers.first(keys, words.poll + 60)
        colds.append(first - since)
        self.rest()
        done = time.time()
        seen = self.answers.seen()
        last = max(seen.get(key, 0) for key in keys)
        print(f"      first answer after {first - since:.2f} s: {self.parts(since, first)}")
        print(f"      all answered after {last - since:.1f} s, all done after {done - since:.1f} s")
        self.zero(words.cooldown + 120)
        pods = collections.Counter(pod.stage for pod in self.cluster.since(since))
        print("      pods: " + ", ".join(f"{stage} {pods[stage]}" for stage in live.STAGES) +
              f"; at zero {time.time() - done:.0f} s after the work was done")
        self.verdicts.check("stages that woke", len(live.STAGES), len(pods))
        seen, right = self.count("from zero and back", full=True)
        self.verdicts.check("error results", {}, seen.errors)
        self.verdicts.at_least("answered rightly, %", 97, round(100 * right / len(self.traffic.labels), 2))
        self.verdicts.at_most("slowest first answer from zero, s", words.poll + START_UP, round(max(colds), 2))
        self.healthy("from zero and back", since)

    # ---- what is done to it during a load

    def disturb(self, what, act, least=12):
        """act() while images and requests come; then everything is counted."""
        since = time.time()
        with self.traffic.load(self.words.pace, self.words.pace / 2) as publishers:
            live.wait_for("every stage to be at work", 120, lambda: all(
                any(pod.ready for pod in self.cluster.of_stage(stage)) for stage in live.STAGES), 0.5)
            began = time.time()
            told = act()
            time.sleep(max(2, least - (time.time() - began)))
            gap = self.answers.longest_gap(began, time.time())
        print(f"      {what}: {told}; {publishers[0].sent} images and {publishers[1].sent} requests in "
              f"{time.time() - since:.0f} s, at most {gap:.1f} s without an answer")
        self.rest()
        self.count(what)
        return since

    def deployments(self):
        return [each["metadata"]["name"] for each in self.cluster.of("deployments")
                if each["metadata"]["labels"].get(cluster.STAGE) in live.STAGES]

    def rolling(self):
        def act():
            before = {pod.uid for pod in self.cluster.of_stage()}
            names = [f"deployment/{name}" for name in self.deployments()]
            self.cluster.kubectl("rollout", "restart", *names)
            for name in names:
                self.cluster.kubectl("rollout", "status", name, f"--timeout={ROLLOUT}s", seconds=ROLLOUT + 20)
            live.wait_for("the pods of before to end", 120, lambda: not any(
                pod.uid in before and pod.is_there() for pod in self.cluster.pods.values()))
            return f"{len(before)} pods replaced"
        self.healthy("rolling update", self.disturb("rolling update of every stage", act))

    def delete(self):
        counts = dict.fromkeys(live.STAGES, 0)

        def of(stage, over):
            lag = live.Lag(self.fleet, stage)
            while counts[stage] < self.words.deletes and not over.is_set():
                pods = [pod for pod in self.cluster.of_stage(stage) if pod.ready]
                if not pods or not lag.unread():
                    time.sleep(0.02)
                    continue
                self.cluster.delete_at_once(self.random.choice(pods))
                counts[stage] += 1
                time.sleep(1)

        def act():
            over = threading.Event()
            threads = [threading.Thread(target=of, args=(stage, over), daemon=True) for stage in live.STAGES]
            for thread in threads:
                thread.start()
            end = time.monotonic() + 60 + 30 * self.words.deletes
            for thread in threads:
                thread.join(max(0, end - time.monotonic()))
            over.set()
            return "with unread records: " + ", ".join(f"{stage} {n}" for stage, n in counts.items())

        self.disturb("kubectl delete pod --force", act)
        for stage, n in counts.items():
            self.verdicts.at_least(f"forced deletions of {stage} with unread records", self.words.deletes, n)

    def scale(self):
        paused = "autoscaling.keda.sh/paused-replicas"

        def to(count):
            self.cluster.kubectl("annotate", "--overwrite", "scaledobjects", "--all", f"{paused}={count}")
            live.wait_for(f"{count} of each stage", 180, lambda: all(
                sum(bool(pod.ready) for pod in self.cluster.of_stage(stage)) == count for stage in live.STAGES), 0.5)
            time.sleep(5)

        def act():
            began = time.time()
            try:
                for count in (1, 3, 1):
                    to(count)
            finally:
                with to_the_end():
                    self.cluster.kubectl("annotate", "scaledobjects", "--all", f"{paused}-")
            return f"1, 3, 1 of each in {time.time() - began:.0f} s"
        self.healthy("scale 1, 3, 1", self.disturb("scale 1, 3, 1", act))

    def kubelet(self):
        if not (self.words.kubelet_stop and self.words.kubelet_start):
            print("skip  the kubelet stopped: --kubelet-stop and --kubelet-start say how, and were not given")
            return

        def act():
            subprocess.run(self.words.kubelet_stop, shell=True, check=True, stdin=subprocess.DEVNULL)
            try:
                time.sleep(self.words.kubelet_away)
                nodes = self.cluster.get("/api/v1/nodes")["items"]
                away = [node["metadata"]["name"] for node in nodes if not all(
                    each["status"] == "True" for each in node["status"]["conditions"] if each["type"] == "Ready")]
            finally:
                with to_the_end():
                    subprocess.run(self.words.kubelet_start, shell=True, check=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL)
            self.verdicts.at_least("nodes that were not ready without it", 1, len(away))
            return f"for {self.words.kubelet_away} s, nodes that were not ready then: {', '.join(away) or 'none'}"
        self.healthy("the kubelet stopped", self.disturb("the kubelet stopped", act))

    def drain(self):
        def act():
            nodes = sorted({pod.node for pod in self.cluster.of_stage()})
            before = {pod.uid for pod in self.cluster.of_stage()}
            for node in nodes:
                try:
                    self.cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data",
                                         f"--pod-selector={cluster.STAGE} in ({','.join(live.STAGES)})",
                                         f"--timeout={ROLLOUT}s", seconds=ROLLOUT + 20)
                finally:
                    with to_the_end():
                        self.cluster.kubectl("uncordon", node)
            live.wait_for("every stage to be there again", ROLLOUT, lambda: all(
                any(pod.ready for pod in self.cluster.of_stage(stage)) for stage in live.STAGES))
            gone = sum(not pod.is_there() for pod in self.cluster.pods.values() if pod.uid in before)
            self.verdicts.check("pods that the drain made go", len(before), gone)
            return f"{gone} of {len(before)} pods went from {', '.join(nodes)}"
        self.healthy("node drain", self.disturb("node drain", act))

    # ---- how it runs

    def secure(self):
        """With all stages at work, so that what they hold in memory is what they need."""
        with self.traffic.load(self.words.pace, self.words.pace / 2):
            live.wait_for("every stage to be at work", 120, lambda: all(
                any(pod.ready for pod in self.cluster.of_stage(stage)) for stage in live.STAGES), 0.5)
            time.sleep(10)
            inside.look(self.cluster, self.verdicts)
        self.rest()


def apply(words, there):
    there.kubectl("apply", "-k", str(overlay.write(words)))
    wanted = {each["metadata"]["name"] for each in there.scaled_objects()}
    live.wait_for(f"KEDA to take {len(wanted)} ScaledObjects", 60, lambda: all(
        any(c["type"] == "Ready" and c["status"] == "True" for c in each.get("status", {}).get("conditions", []))
        for each in there.scaled_objects()), 0.5)


def run(words, verdicts):
    live.use(words.kafka, words.redis)
    print(f"seed {words.seed}")
    files = live.digits(words.first + words.images + words.requests, words.folder / "digits")
    random.Random(words.seed).shuffle(files)
    used = [topic for topic in confluent_kafka.admin.AdminClient(live.client()).list_topics(timeout=30).topics
            if topic.startswith(PREFIX)]
    if used:
        raise live.Failed(f"{words.kafka} has {used[0]} already: everything is counted, so it wants a broker and a Redis "
                          "of its own")
    there = cluster.Cluster(words.kubeconfig, words.namespace, words.folder)
    try:
        if there.kubectl("get", "namespace", words.namespace, "--ignore-not-found", "--output=name").stdout:
            raise live.Failed(f"there is a namespace {words.namespace} already, and a run deletes its own at the end: "
                              "name another (--namespace), or delete it")
        on_the_cluster(words, verdicts, files, there)
    finally:
        there.close()


def on_the_cluster(words, verdicts, files, there):
    fleet = Fleet(words.folder)
    try:
        apply(words, there)
        there.watch()
        words.poll, words.cooldown = there.times()
        print(f"      KEDA looks at predict every {words.poll} s and waits {words.cooldown} s before it goes to zero")
        cases = Cases(words, fleet, there, Traffic(fleet, files), verdicts)
        for name in ("start", *words.only):
            began = time.monotonic()
            print(f"== {name}")
            getattr(cases, name)()
            print(f"== {name}: {time.monotonic() - began:.0f} s")
    except (live.Failed, subprocess.SubprocessError) as failed:
        verdicts.check(str(failed), True, False)
        for stage in live.STAGES:
            print(f"{stage}: behind {fleet.lag(stage)}")
        for pod in there.pods.values():
            if pod.is_there() or pod.restarts:
                print(f"{pod}\n{there.tail(pod)}")
    finally:
        if not words.keep:
            with to_the_end():
                done = there.kubectl("delete", "namespace", words.namespace, "--ignore-not-found",
                                     f"--timeout={ROLLOUT}s", check=False, seconds=ROLLOUT + 60)
            if done.returncode:
                print(f"the namespace {words.namespace} is still there: {done.stderr.strip()}")


def main():
    words = types.SimpleNamespace(**json.loads(sys.argv[1]))
    words.folder = pathlib.Path(words.folder)
    sys.stdout.reconfigure(line_buffering=True)
    verdicts = judge.Verdicts()
    try:
        run(words, verdicts)
    except live.Failed as failed:
        verdicts.check(str(failed), True, False)
    except KeyboardInterrupt:
        print("stopped")
        return 130
    return verdicts.close()


if __name__ == "__main__":
    sys.exit(main())
