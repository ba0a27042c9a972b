#!/usr/bin/env python3
"""The fleet for Docker and Podman: deploy/local/compose.yaml against the programs, the broker's properties and the
version; and the recipe of the image against the version.

Each rule is given the file's text and returns complaints; a mistake is planted for each, and must be noticed. BUILD
names the folder with the programs (default .darkroom/build).
"""

import os
import pathlib
import re
import subprocess
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / ".darkroom" / "build"))
COMPOSE = ROOT / "deploy" / "local" / "compose.yaml"
REDIS = ROOT / "deploy" / "kubernetes" / "components" / "redis" / "redis.yaml"
PROPERTIES = ROOT / "deploy" / "local" / "kafka" / "server.properties.in"
VERSION = re.search(r"^project\(.* VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.M).group(1)
STAGES = {path.stem for path in (ROOT / "workers").glob("*.c")} - {"darkroom"}
PROGRAMS = {"darkroom", *(f"darkroom-{stage}" for stage in STAGES)}
OURS = f"darkroom:{VERSION}"


def services(text):
    return yaml.safe_load(text)["services"]


def programs(text):
    """The services that run our image: name -> (service, program and words)."""
    return {name: (service, service.get("entrypoint", []) + service.get("command", []))
            for name, service in services(text).items() if service["image"].startswith("darkroom")}


def said(program, *words, **environment):
    return subprocess.run([BUILD / program, *words], capture_output=True, text=True, timeout=20, env={"PATH": os.environ["PATH"], **environment})


def check_image(text):
    return [f"{name}: {service['image']} is not {OURS}" for name, (service, _) in programs(text).items() if service["image"] != OURS]


def check_commands(text):
    ran = {words[0] for _, words in programs(text).values()}
    return [f"{name}: there is no program {words[0]}" for name, (_, words) in programs(text).items() if words[0] not in PROGRAMS] + \
           [f"nothing runs {name}" for name in sorted(PROGRAMS - ran)] + \
           [f"{name}: {' '.join(words)} is no command" for name, (_, words) in programs(text).items()
            if words[0] == "darkroom" and said("darkroom", *[word for word in words[1:] if word != "--help"], "--help").returncode]


def settings(program):
    """The environment variables of a worker's table. The command line is told the two addresses and no more."""
    return set() if program == "darkroom" else set(re.findall(r"^\| `(DARKROOM_\w+)`", said(program, "--settings-markdown").stdout, re.M))


def check_settings(text):
    """A variable is in the table of a program that the file runs with it. The whole fleet shares the two addresses."""
    shared = {"DARKROOM_KAFKA_BOOTSTRAP_SERVERS", "DARKROOM_REDIS_URL"}
    return [f"{name}: {words[0]} has no setting {key}" for name, (service, words) in programs(text).items() if words[0] in PROGRAMS
            for key in sorted(set(service.get("environment", {})) - shared - settings(words[0]))] + \
           [f"{name}: does not say {key}" for name, (service, _) in programs(text).items() for key in sorted(shared - set(service.get("environment", {})))]


def check_rights(text):
    return [f"{name}: {key} is {service.get(key)}, not {wanted}" for name, (service, _) in programs(text).items()
            for key, wanted in (("read_only", True), ("cap_drop", ["ALL"]), ("security_opt", ["no-new-privileges:true"]))
            if service.get(key) != wanted]


def check_addresses(text):
    """What the programs are told is what Kafka advertises and where Redis is."""
    kafka, wrong = services(text)["kafka"]["environment"], []
    advertised = dict(each.split("://") for each in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    for name, (service, _) in programs(text).items():
        its = service["environment"]
        if its["DARKROOM_KAFKA_BOOTSTRAP_SERVERS"] != advertised[kafka["KAFKA_INTER_BROKER_LISTENER_NAME"]]:
            wrong.append(f"{name}: Kafka is not at {its['DARKROOM_KAFKA_BOOTSTRAP_SERVERS']}")
        if not re.fullmatch(r"redis://redis:6379/\d+", its["DARKROOM_REDIS_URL"]):
            wrong.append(f"{name}: Redis is not at {its['DARKROOM_REDIS_URL']}")
    return wrong


def check_order(text):
    """Who is waited for is there; the workers wait for the topics, and these for a healthy Kafka."""
    every = services(text)
    waits = {name: service.get("depends_on", {}) for name, service in every.items()}
    wrong = [f"{name} waits for {other}, which is not there" for name, others in waits.items() for other in others if other not in every]
    wrong += [f"{name} waits until {other} is healthy, which cannot be told" for name, others in waits.items() for other, how in others.items()
              if how["condition"] == "service_healthy" and "healthcheck" not in every.get(other, {})]
    wrong += [f"{stage} does not wait for the topics" for stage in sorted(STAGES)
              if waits.get(stage, {}).get("topics") != {"condition": "service_completed_successfully"}]
    return wrong + ["the topics do not wait for Kafka"] * (waits.get("topics", {}).get("kafka") != {"condition": "service_healthy"})


def check_health(text):
    """Podman splits the words of a check at their blanks, and what is left of it may succeed always."""
    return [f"{name}: the check's word {word!r} has a blank" for name, service in services(text).items()
            for word in service.get("healthcheck", {}).get("test", []) if " " in word]


def check_kafka(text):
    """The broker of deploy/local/kafka: version and properties, but for where it listens and keeps its data."""
    its, wrong = services(text)["kafka"], []
    version = re.search(r"<artifactId>kafka_[^<]*</artifactId>\s*<version>([^<]+)", (ROOT / "deploy/local/kafka/pom.xml").read_text()).group(1)
    if its["image"] != f"apache/kafka:{version}":
        wrong.append(f"kafka: {its['image']} is not {version}")
    for line in PROPERTIES.read_text().splitlines():
        key, _, value = line.partition("=")
        if line.startswith("#") or not value or "@" in value or key.startswith("listener."):
            continue
        variable = "KAFKA_" + key.upper().replace(".", "_")
        if its["environment"].get(variable) != value:
            wrong.append(f"kafka: {variable} is {its['environment'].get(variable)}, not {value}")
    return wrong


def check_redis(text):
    """The release that Kubernetes runs, and what the fleet asks of it."""
    its = services(text)["redis"]
    kubernetes = re.findall(r"image: (redis:\S+)", REDIS.read_text())
    pairs = dict(zip(its["command"][1::2], its["command"][2::2]))
    return [f"redis: {its['image']} is not {kubernetes}"] * ([its["image"]] != kubernetes) + \
           [f"redis: {key} is {pairs.get(key)}" for key, value in (("--appendonly", "yes"), ("--maxmemory-policy", "noeviction"))
            if pairs.get(key) != value]


class Compose(unittest.TestCase):
    def setUp(self):
        if not (BUILD / "darkroom").is_file():
            self.skipTest(f"{BUILD / 'darkroom'} is not built")
        self.text = COMPOSE.read_text()

    def rule(self, check, *plants):
        self.assertEqual([], check(self.text))
        for old, new in plants:
            self.assertIn(old, self.text)
            self.assertNotEqual([], check(self.text.replace(old, new)), f"{new} in place of {old} went unnoticed")

    def test_image(self):
        self.rule(check_image, (f"image: {OURS}", "image: darkroom:latest"))

    def test_commands(self):
        self.rule(check_commands, ("[darkroom-batch]", "[darkroom-batches]"), ("[darkroom-store]", "[darkroom-batch]"),
                  ("topics, create", "topics, make"))

    def test_settings(self):
        self.rule(check_settings, ("DARKROOM_PROBE", "DARKROOM_PROBES"), ("DARKROOM_REDIS_URL", "REDIS_URL"))

    def test_rights(self):
        self.rule(check_rights, ("read_only: true", "read_only: false"), ("cap_drop: [ALL]", "cap_drop: []"),
                  ("no-new-privileges:true", "seccomp:unconfined"))

    def test_addresses(self):
        self.rule(check_addresses, ("_SERVERS: kafka:19092", "_SERVERS: kafka:9092"), ("redis://redis:", "redis://localhost:"))

    def test_order(self):
        self.rule(check_order, ("    topics: {condition: service_completed_successfully}\n", ""),
                  ("redis: {condition: service_healthy}", "radish: {condition: service_healthy}"),
                  ("    healthcheck: {test: [CMD, bash", "    labels: {test: [CMD, bash"))

    def test_health(self):
        self.rule(check_health, ("\"</dev/tcp", "\": </dev/tcp"))

    def test_kafka(self):
        self.rule(check_kafka, ("apache/kafka:", "apache/kafka:1"), ("CLEANUP_INTERVAL_MS: \"1000\"", "CLEANUP_INTERVAL_MS: \"10000\""))

    def test_redis(self):
        self.rule(check_redis, ("--appendonly, \"yes\"", "--appendonly, \"no\""), ("image: redis:7.4", "image: redis:7"))


class Recipe(unittest.TestCase):
    def test_it_names_the_version(self):
        run = subprocess.run([ROOT / "deploy/container/build", "--help"], capture_output=True, text=True, timeout=20)
        self.assertEqual((0, ""), (run.returncode, run.stderr))
        self.assertIn(f"({OURS})", run.stdout)

    def test_it_refuses_what_it_does_not_know(self):
        for words, why in ((["--arch", "vax"], "no architecture vax"), (["--tag", "x"], "what is --tag?"), (["--name"], "--name wants a value")):
            run = subprocess.run([ROOT / "deploy/container/build", *words], capture_output=True, text=True, timeout=20)
            self.assertNotEqual(0, run.returncode)
            self.assertIn(why, run.stderr)


if __name__ == "__main__":
    unittest.main()
