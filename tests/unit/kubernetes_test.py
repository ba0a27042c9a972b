#!/usr/bin/env python3
"""The manifests of deploy/kubernetes: every overlay is rendered and held against the schemas of those who will read it,
against what the programs say about themselves, and against the rules of the house.

Each rule (kubernetes/rules.py) is a function that returns complaints. The first test of a rule asks it
about every overlay; the second makes mistakes (kubernetes/mistakes.py), one at a time, and wants to hear of each.

BUILD names the folder with the programs (default .darkroom/build). kubectl with kustomize 5, or kustomize, renders; the
tests are skipped without. Needs the modules jsonschema and PyYAML.
"""

import copy
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types
import unittest

import yaml

sys.dont_write_bytecode = True  # nothing of ours lands in the tree
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "kubernetes"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cluster"))
import overlay as cluster_overlay  # noqa: E402
from documents import KUBERNETES, STAGES, Facts, environment, one, pods, render, stage_of  # noqa: E402
from mistakes import MISTAKES, fleet  # noqa: E402
from rules import CHECKS  # noqa: E402

OVERLAYS = ("dev", "install", "demo", "dev-strimzi", "prod")


# ---- the programs themselves

def start(docs, stage, folder):
    """The stage with the settings of its container, its mounted files below folder, and no broker."""
    _, pod, box = stage_of(docs, stage)
    mounted = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in box.get("volumeMounts", []):
        at, volume = folder / mount["mountPath"].lstrip("/"), mounted[mount["name"]]
        at.mkdir(parents=True, exist_ok=True)
        for item in volume.get("secret", {}).get("items", []):
            text = (folder / "ca.pem").read_text() if item["path"] == "ca.crt" else \
                "redis://127.0.0.1:1/0" if item["path"] == "url" else "hunter2"
            (at / item["path"]).write_text(text)
        if "configMap" in volume:
            for name, text in one(docs, "ConfigMap", volume["configMap"]["name"])["data"].items():
                (at / name).write_text(text)
    environ = {"PATH": os.environ["PATH"], "DARKROOM_PARENT": "false"}
    for name, value in environment(docs, box).items():
        environ[name] = "1" if value is None else f"{folder}{value}" if value.startswith("/") else value
    environ.update(DARKROOM_PROBE="0", DARKROOM_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    with open(folder / "said", "w") as said:
        return subprocess.Popen([render.BUILD / box["command"][0]], env=environ, stdout=said, stderr=said)


def check_programs(docs, seconds=60):
    """Complaints of the programs about their settings: those end them with 2. With settings that are right they come
    to ask for a broker or a Redis, and say that there is none."""
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=test", "-keyout", folder / "key.pem", "-out", folder / "ca.pem"], check=True, capture_output=True)
        running = {}
        for stage in STAGES:
            (folder / stage).mkdir()
            shutil.copy(folder / "ca.pem", folder / stage)
            running[stage] = start(docs, stage, folder / stage)
        end = time.monotonic() + seconds
        for stage, process in running.items():
            said = folder / stage / "said"
            while process.poll() is None and "trying again" not in said.read_text() and time.monotonic() < end:
                time.sleep(0.05)
            ended, text = process.poll(), said.read_text()
            if ended is not None:
                wrong.append(f"{stage} ended with {ended}: {text[-300:]}")
            elif "trying again" not in text:
                wrong.append(f"{stage} asks nobody after {seconds} s: {text[-300:]}")
        for process in running.values():
            if process.poll() is None:
                process.kill()
            process.wait()
    return wrong


@unittest.skipUnless(render.kustomize(), "there is no kubectl with kustomize 5, and no kustomize")
class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.facts = Facts()
        cls.overlays = {name: list(yaml.safe_load_all(render.rendered(KUBERNETES / "overlays" / name))) for name in OVERLAYS}

    def test_every_overlay_is_looked_at(self):
        self.assertEqual({path.name for path in (KUBERNETES / "overlays").iterdir()}, set(OVERLAYS))
        self.assertEqual(set(CHECKS), set(MISTAKES))

    def test_what_is_written_is_up_to_date(self):
        done = subprocess.run([KUBERNETES / "render", "--check"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_what_is_out_of_date_is_noticed(self):
        for name, old, new in (("base/stages/store.yaml", "darkroom.images.prepared", "darkroom.images"),
                               ("components/kafka-strimzi/topics.yaml", "partitions: 8", "partitions: 9"),
                               ("components/kafka-secure/users.yaml", "Read", "All"),
                               ("base/fleet.env", "json", "human")):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                copied = pathlib.Path(folder) / "deploy" / "kubernetes"
                shutil.copytree(KUBERNETES, copied)
                path = copied / name
                path.write_text(path.read_text().replace(old, new, 1))
                done = subprocess.run([copied / "render", "--check"], capture_output=True, text=True,
                                      env={**os.environ, "BUILD": str(render.BUILD)})
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("dist/install.yaml" if name.endswith(".env") else name, done.stdout)

    def test_redis_secret_is_what_is_mounted(self):
        made = yaml.safe_load(subprocess.run([KUBERNETES / "redis-secret"], check=True, capture_output=True, text=True).stdout)
        self.assertEqual((made["kind"], made["metadata"]["name"]), ("Secret", "darkroom-redis"))
        mounted = {item["key"] for _, _, pod in pods(self.overlays["prod"]) for volume in pod.get("volumes", [])
                   if volume.get("secret", {}).get("secretName") == "darkroom-redis" for item in volume["secret"]["items"]}
        self.assertEqual(mounted, {"users.acl", "url", "url-predict"})
        self.assertLessEqual(mounted, set(made["stringData"]))

    @unittest.skipUnless(shutil.which("redis-server"), "there is no redis-server")
    def test_redis_takes_its_users(self):
        """As the StatefulSet starts it, with what redis-secret makes."""
        made = yaml.safe_load(subprocess.run([KUBERNETES / "redis-secret"], check=True, capture_output=True, text=True).stdout)
        args = one(self.overlays["prod"], "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]["args"]
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "users.acl").write_text(made["stringData"]["users.acl"])
            words = [arg.replace("/data", folder).replace("/etc/darkroom/redis", folder) for arg in args]
            server = subprocess.Popen(["redis-server", *words, "--port", "0", "--unixsocket", f"{folder}/s"], stdout=subprocess.DEVNULL)
            try:
                for _ in range(100):
                    if pathlib.Path(folder, "s").exists():
                        break
                    time.sleep(0.1)

                def ask(url, *command):
                    user, password = re.match(r"redis://([^:]+):([^@]+)@", url).groups() if url else ("", "")
                    login = ["--no-auth-warning", "--user", user, "--pass", password] if url else []
                    words = ["redis-cli", "-s", f"{folder}/s", *login, *command]
                    return subprocess.run(words, capture_output=True, text=True).stdout.strip()

                self.assertIn("NOAUTH", ask(None, "get", "darkroom.artifact:x"))
                self.assertEqual(ask(made["stringData"]["url"], "set", "darkroom.artifact:x", "y"), "OK")
                self.assertEqual(ask(made["stringData"]["url-predict"], "get", "darkroom.artifact:x"), "y")
                self.assertIn("NOPERM", ask(made["stringData"]["url-predict"], "set", "darkroom.artifact:x", "z"))
            finally:
                server.terminate()
                server.wait()

    def test_overlay_of_the_cluster_tests(self):
        digest = "sha256:" + "0" * 64
        for image, wanted in ((None, one(self.overlays["dev"], "Deployment", "store")["spec"]["template"]["spec"]["containers"][0]["image"]),
                              ("other:1.2", "other:1.2"), ("10.0.0.7:5000/a/b:7", "10.0.0.7:5000/a/b:7"), ("other", "other:latest"),
                              ("10.0.0.7:5000/other", "10.0.0.7:5000/other:latest"), (f"r.example/other@{digest}", f"r.example/other@{digest}"),
                              (f"r.example:5000/other:1@{digest}", f"r.example:5000/other@{digest}")):
            with self.subTest(image), tempfile.TemporaryDirectory() as folder:
                words = types.SimpleNamespace(folder=pathlib.Path(folder).resolve(), namespace="of-a-run", image=image, kafka="10.0.0.7:29090",
                                              redis="redis://10.0.0.7:29379/0")
                docs = list(yaml.safe_load_all(render.rendered(cluster_overlay.write(words))))
                self.assertEqual({stage_of(docs, stage)[2]["image"] for stage in STAGES}, {wanted})
                self.assertEqual({doc["metadata"].get("namespace") for doc in docs if doc["kind"] != "Namespace"}, {"of-a-run"})
                self.assertEqual(fleet(docs)["DARKROOM_REDIS_URL"], words.redis)
                self.assertEqual(CHECKS["network"](docs, self.facts), [])

    def test_programs_take_their_settings(self):
        for name in ("dev", "prod"):
            with self.subTest(name):
                self.assertEqual(check_programs(self.overlays[name]), [])

    def test_programs_refuse_a_wrong_setting(self):
        docs = copy.deepcopy(self.overlays["dev"])
        fleet(docs).update(DARKROOM_KAFKA_SECURTY_PROTOCOL="sasl_ssl")
        self.assertEqual(len(check_programs(docs)), len(STAGES))


def add_tests(name, check):
    def good(self):
        for overlay, docs in self.overlays.items():
            with self.subTest(overlay):
                self.assertEqual(check(docs, self.facts), [])

    def bad(self):
        for number, mistake in enumerate(MISTAKES[name]):
            overlay, mistake = mistake if isinstance(mistake, tuple) else ("prod", mistake)
            with self.subTest(number):
                docs = copy.deepcopy(self.overlays[overlay])
                before = set(check(docs, self.facts))
                mistake(docs)
                self.assertTrue(set(check(docs, self.facts)) - before, "the mistake goes unnoticed")

    setattr(Kubernetes, f"test_{name}", good)
    setattr(Kubernetes, f"test_{name}_mistakes", bad)


for each_name, each_check in CHECKS.items():
    if each_name in MISTAKES:
        add_tests(each_name, each_check)

if __name__ == "__main__":
    unittest.main()
