#!/usr/bin/env python3
"""Security, on a broker and a Redis of its own: TLS and SCRAM for every client, one principal a stage, rights as
`darkroom topics acls` says them and nothing else; Redis with the users of README.md, and TLS where hiredis has it.

Kafka 4 refuses the SCRAM of any librdkafka before 2.6.1. Where the programs have such a one, the fleet is given that of
the Python client, and the tests of refused logins and rights, which log in with PLAIN, have the system's own.

The fleet does all of its work so. What is not a stage's own is tried with its credentials by an independent client
and must be refused; a stage with the credentials of another says what is refused, waits, and loses nothing.
"""

import concurrent.futures
import ctypes
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import time
import unittest
import uuid

import confluent_kafka
import confluent_kafka.admin as kafka_admin
import redis

import live

SITE = pathlib.Path(os.environ.get("SECURITY_SITE", live.ROOT / ".darkroom" / "security"))
PORTS = os.environ.get("SECURITY_PORTS", "22092 22379").split()
ROLES = (*live.STAGES, "user", "operator", "models", "dlq")

# What belongs to whom, said here once more: the programs' own table is what is under test.
READS = {"preprocess": {"images"}, "store": {"images.prepared"}, "batch": {"images.stored"}, "train": {"batches"},
         "deploy": {"models.trained", "models.deployed"}, "predict": {"predictions.requests", "models.deployed"}}
WRITES = {"preprocess": {"images.prepared", "images.dlq"}, "store": {"images.stored", "images.prepared.dlq"},
          "batch": {"batches", "images.stored.dlq"}, "train": {"models.trained", "batches.dlq"},
          "deploy": {"models.deployed", "models.trained.dlq"}, "predict": {"predictions.results"}}

# The broker: one listener for clients with passwords, one for itself and for the administrator with certificates.
BROKER = """
listeners=ADMIN://127.0.0.1:@PORT@,CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
advertised.listeners=ADMIN://127.0.0.1:@PORT@,CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
listener.security.protocol.map=ADMIN:SSL,CLIENTS:SASL_SSL,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=ADMIN
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
ssl.client.auth=required
listener.name.clients.ssl.client.auth=none
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {users};
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="broker" password="{own}" user_broker="{own}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:broker;User:CN=broker;User:CN=admin
"""
START = """
set -euo pipefail
. "$ROOT/deploy/local/lib.sh"
site "$SITE"
kafka_fetch
clients=$(port clients $((KAFKA_PORT + 1)))
mapfile -t properties < <(sed "s|{clients}|$clients|" <<<"$BROKER")
admin=$(port kafka "$KAFKA_PORT")
kafka_start "$SITE/kafka" "$admin" "${properties[@]}" >&2
redis=$(port redis "$REDIS_PORT") tls=$(port redis-tls $((REDIS_PORT + 1)))
redis_start "$SITE/redis" "$redis" --include "$SITE/redis.conf" --tls-port "$tls" >&2
echo "$admin $clients $redis $tls"
"""
STOP = '. "$ROOT/deploy/local/lib.sh"; site "$SITE"; site_stop'


def certificates():
    """An authority, and what it signed for the broker, for Redis and for the administrator."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=SITE, check=True, capture_output=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    (SITE / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("broker", "admin"):
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "names", "-out", f"{name}.crt")
        (SITE / f"{name}.pem").write_text((SITE / f"{name}.key").read_text() + (SITE / f"{name}.crt").read_text())


def shell(script):
    users = " ".join(f'user_darkroom-{role}="{PASSWORDS[role]}"' for role in ROLES)
    broker = BROKER.replace("{folder}", str(SITE)).replace("{users}", users).replace("{own}", PASSWORDS["broker"])
    environment = {**os.environ, "ROOT": str(live.ROOT), "SITE": str(SITE), "BROKER": broker, "KAFKA_PORT": PORTS[0],
                   "REDIS_PORT": PORTS[1], "KCAT_CONFIG": str(SITE / "kcat.conf"), "REDISCLI_AUTH": PASSWORDS["redis"]}
    return subprocess.run(["bash", "-c", script], env=environment, check=True, stdout=subprocess.PIPE, text=True,
                          timeout=240).stdout


PASSWORDS = {name: f"s3cr3t-{name}-{uuid.uuid4().hex}" for name in (*ROLES, "broker", "redis", "darkroom", "reader")}


def secret_file(name, text):
    path = SITE / "secrets" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")
    return str(path)


def scram_library():
    """For LD_PRELOAD; empty when the programs' own will do."""
    if ctypes.CDLL("librdkafka.so.1").rd_kafka_version() >= 0x020601FF:
        return ""
    library, = pathlib.Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*.so*")
    return str(library)


