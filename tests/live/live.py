"""live: what the live tests share. A broker and a Redis run already (tests/run starts them and says where in
the environment); a Fleet is six workers of its own on topics with a prefix of its own, and everything that
is counted is counted by an independent client, not by the programs under test.
"""

import atexit
import collections
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
import uuid

import confluent_kafka
import confluent_kafka.admin
import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / ".darkroom" / "build"))
KAFKA = os.environ.get("DARKROOM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
REDIS = os.environ.get("DARKROOM_REDIS_URL", "redis://127.0.0.1:6379/0")
CLIENT = {}  # more properties of the independent client
STAGES = {
    "preprocess": "images",
    "store": "images.prepared",
    "batch": "images.stored",
    "train": "batches",
    "deploy": "models.trained",
    "predict": "predictions.requests",
}

Record = collections.namedtuple("Record", "topic partition offset key value headers time")


class Failed(AssertionError):
    pass


def use(kafka, redis_url, properties=None):
    """These servers for every fleet made from now on, and what the independent client has to say there."""
    global KAFKA, REDIS, CLIENT
    KAFKA, REDIS, CLIENT = kafka, redis_url, properties or {}


def client():
    """Properties of every client here; it has no word for the servers' coming and going."""
    return {**CLIENT, "bootstrap.servers": KAFKA, "log_level": 0, "reconnect.backoff.max.ms": 1000}


def record_of(name, message):
    return Record(name, message.partition(), message.offset(), message.key(), message.value(), message.headers() or [],
                  message.timestamp()[1])


def on_sigterm(number, frame):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, on_sigterm)


def wait_for(what, seconds, ask, pause=0.1):
    """The first true answer of ask(); Failed with `what` after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s for {what}" + (f" ({answer})" if answer else ""))
        time.sleep(pause)


def own_ports():
    """A hundred ports below those that the system gives to clients, and below those of chaos, which are this process'
    alone while it lives: a lock says so."""
    for k in range(60):
        segment = (os.getpid() + k) % 60
        try:
            lock = open(pathlib.Path(tempfile.gettempdir()) / f"darkroom-test-ports-{segment}", "w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        return lock, itertools.cycle(range(22000 + segment * 100, 22100 + segment * 100))
    raise Failed("sixty processes of tests have all the ports")


PORTS_LOCK, PORTS = None, None


def free_port():
    """Nobody takes it before its server."""
    global PORTS_LOCK, PORTS
    if not PORTS:
        PORTS_LOCK, PORTS = own_ports()
    for port in itertools.islice(PORTS, 100):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed("none of this process' hundred ports is free")


class Worker:
    """One darkroom-<stage>: a watching parent and its child."""

    def __init__(self, fleet, stage, number=1, port=None, **settings):
        self.fleet, self.stage, self.name = fleet, stage, f"{stage}-{number}"
        self.port = port or free_port()
        self.log = fleet.folder / f"{self.name}.log"
        self.environment = {
            **fleet.environment,
            "DARKROOM_INSTANCE": self.name,
            "DARKROOM_PROBE": f"127.0.0.1:{self.port}",
            **{f"DARKROOM_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.peak = 0  # bytes resident, the most that was seen
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(BUILD / f"darkroom-{self.stage}")], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self.environment)
        return self

    def probe(self, path):
        """Status and body; 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
        return self.probe("/readyz")[0] == 200

    def children(self):
        try:
            return [int(pid) for pid in
                    pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]
        except OSError:
            return []

    def resident(self, what="VmRSS"):
        """Bytes that parent and child together have in memory; VmHWM: the most that they have had."""
        total = 0
        for pid in (self.process.pid, *self.children()):
            try:
                lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
        return total

    def measure(self):
        self.peak = max(self.peak, self.resident("VmHWM"))
        return self.peak

    def kill(self):
        """kill -9 of the parent; the child goes with it."""
        self.measure()
        children = self.children()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        wait_for(f"the child of {self.name} to go with its parent", 5,
                 lambda: not any(os.path.exists(f"/proc/{pid}/status") and not zombie(pid) for pid in children), 0.01)

    def stop(self, seconds=15):
        if self.process is None or self.process.poll() is not None:
            return
        self.measure()
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def zombie(pid):
    try:
        return ") Z" in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def partitions_of(admin, topic):
    return [confluent_kafka.TopicPartition(topic, p) for p in admin.list_topics(topic, timeout=10).topics[topic].partitions]


def offsets(admin, partitions, spec):
    answer = admin.list_offsets({tp: spec for tp in partitions}, request_timeout=10)
    return {tp.partition: future.result().offset for tp, future in answer.items()}


