"""stressed: what the stress tests share. A Redis and a broker of a test's own, which it may fill, freeze, empty
and kill; what the workers use while they wait; and the count at the end: every image stored, batched and
learned from once, every request answered once.

STRESS=full in the environment runs all of each test, with outages of a minute; without it each is as short as
still shows something. STRESS_MINUTE is the length of an outage in seconds.
"""

import atexit
import collections
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import redis

import live

FULL = os.environ.get("STRESS") == "full"
MINUTE = float(os.environ.get("STRESS_MINUTE", 60 if FULL else 15))
TICK = os.sysconf("SC_CLK_TCK")


class OwnRedis:
    """A redis-server with an append-only file in a folder of its own."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="stress-redis-"))
        self.port = live.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.process = None
        atexit.register(self.close)

    def start(self, *words):
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", "",
                 "--appendonly", "yes", "--maxmemory-policy", "noeviction", *words], stdout=log, stderr=log)
        live.wait_for("Redis to answer", 20, self.answers)
        return self

    def answers(self):
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restore(self):
        if not self.answers():
            self.start()
        self.client.config_set("maxmemory", 0)
        self.client.config_set("maxmemory-policy", "noeviction")

    def empty(self):
        """Its disk is gone, and it begins anew."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.start()

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class OwnBroker:
    """A Kafka by deploy/local/lib.sh in a site of its own. With `size` its data are on a disk of that many MB, where
    that can be mounted here; `disk` says whether."""

    def __init__(self, size=None):
        self.site = pathlib.Path(tempfile.mkdtemp(prefix="stress-kafka-"))
        self.data = self.site / "kafka" / "data"
        self.data.mkdir(parents=True)
        self.disk = bool(size) and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(self.data)], capture_output=True).returncode == 0
        self.port = live.free_port()
        for _ in range(9):  # the controller takes the first that is free behind it, at every start another perhaps
            live.free_port()
        self.address = f"127.0.0.1:{self.port}"
        atexit.register(self.close)

    def start(self):
        for _ in range(3):  # each waits for it; it may be slow on a busy machine
            run = subprocess.run(["bash", "-c", '. "$0" && site "$1" && kafka_start "$1/kafka" "$2"',
                                  str(live.ROOT / "deploy/local/lib.sh"), str(self.site), str(self.port)],
                                 capture_output=True, text=True, timeout=150)
            if run.returncode == 0:
                return self
        raise live.Failed(f"the broker did not start: {run.stdout}{run.stderr}")

    def pid(self):
        try:
            return int((self.site / "pids" / "kafka").read_text().split()[0])
        except OSError:
            return 0

    def alive(self):
        return bool(self.pid()) and not live.zombie(self.pid())

    def signal(self, number):
        os.kill(self.pid(), number)

    def kill(self):
        if self.alive():
            self.signal(signal.SIGKILL)
            live.wait_for("the broker to be gone", 10, lambda: not self.alive())

    def close(self):
        self.kill()
        if self.disk:
            subprocess.run(["umount", "--lazy", str(self.data)], capture_output=True)
            self.disk = False
        shutil.rmtree(self.site, ignore_errors=True)


class Patient:
    """For live.Publisher: a fleet whose servers may be away for long."""

    def __init__(self, fleet):
        self.fleet, self.producer = fleet, fleet.producer

    def send(self, name, records, producer, seconds):
        self.fleet.send(name, records, producer, 290)


def processes(worker):
    return [worker.process.pid, *worker.children()]


def cpu_seconds(worker):
    """Processor time that the worker's processes have used."""
    ticks = 0
    for pid in processes(worker):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def metric(worker, name):
    """The sum of a metric's series."""
    lines = worker.probe("/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines
               if line.startswith(name) and line[len(name):len(name) + 1] in ("{", " "))


def backoff(worker):
    return metric(worker, "darkroom_backoff_seconds_total")