def as_role(role, mechanism="SCRAM-SHA-512"):
    """Properties of a client that is this role."""
    return {"security.protocol": "sasl_ssl", "sasl.mechanism": mechanism, "ssl.ca.location": str(SITE / "ca.pem"),
            "sasl.username": f"darkroom-{role}", "sasl.password": PASSWORDS[role]}


def settings_of(role, mechanism="SCRAM-SHA-512", **more):
    """The same as settings of a worker; the password in a file."""
    properties = as_role(role, mechanism)
    properties["sasl.password.file"] = secret_file(f"kafka-{role}", properties.pop("sasl.password"))
    return {**{f"kafka_{name.replace('.', '_')}": value for name, value in properties.items()}, **more}


def redis_lines():
    """The ACL lines of README.md."""
    text = (live.ROOT / "README.md").read_text()
    return re.findall(r"^ACL SETUSER (\S+) (.*)$", text, re.M)


class Fleet(live.Fleet):
    """Has its rights, made from what `darkroom topics acls` prints, before it is asked for anything."""

    prepared = False

    def command(self, *words, **more):
        if not self.prepared:
            self.prepared = True
            del self.environment["DARKROOM_REDIS_URL"]  # it is in a file
            self.environment["LD_PRELOAD"] = scram_library()
            self.make_acls()
            self.make_redis_users()
        return super().command(*words, **more)

    def make_acls(self):
        kinds = {"Topic": kafka_admin.ResourceType.TOPIC, "Group": kafka_admin.ResourceType.GROUP,
                 "TransactionalId": kafka_admin.ResourceType.TRANSACTIONAL_ID}
        operations = {"Read": "READ", "Write": "WRITE", "Create": "CREATE", "Describe": "DESCRIBE",
                      "DescribeConfigs": "DESCRIBE_CONFIGS"}
        lines = self.command("topics", "acls", "--format", "json").stdout.splitlines()
        bindings = [kafka_admin.AclBinding(
            kinds[acl["resource_type"]], acl["name"], kafka_admin.ResourcePatternType[acl["pattern_type"].upper()],
            acl["principal"], acl["host"], kafka_admin.AclOperation[operations[acl["operation"]]],
            kafka_admin.AclPermissionType[acl["permission"].upper()]) for acl in map(json.loads, lines)]
        for made in self.admin.create_acls(bindings).values():
            made.result(10)
        self.acls = bindings

    def make_redis_users(self):
        for user, rules in redis_lines():
            password = PASSWORDS["darkroom" if user == "darkroom" else "reader"]
            words = rules.replace("PASSWORD", password).replace("darkroom.", self.prefix).split()
            self.redis.execute_command("ACL", "SETUSER", user, *words)


def cpu_seconds(worker):
    total = 0
    for pid in (worker.process.pid, *worker.children()):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