class Lag:
    """How far a stage's group is behind, by the broker's figures."""

    def __init__(self, fleet, stage):
        self.admin = fleet.admin
        self.group = fleet.prefix + stage
        self.partitions = partitions_of(self.admin, fleet.topic(STAGES[stage]))

    def by_partition(self):
        """Partition -> records and markers behind the end; where the group has no position, one more than all."""
        ask = confluent_kafka.ConsumerGroupTopicPartitions(self.group, self.partitions)
        positions = self.admin.list_consumer_group_offsets([ask], request_timeout=10)[self.group].result()
        ends = offsets(self.admin, self.partitions, confluent_kafka.admin.OffsetSpec.latest())
        return {tp.partition: ends[tp.partition] - max(tp.offset, -1) for tp in positions.topic_partitions}

    def unread(self):
        return any(self.by_partition().values())


class Fleet:
    """Topics, and one worker of each stage, or of those named. `models` is the content of the specs' file,
    `own` the settings of single stages, `logs` where the folder of the workers' logs is made."""

    def __init__(self, stages=tuple(STAGES), models=None, name="live", own=None, logs=None, prefix=None, **settings):
        self.prefix = prefix or f"{name}-{uuid.uuid4().hex[:6]}."
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=self.prefix, dir=logs))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        self.environment.update(DARKROOM_KAFKA_BOOTSTRAP_SERVERS=KAFKA, DARKROOM_REDIS_URL=REDIS,
                                DARKROOM_PREFIX=self.prefix, PATH=f"{BUILD}:{os.environ['PATH']}")
        if models is not None:
            path = self.folder / "models.json"
            path.write_text(json.dumps({"models": models}))
            self.environment["DARKROOM_MODELS"] = str(path)
        self.environment.update({f"DARKROOM_{name.upper()}": str(value) for name, value in settings.items()})
        self.admin = confluent_kafka.admin.AdminClient(client())
        self.redis = redis.Redis.from_url(REDIS)
        self.workers = {}
        atexit.register(self.kill)  # whatever happens, nothing is left running
        self.command("topics", "create")
        for stage in stages:
            self.workers[stage] = Worker(self, stage, **(own or {}).get(stage, {})).start()
        for worker in self.workers.values():
            wait_for(f"{worker.name} to be ready", 60, worker.ready)

    def kill(self):
        for worker in self.workers.values():
            if worker.process.poll() is None:
                worker.process.kill()

    def stop(self):
        for worker in self.workers.values():
            if worker.process.poll() is None:
                worker.measure()
                worker.process.terminate()
        for worker in self.workers.values():
            worker.stop()

    def close(self, keep=False):
        self.stop()
        self.admin.delete_topics([self.topic(name) for name in self.topics()])
        if keep:
            print(f"the workers' logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words, check=True, **more):
        run = subprocess.run([str(BUILD / "darkroom"), *words], env=self.environment, text=True, timeout=120,
                             capture_output=True, **more)
        if check and run.returncode:
            raise Failed(f"darkroom {' '.join(words)}: exit code {run.returncode}\n{run.stdout}{run.stderr}")
        return run

    # ---- an independent client

    def topic(self, name):
        return self.prefix + name

    def topics(self):
        names = self.admin.list_topics(timeout=10).topics
        return [name[len(self.prefix):] for name in names if name.startswith(self.prefix)]

    def producer(self):
        return confluent_kafka.Producer({**client(), "enable.idempotence": True, "linger.ms": 5,
                                         "partitioner": "murmur2_random"})

    def send(self, name, records, producer=None, seconds=30):
        """(key, value, headers) each; returns when the broker has them all."""
        producer, refused = producer or self.producer(), []
        for key, value, headers in records:
            producer.produce(self.topic(name), key=key, value=value, headers=headers,
                             on_delivery=lambda error, _: error and refused.append(error))
            producer.poll(0)
        left = producer.flush(seconds)
        if left or refused:
            raise Failed(f"{left} records to {name} were not acknowledged, {len(refused)} refused: {refused[:1]}")

    def ends(self, name):
        """Partition -> (first offset, offset behind the last record or marker)."""
        spec = confluent_kafka.admin.OffsetSpec
        partitions = partitions_of(self.admin, self.topic(name))
        first, last = offsets(self.admin, partitions, spec.earliest()), offsets(self.admin, partitions, spec.latest())
        return {p: (first[p], last[p]) for p in first}

    def read(self, name):
        """Every committed record of a topic, as it is now."""
        topic = self.topic(name)
        consumer = confluent_kafka.Consumer({
            **client(), "group.id": f"count-{uuid.uuid4().hex}", "enable.auto.commit": False,
            "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest"})
        left = {p for p, (low, high) in self.ends(name).items() if low < high}
        records = []
        try:
            consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in left])
            ends = {p: high for p, (low, high) in self.ends(name).items()}
            deadline = time.monotonic() + 60
            while left:
                message = consumer.poll(1)
                if time.monotonic() > deadline:
                    raise Failed(f"could not read {name} to its end")
                if message is None:
                    continue
                if message.error():
                    # The end of what is committed; with a transaction still open it is not the true end.
                    if message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        if message.offset() >= ends[message.partition()]:
                            left.discard(message.partition())
                    else:
                        raise Failed(f"reading {name}: {message.error()}")
                    continue
                records.append(record_of(name, message))
        finally:
            consumer.close()
        return records

    def messages(self, name):
        return [json.loads(record.value) for record in self.read(name)]

    def lag(self, stage):
        return Lag(self, stage).by_partition()

    def idle(self):
        """Every group's lag is 0 on every partition."""
        return all(lag == 0 for stage in self.stages() for lag in self.lag(stage).values())

    def stages(self):
        return {worker.stage for worker in self.workers.values()}

    def wait_idle(self, seconds=60):
        """Until nothing is left anywhere, twice in a row: what one stage finishes is the next one's input."""
        def ask():
            if not self.idle():
                return False
            time.sleep(0.5)
            return self.idle()
        try:
            wait_for("every stage to be done", seconds, ask)
        except Failed as failed:
            behind = {stage: self.lag(stage) for stage in self.stages()}
            raise Failed(f"{failed}; behind: " + "; ".join(
                f"{worker.name} {behind[worker.stage]}\n{worker.tail()}"
                for worker in self.workers.values() if any(behind[worker.stage].values()))) from None

    def rows(self, model="default"):
        """Names of the images that Redis has, counted by their rows and by their index."""
        key = f"{self.prefix}image:{{{model}}}:".encode()
        rows = {name[len(key):].decode() for name in self.redis.scan_iter(match=glob_quote(key) + b"*", count=1000)}
        index = {name.decode() for name in self.redis.zrange(f"{self.prefix}images:{{{model}}}", 0, -1)}
        return rows, index

    def memory(self):
        return {stage: worker.measure() for stage, worker in self.workers.items()}