class StressTest(live.LiveTest):
    """A fleet on servers of its own, where `own` names them; all that is sent is noted, and whole() counts it."""

    own = ()
    disk = None  # MB for the broker's data
    most_cpu = 0.25  # of one processor, of a worker that has nothing to do but wait
    digits = 400

    @classmethod
    def setUpClass(cls):
        cls.broker = cls.keep(OwnBroker(cls.disk)).start() if "broker" in cls.own else None
        cls.redis = cls.keep(OwnRedis()).start() if "redis" in cls.own else None
        live.use(cls.broker.address if cls.broker else live.KAFKA, cls.redis.url if cls.redis else live.REDIS)
        super().setUpClass()
        cls.files = live.digits(cls.digits, cls.scratch / "digits")
        cls.images, cls.requests = [], []

    @classmethod
    def keep(cls, server):
        cls.addClassCleanup(server.close)
        return server

    def setUp(self):
        """What the test before may have left."""
        if self.broker and not self.broker.alive():
            self.broker.start()
        if self.redis:
            self.redis.restore()

    def worker(self, stage):
        return self.fleet.workers[stage]

    # ---- what is sent

    @classmethod
    def new_images(cls, n):
        """Every one has an id of its own."""
        first = len(cls.images)
        new = [(f"image-{i}", value, [("label", label)])
               for i in range(first, first + n) for label, value in [cls.files[i % len(cls.files)]]]
        cls.images += new
        return new

    @classmethod
    def new_requests(cls, n):
        first = len(cls.requests)
        new = [(f"request-{i}", cls.files[i % len(cls.files)][1], []) for i in range(first, first + n)]
        cls.requests += new
        return new

    def publish(self, n):
        self.fleet.send("images", self.new_images(n), seconds=120)

    def ask(self, n):
        self.fleet.send("predictions.requests", self.new_requests(n), seconds=120)

    def a_model(self, n=100):
        """At least one version serves."""
        if not self.images:
            self.publish(n)
            self.fleet.wait_idle(60)

    def done(self, *stages, seconds=20):
        """These have nothing left to read, twice in a row."""
        def ask():
            return not any(lag for stage in stages for lag in self.fleet.lag(stage).values())
        live.wait_for(f"{' and '.join(stages)} to be done", seconds, lambda: ask() and not time.sleep(0.3) and ask())

    # ---- what is seen meanwhile

    def says(self, worker, words, seconds=15):
        live.wait_for(f"{worker.name} to say “{words}”; it says:\n{worker.tail(5)}\n", seconds,
                      lambda: words in worker.log.read_text(errors="replace"))

    def backs_off(self, worker, seconds=15):
        before = backoff(worker)
        live.wait_for(f"the back-off of {worker.name} to be seen in its metrics", seconds, lambda: backoff(worker) > before)

    def goes_on(self, worker, seconds=120):
        try:
            live.wait_for(f"{worker.name} to go on", seconds, worker.ready)
        except live.Failed as failed:
            raise live.Failed(f"{failed}: {worker.probe('/readyz')}\n{worker.tail(40)}") from None

    def quiet(self, seconds, stages=None):
        """None of them spins for so long. Says the processor time of each."""
        workers = [self.worker(stage) for stage in stages or self.fleet.workers]
        before = [cpu_seconds(worker) for worker in workers]
        time.sleep(seconds)
        used = {worker.name: (cpu_seconds(worker) - was) / seconds for worker, was in zip(workers, before)}
        print(f"{self.id().split('.')[-1]}: share of a processor while waiting: " +
              ", ".join(f"{name} {share:.3f}" for name, share in used.items()))
        self.assertEqual({}, {name: share for name, share in used.items() if share > self.most_cpu})

    def nobody_died(self):
        for worker in self.fleet.workers.values():
            self.assertIsNone(worker.process.poll(), worker.tail())
            self.assertEqual(0, metric(worker, "darkroom_restarts_total"), worker.tail(30))

    def whole(self, seconds=90):
        """Lets the fleet come to rest, and counts."""
        self.fleet.wait_idle(seconds)
        stored = self.of_default("images.stored")
        rows, index = self.fleet.rows()
        self.once([key for key, _, _ in self.images], [message["id"] for message in stored], "images stored")
        self.assertEqual((rows, rows), (index, {message["row"] for message in stored}))
        batches = self.of_default("batches")
        self.once(rows, [image["row"] for batch in batches for image in batch["images"]], "images batched")
        trained = self.of_default("models.trained")
        self.once([batch["batch"] for batch in batches], [b for version in trained for b in version["batches"]], "batches learned")
        self.assertEqual(list(range(1, len(trained) + 1)), [version["version"] for version in trained])
        self.answered_once()
        for topic in self.fleet.topics():
            if topic.endswith(".dlq"):
                self.assertEqual([], self.fleet.read(topic), topic)

    def of_default(self, topic):
        return [message for message in self.fleet.messages(topic) if message["model"] == "default"]

    def answered_once(self):
        results = self.fleet.read("predictions.results")
        self.once([key for key, _, _ in self.requests], [result.key.decode() for result in results], "requests answered")
        errors = collections.Counter(json.loads(result.value).get("error", {}).get("reason") for result in results)
        self.assertEqual({None: len(results)} if results else {}, dict(errors))

    def once(self, wanted, found, what):
        wanted, found = set(wanted), collections.Counter(found)
        twice = [key for key, count in found.items() if count > 1]
        self.assertEqual((0, 0, 0), (len(wanted - found.keys()), len(twice), len(found.keys() - wanted)),
                         f"{what}: of {len(wanted)} lost, doubled, invented; {twice[:3]}")