class Security(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if SITE.exists():
            shell(STOP)  # what a killed run left behind
            shutil.rmtree(SITE)
        SITE.mkdir(parents=True)
        certificates()
        (SITE / "kcat.conf").write_text("".join(f"{name}={value}\n" for name, value in cls.administrator().items()))
        (SITE / "redis.conf").write_text(
            f"requirepass {PASSWORDS['redis']}\ntls-cert-file {SITE}/broker.crt\ntls-key-file {SITE}/broker.key\n"
            f"tls-ca-cert-file {SITE}/ca.pem\ntls-auth-clients no\n")
        cls.addClassCleanup(shell, STOP)
        admin, clients, cls.redis_port, cls.redis_tls = shell(START).split()
        cls.broker = f"127.0.0.1:{clients}"
        live.use(f"127.0.0.1:{admin}", f"redis://:{PASSWORDS['redis']}@127.0.0.1:{cls.redis_port}/0", cls.administrator())
        cls.make_principals()
        cls.has_tls = "has no TLS" not in cls.try_tls()
        cls.scratch = SITE / "scratch"
        cls.scratch.mkdir()
        redis_of = {"predict": cls.redis_url("darkroom-predict", "reader")}
        own = {stage: settings_of(stage, redis_url_file=redis_of.get(stage, cls.redis_url("darkroom", "darkroom")))
               for stage in live.STAGES}
        cls.fleet = Fleet((), {"default": {"batch.count": 100, "batch.age": "1s"}}, "security",
                          kafka_bootstrap_servers=cls.broker, redis_ca_file=SITE / "ca.pem",
                          **settings_of("operator", redis_url_file=cls.redis_url("darkroom-reader", "reader")))
        cls.addClassCleanup(cls.fleet.close)
        cls.own = own
        for stage in live.STAGES:
            cls.fleet.workers[stage] = live.Worker(cls.fleet, stage, **own[stage]).start()
        for worker in cls.fleet.workers.values():
            live.wait_for(f"{worker.name} to be ready", 90, worker.ready)

    @staticmethod
    def administrator():
        return {"security.protocol": "ssl", "ssl.ca.location": str(SITE / "ca.pem"),
                "ssl.certificate.location": str(SITE / "admin.crt"), "ssl.key.location": str(SITE / "admin.key")}

    @classmethod
    def make_principals(cls):
        admin = kafka_admin.AdminClient({**cls.administrator(), "bootstrap.servers": live.KAFKA})
        info = kafka_admin.ScramCredentialInfo(kafka_admin.ScramMechanism.SCRAM_SHA_512, 4096)
        made = admin.alter_user_scram_credentials([
            kafka_admin.UserScramCredentialUpsertion(f"darkroom-{role}", info, PASSWORDS[role].encode()) for role in ROLES])
        for each in made.values():
            each.result(20)

    @classmethod
    def try_tls(cls):
        environment = {"PATH": os.environ["PATH"], "DARKROOM_REDIS_URL": f"rediss://127.0.0.1:{cls.redis_tls}"}
        return subprocess.run([str(live.BUILD / "darkroom"), "images", "export", "--csv"], env=environment, timeout=60,
                              capture_output=True, text=True).stderr

    @classmethod
    def redis_url(cls, user, secret):
        where = f"rediss://{user}:{PASSWORDS[secret]}@127.0.0.1:{cls.redis_tls}/0" if cls.has_tls else \
            f"redis://{user}:{PASSWORDS[secret]}@127.0.0.1:{cls.redis_port}/0"
        return secret_file(f"redis-{user}", where)

    def command(self, role, *words, check=True):
        """The command line as this role."""
        environment = {**self.fleet.environment,
                       **{f"DARKROOM_{name.upper()}": value for name, value in settings_of(role).items()}}
        run = subprocess.run([str(live.BUILD / "darkroom"), *words], env=environment, text=True, timeout=60, capture_output=True)
        if check:
            self.assertEqual(0, run.returncode, run.stdout + run.stderr)
        return run

    def worker(self, stage, number, preload="", **settings):
        worker = live.Worker(self.fleet, stage, number, **{**self.own[stage], **settings})
        worker.environment["LD_PRELOAD"] = preload
        self.addCleanup(worker.stop)
        return worker.start()

    # ---- the fleet at work

    def test_0_the_fleet_does_its_work(self):
        digits = self.scratch / "digits"
        images = live.digits(300, digits)
        self.command("user", "publish", str(digits))
        self.fleet.send("images", [(b"bad", b"no picture", [("label", b"1")])])
        self.fleet.wait_idle(90)
        rows, index = self.fleet.rows()
        self.assertEqual(len({value for _, value in images}), len(rows))
        self.assertEqual(rows, index)
        self.assertEqual([b"bad"], [letter.key for letter in self.fleet.read("images.dlq")])
        self.assertTrue(self.fleet.read("models.deployed"))
        answers = self.command("user", "predict", *map(str, sorted(digits.rglob("*.png"))[:20])).stdout.splitlines()
        self.assertEqual(20, len(answers))
        self.command("operator", "topics", "check")
        self.command("operator", "topics", "create")
        self.assertIn("predict", self.command("operator", "status").stdout)
        self.command("operator", "models", "list")
        self.assertIn("is pinned", self.command("models", "models", "pin", "default").stdout)
        self.command("models", "models", "unpin", "default")
        self.assertNotEqual(0, self.command("operator", "models", "pin", "default", "--wait", "3s", check=False).returncode)
        self.assertEqual(len(rows) + 1, len(self.command("operator", "images", "export", "--csv").stdout.splitlines()))

    def test_1_a_subscriber(self):
        consumer = confluent_kafka.Consumer({**self.client("user"), "group.id": self.fleet.topic("user-1"),
                                             "auto.offset.reset": "earliest", "enable.auto.commit": False})
        self.addCleanup(consumer.close)
        consumer.subscribe([self.fleet.topic("predictions.results")])
        message = live.wait_for("a result", 30, lambda: consumer.poll(1))
        self.assertIsNone(message.error())
        consumer.commit(message, asynchronous=False)

    def test_2_predict_at_least_once(self):
        """The idempotent producer without transactions needs no right to the cluster."""
        self.fleet.workers["predict"].stop()
        worker = self.worker("predict", 7, scram_library(), delivery="at-least-once")
        live.wait_for("predict to be ready", 60, worker.ready)
        file = next((self.scratch / "digits").rglob("*.png"))
        self.assertIn(file.name, self.command("user", "predict", str(file)).stdout)
        worker.stop()
        self.fleet.workers["predict"].start()
        live.wait_for("predict to be ready", 60, self.fleet.workers["predict"].ready)

    def test_3_the_arguments_of_kafka_acls_say_the_same(self):
        said = set()
        for line in self.command("operator", "topics", "acls", "--format", "kafka-acls").stdout.splitlines():
            words = shlex.split(line)
            self.assertEqual("--add", words.pop(0))
            pairs = list(zip(words[::2], words[1::2]))
            value = dict(pairs)
            said |= {(value["--allow-principal"], operation, kind, name, value["--resource-pattern-type"])
                     for flag, operation in pairs if flag == "--operation"
                     for kind, name in pairs if kind in ("--topic", "--group", "--transactional-id")}
        flags = {"TOPIC": "--topic", "GROUP": "--group", "TRANSACTIONAL_ID": "--transactional-id"}
        names = {"READ": "Read", "WRITE": "Write", "CREATE": "Create", "DESCRIBE": "Describe", "DESCRIBE_CONFIGS": "DescribeConfigs"}
        made = {(acl.principal, names[acl.operation.name], flags[acl.restype.name], acl.name,
                 acl.resource_pattern_type.name.lower()) for acl in self.fleet.acls}
        self.assertEqual(made, said)

    # ---- what is not a stage's own

    def test_4_other_stages_topics_groups_and_ids_are_refused(self):
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for wrong in pool.map(self.try_all, live.STAGES):
                self.assertEqual([], wrong)

    def try_all(self, stage):
        return self.try_writing(stage) + self.try_reading(stage) + self.try_groups(stage) + self.try_ids(stage)

    def forbidden(self, own):
        topics = self.fleet.topics()
        self.assertTrue(own <= set(topics) and len(topics) == 13, topics)
        return {self.fleet.topic(name) for name in topics if name not in own}

    def client(self, stage):
        return {**as_role(stage), "bootstrap.servers": self.broker}

    def try_writing(self, stage):
        topics, codes = self.forbidden(WRITES[stage]), {}
        producer = confluent_kafka.Producer({**self.client(stage), "message.timeout.ms": 15000})
        for topic in topics:
            producer.produce(topic, key=b"intruder", value=b"x",
                             on_delivery=lambda error, message: codes.__setitem__(message.topic(), error and error.code()))
        producer.flush(20)
        return [f"{stage} writes {topic}: {codes.get(topic)}" for topic in topics
                if codes.get(topic) != confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED]

    def try_reading(self, stage):
        denied = confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED
        consumer = confluent_kafka.Consumer({**self.client(stage), "group.id": self.fleet.topic(stage), "enable.auto.commit": False})
        wrong, end = [], time.monotonic() + 20
        try:
            # What may not even be seen is not fetched; what may be seen, as it may be written, has to be tried.
            left = {topic for topic in self.forbidden(READS[stage])
                    if not (error := consumer.list_topics(topic, timeout=10).topics[topic].error) or error.code() != denied}
            if left != {self.fleet.topic(name) for name in WRITES[stage]} - {self.fleet.topic(name) for name in READS[stage]}:
                wrong.append(f"{stage} sees {left}")
            consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0) for topic in left])
            while left and time.monotonic() < end:
                message = consumer.poll(0.5)
                if message and not message.error():
                    wrong.append(f"{stage} reads {message.topic()}")
                elif message and message.error().code() == denied:
                    left.discard(message.topic())
        finally:
            consumer.close()
        return wrong + [f"{stage} is not refused when it reads {topic}" for topic in left]

    def try_groups(self, stage):
        wrong = []
        for other in set(live.STAGES) - {stage}:
            consumer = confluent_kafka.Consumer({**self.client(stage), "group.id": self.fleet.topic(other)})
            consumer.subscribe([self.fleet.topic(live.STAGES[stage])])
            end, code = time.monotonic() + 15, None
            while code != confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED and time.monotonic() < end:
                message = consumer.poll(0.5)
                code = message.error().code() if message and message.error() else None
                if message and not message.error():
                    wrong.append(f"{stage} reads as the group of {other}")
            if code != confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED:
                wrong.append(f"{stage} is not refused in the group of {other}")
            consumer.close()
        return wrong

    def try_ids(self, stage):
        wrong = []
        for other in set(live.STAGES) - {stage}:
            name = self.fleet.topic(f"{other}.intruder.0")
            producer = confluent_kafka.Producer({**self.client(stage), "transactional.id": name})
            try:
                producer.init_transactions(10)
                wrong.append(f"{stage} takes the transactional id {name}")
            except confluent_kafka.KafkaException as failed:
                if failed.args[0].code() != confluent_kafka.KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
                    wrong.append(f"{stage} with the id {name}: {failed}")
        return wrong

    # ---- a stage with the credentials of another

    def test_5_foreign_credentials_are_told_and_nothing_is_lost(self):
        before = len(self.fleet.rows()[0]), len(self.fleet.read("predictions.results"))
        for worker in self.fleet.workers.values():
            worker.process.terminate()
        for worker in self.fleet.workers.values():
            worker.stop()
        digits = live.digits(150, self.scratch / "more")
        fresh = [(f"fresh-{i}".encode(), value, [("label", label)]) for i, (label, value) in enumerate(digits)]
        self.fleet.send("images", fresh)
        self.fleet.send("predictions.requests", fresh[:50])
        stages = list(live.STAGES)
        wrong = {stage: self.worker(stage, 9, **settings_of(stages[(i + 1) % len(stages)], "PLAIN"), log_level="debug",
                                    kafka_debug="security,conf") for i, stage in enumerate(stages)}
        for i, (stage, worker) in enumerate(wrong.items()):
            live.wait_for(f"{stage} to say what is refused", 60, lambda: "uthorization failed" in worker.probe("/readyz")[1])
            status, page = worker.probe("/readyz")
            for text in (page, worker.log.read_text()):
                self.assertIn("uthorization failed", text)
                self.assertIn(f"darkroom-{stages[(i + 1) % len(stages)]}", text)
                self.assertIn("darkroom topics acls", text)
            self.assertEqual(503, status)
        spent = {stage: cpu_seconds(worker) for stage, worker in wrong.items()}
        time.sleep(5)
        spent = {stage: cpu_seconds(worker) - spent[stage] for stage, worker in wrong.items()}
        print("processor time of refused workers in 5 s:", {stage: round(s, 2) for stage, s in spent.items()})
        self.assertLess(max(spent.values()), 1.0)
        for worker in wrong.values():
            said = [line for line in worker.log.read_text().splitlines() if " warn " in line and "uthorization failed" in line]
            self.assertLess(len(said), 8, "\n".join(said))
            worker.process.terminate()
        for worker in wrong.values():
            worker.stop()
        self.assertEqual(before, (len(self.fleet.rows()[0]), len(self.fleet.read("predictions.results"))))
        for worker in self.fleet.workers.values():
            worker.start()
        self.fleet.wait_idle(90)
        self.assertEqual(before[0] + 150, len(self.fleet.rows()[0]))
        self.assertEqual(before[1] + 50, len(self.fleet.read("predictions.results")))
        self.assertEqual(1, len(self.fleet.read("images.dlq")))

    def test_6_a_right_that_is_taken_away_and_given_again(self):
        """While stages work, one may not write any more and the other may not read: records wait, and go on."""
        before = len(self.fleet.rows()[0])
        taken = {"preprocess": ("images.prepared", "WRITE"), "batch": ("images.stored", "READ")}
        acls = [acl for acl in self.fleet.acls for stage, (name, operation) in taken.items()
                if (acl.principal, acl.name, acl.operation.name) == (f"User:darkroom-{stage}", self.fleet.topic(name), operation)]
        self.assertEqual(2, len(acls))
        for gone in self.fleet.admin.delete_acls([kafka_admin.AclBindingFilter(
                acl.restype, acl.name, acl.resource_pattern_type, acl.principal, acl.host, acl.operation, acl.permission_type)
                for acl in acls]).values():
            self.assertEqual(1, len(gone.result(10)))
        said = {stage: self.fleet.workers[stage].log.stat().st_size for stage in taken}
        digits = live.digits(40, self.scratch / "late")
        self.fleet.send("images", [(f"late-{i}".encode(), value, [("label", label)]) for i, (label, value) in enumerate(digits)])
        for stage, (name, _) in taken.items():
            worker = self.fleet.workers[stage]
            live.wait_for(f"{stage} to be not ready", 40, lambda: worker.probe("/readyz")[0] == 503)
            for text in (worker.probe("/readyz")[1], worker.log.read_text()[said[stage]:]):
                self.assertIn(self.fleet.topic(name), text)
                self.assertIn(f"authorization failed, for the user darkroom-{stage}", text)
            self.assertNotIn("going on", worker.log.read_text()[said[stage]:])
        for made in self.fleet.admin.create_acls(acls).values():
            made.result(10)
        self.fleet.wait_idle(90)
        self.assertEqual(before + 40, len(self.fleet.rows()[0]))
        self.assertEqual(1, len(self.fleet.read("images.dlq")))
        for stage in taken:
            live.wait_for(f"{stage} to be ready", 60, self.fleet.workers[stage].ready)

    # ---- who cannot log in

    def told(self, worker, *words):
        """What is wrong is in the log, the worker lives, and is not ready."""
        live.wait_for(f"{worker.name} to say {words}", 40, lambda: all(word in worker.log.read_text() for word in words), 0.3)
        self.assertIsNone(worker.process.poll())
        self.assertEqual(503, worker.probe("/readyz")[0])

    def test_7_wrong_passwords_and_certificates(self):
        mark = f"s3cr3t-wrong-{uuid.uuid4().hex}"
        PASSWORDS["wrong"] = mark
        secret = secret_file("wrong", mark)
        self.fleet.redis.execute_command("ACL", "SETUSER", "nobody", "on", f">{mark}", "-@all")
        stranger = SITE / "stranger.pem"
        where = f"127.0.0.1:{self.redis_port}/0"
        workers = [
            (self.worker("batch", 11, kafka_sasl_password_file=secret), ["login failed: check sasl.username, sasl.password"]),
            (self.worker("batch", 14, kafka_sasl_password_file=secret, kafka_sasl_mechanism="PLAIN"), ["login failed: check"]),
            (self.worker("batch", 12, kafka_ssl_ca_location=stranger), ["certificate verify failed"]),
            (self.worker("batch", 13, kafka_security_protocol="plaintext"), [f"no broker at {self.broker}"]),
            (self.worker("store", 11, redis_url=f"redis://{where}"), ["wants a password"]),
            (self.worker("store", 12, redis_url=f"redis://darkroom:{mark}@{where}"), ["refuses the user or password"]),
            (self.worker("store", 13, redis_url=f"redis://nobody:{mark}@{where}"), ["does not permit"]),
        ]
        if self.has_tls:
            workers.append((self.worker("store", 14, redis_ca_file=stranger), ["certificate verify failed"]))
        for worker, words in workers:
            self.told(worker, *words)
        for worker, _ in workers:
            worker.process.terminate()

    def test_8_dead_letters(self):
        self.assertIn("not-png", self.command("dlq", "dlq", "list").stdout)
        self.command("dlq", "dlq", "replay", "images")
        self.fleet.wait_idle(90)
        self.command("dlq", "dlq", "drop", "images")
        letters = [letter for letter in self.fleet.read("images.dlq") if letter.key == b"bad"]
        self.assertEqual(2, len(letters))

    def test_8_redis_users_may_do_no_more(self):
        for user, secret, forbidden in [
            ("darkroom", "darkroom", ["CONFIG GET *", "KEYS *", "FLUSHALL", "EVAL return 0", "GET other.key", "SET other.key 1", "ACL LIST"]),
            ("darkroom-predict", "reader", ["SET {}image:x 1", "GET {}image:x", "DEL {}artifact:x", "SET {}artifact:x 1"]),
            ("darkroom-reader", "reader", ["SET {}image:x 1", "DEL {}artifact:x", "FLUSHALL", "HSET {}model:x a b"]),
        ]:
            client = redis.Redis(port=int(self.redis_port), username=user, password=PASSWORDS[secret])
            for line in forbidden:
                with self.assertRaises(redis.exceptions.NoPermissionError, msg=f"{user}: {line}"):
                    client.execute_command(*line.format(self.fleet.prefix).split(" "))

    def test_9_no_secret_was_said(self):
        logs = list(self.fleet.folder.glob("*.log"))
        self.assertTrue(any("SASL" in log.read_text(errors="replace") for log in logs))
        for log in logs:
            text = log.read_text(errors="replace")
            for name, secret in PASSWORDS.items():
                self.assertNotIn(secret, text, f"the secret {name} is in {log.name}")
        for worker in self.fleet.workers.values():
            for path in ("/metrics", "/readyz", "/healthz"):
                page = worker.probe(path)[1]
                self.assertFalse([name for name, secret in PASSWORDS.items() if secret in page])


if __name__ == "__main__":
    unittest.main()