class Publisher(threading.Thread):
    """Sends the records one portion after another, so many a second, until `over` is set; what a broker's absence
    holds up is not made up for. acked is called with each portion that the broker has."""

    def __init__(self, fleet, topic, records, pace, acked=lambda portion: None, over=None):
        super().__init__(daemon=True)
        self.fleet, self.topic, self.records, self.pace, self.acked = fleet, topic, iter(records), pace, acked
        self.over = over or threading.Event()
        self.sent, self.error = 0, None

    def run(self):
        try:
            producer, due, size = self.fleet.producer(), time.monotonic(), max(1, int(self.pace / 5))
            while not self.over.is_set() and (portion := list(itertools.islice(self.records, size))):
                self.fleet.send(self.topic, portion, producer, seconds=300)
                self.acked(portion)
                self.sent += len(portion)
                due = max(due + len(portion) / self.pace, time.monotonic() - 1)
                self.over.wait(max(0, due - time.monotonic()))
        except Exception as error:  # told by the main thread
            self.error = error


def glob_quote(text):
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]^\\" else bytes([c]) for c in text)


def digits(count, folder):
    """`darkroom generate digits`: list of (label, file's bytes), the labels mixed."""
    subprocess.run([str(BUILD / "darkroom"), "generate", "digits", str(folder), str(count)], check=True,
                   capture_output=True, timeout=120)
    files = sorted(pathlib.Path(folder).rglob("*.png"), key=lambda path: path.name)
    return [(path.parent.name, path.read_bytes()) for path in files]


class LiveTest(unittest.TestCase):
    """One fleet for all tests of a class."""

    stages = tuple(STAGES)
    models = {"default": {"batch.count": 200, "batch.age": "1s"}}
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.scratch = pathlib.Path(tempfile.mkdtemp(prefix="darkroom-live-"))
        cls.addClassCleanup(shutil.rmtree, cls.scratch, ignore_errors=True)
        cls.fleet = Fleet(cls.stages, cls.models, cls.__name__.lower(), **cls.settings)
        cls.addClassCleanup(cls.fleet.close)
