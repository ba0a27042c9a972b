#!/usr/bin/env python3
"""Hardening: how the programs were linked, where they listen, and that a secret stays one. No broker and no
Redis are needed: the workers wait for them.

Each flag of the linker and the compiler has a check that reads the finished program; a small program built
without the flag must be noticed. BUILD names the folder with the programs (default .darkroom/build).
"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / ".darkroom" / "build"))
STAGES = ("preprocess", "store", "batch", "train", "deploy", "predict")
PROGRAMS = ("darkroom", *(f"darkroom-{stage}" for stage in STAGES))


# ---- the programs as they were linked

def readelf(path, *what):
    return subprocess.run(["readelf", "--wide", *what, str(path)], check=True, capture_output=True, text=True).stdout


def check_pie(path):
    header, dynamic = readelf(path, "--file-header"), readelf(path, "--dynamic")
    return bool(re.search(r"Type:\s+DYN", header)) and bool(re.search(r"\(FLAGS_1\).*\bPIE\b", dynamic))


def check_relro(path):
    """Full: the table of addresses is filled at the start, and read only from then on."""
    now = re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(FLAGS_1\).*\bNOW\b|\(BIND_NOW\)", readelf(path, "--dynamic"))
    return "GNU_RELRO" in readelf(path, "--program-headers") and bool(now)


def check_stack_is_data(path):
    stack = re.search(r"GNU_STACK\s+(?:0x\w+\s+){5}(\S[RWE ]*?)\s+0x", readelf(path, "--program-headers"))
    return bool(stack) and "E" not in stack.group(1)


def symbols(path):
    return set(re.findall(r"UND\s+(\w+)", readelf(path, "--dyn-syms")))


def check_stack_protector(path):
    return "__stack_chk_fail" in symbols(path)


def check_fortify(path):
    return any(re.fullmatch(r"__\w+_chk", name) for name in symbols(path))


def check_search_path(path):
    """Where libraries are looked for: no part is relative, or empty, which is the current folder."""
    paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", readelf(path, "--dynamic"))
    return all(part.startswith("/") for each in paths for part in each.split(":"))


def check_no_text_relocations(path):
    return not re.search(r"\(TEXTREL\)|\(FLAGS\).*TEXTREL", readelf(path, "--dynamic"))


CHECKS = (check_pie, check_relro, check_stack_is_data, check_stack_protector, check_fortify, check_search_path,
          check_no_text_relocations)
FLAGS = ["-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fPIE", "-pie", "-Wl,-z,relro,-z,now"]
WITHOUT = {  # check -> the flags that it misses
    check_pie: ["-fno-PIE", "-no-pie"],
    check_relro: ["-Wl,-z,lazy", "-Wl,-z,norelro"],
    check_stack_is_data: ["-Wl,-z,execstack"],
    check_stack_protector: ["-fno-stack-protector"],
    check_fortify: ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0"],
    check_search_path: ["-Wl,-rpath,/nowhere:"],
}
PROGRAM = """
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    char text[16];
    strncpy(text, argv[argc - 1], sizeof text);
    return printf(text) + getchar();
}
"""


class Linked(unittest.TestCase):
    def setUp(self):
        cache = (BUILD / "CMakeCache.txt").read_text()
        if not re.search(r"^CMAKE_BUILD_TYPE:\w+=(Release)?$", cache, re.M) or not re.search(r"^SANITIZE:\w+=$", cache, re.M):
            self.skipTest(f"{BUILD} is no release")

    def test_every_program(self):
        wrong = [f"{name}: {check.__name__}" for name in PROGRAMS for check in CHECKS if not check(BUILD / name)]
        self.assertEqual([], wrong)

    def test_planted(self):
        compiler = shutil.which("gcc") or shutil.which("cc")
        with tempfile.TemporaryDirectory() as folder:
            source, program = pathlib.Path(folder) / "x.c", pathlib.Path(folder) / "x"
            source.write_text(PROGRAM)

            def build(*flags):
                subprocess.run([compiler, "-w", *FLAGS, *flags, "-o", program, source], check=True, capture_output=True)
            build()
            self.assertEqual([], [check.__name__ for check in CHECKS if not check(program)])
            for check, flags in WITHOUT.items():
                build(*flags)
                self.assertFalse(check(program), f"{check.__name__} does not notice {flags}")


# ---- the programs at work

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Worker:
    """A worker that finds no broker and no Redis, and goes on waiting."""

    def __init__(self, stage, *words, **settings):
        self.folder = tempfile.TemporaryDirectory()
        self.log = pathlib.Path(self.folder.name) / "log"
        nowhere = f"127.0.0.1:{free_port()}"
        environment = {"PATH": os.environ["PATH"], "DARKROOM_KAFKA_BOOTSTRAP_SERVERS": nowhere,
                       "DARKROOM_REDIS_URL": f"redis://{nowhere}/0", "DARKROOM_INSTANCE": "test", "DARKROOM_DRAIN_TIME": "1s", **settings}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(BUILD / f"darkroom-{stage}"), *words], env=environment, stdout=log, stderr=log)

    def pids(self):
        """Parent and child."""
        own = self.process.pid
        return [own, *map(int, pathlib.Path(f"/proc/{own}/task/{own}/children").read_text().split())]

    def page(self, port, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def wait_for_page(self, port):
        end = time.monotonic() + 10
        while True:
            try:
                return self.page(port, "/healthz")
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.1)

    def listens(self):
        """(address, port) of every socket on which parent or child takes connections, as /proc says them."""
        own = set()
        for pid in self.pids():
            for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                try:
                    own.add(os.readlink(fd))
                except OSError:
                    pass
        found = set()
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == "0A" and f"socket:[{rest[5]}]" in own:
                    address, port = local.split(":")
                    found.add((address, int(port, 16)))
        return found

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


LOOPBACK, EVERYWHERE = "0100007F", {"00000000", "0" * 32}


class Probe(unittest.TestCase):
    def listens(self, **settings):
        worker = Worker("batch", **settings)
        self.addCleanup(worker.stop)
        if "DARKROOM_PROBE" in settings:
            worker.wait_for_page(settings["DARKROOM_PROBE"].rsplit(":")[-1])
        else:
            time.sleep(1)
        return worker.listens()

    def test_nowhere_unless_told(self):
        self.assertEqual(set(), self.listens())

    def test_a_port_is_the_loopbacks(self):
        port = free_port()
        self.assertEqual({(LOOPBACK, port)}, self.listens(DARKROOM_PROBE=str(port)))

    def test_everywhere_when_told(self):
        port = free_port()
        (address, heard), = self.listens(DARKROOM_PROBE=f":{port}")
        self.assertIn(address, EVERYWHERE)
        self.assertEqual(port, heard)


class Rights(unittest.TestCase):
    def acls(self, *words):
        return subprocess.run([str(BUILD / "darkroom"), "topics", "acls", *words], capture_output=True, text=True, timeout=20,
                              env={"PATH": os.environ["PATH"]})

    def test_reply_topics(self):
        lines = self.acls("predict", "--reply-topics", "mine.*,yours").stdout.splitlines()
        self.assertEqual([["mine.*"], ["yours"]], [line.split()[-1:] for line in lines[-2:]])

    def test_reply_topics_are_not_the_fleets(self):
        for topics in ("*", "dark*", "mine,darkroom.models.deployed"):
            run = self.acls("--reply-topics", topics)
            self.assertEqual((2, ""), (run.returncode, run.stdout), topics)

    def test_prefix_principal_and_role(self):
        lines = self.acls("deploy", "--prefix", "a.", "--principal", "User:CN=*,O=x", "--format", "kafka-acls").stdout.splitlines()
        self.assertIn('--add --allow-principal "User:CN=deploy,O=x" --operation Read --group a.deploy --resource-pattern-type literal', lines)
        self.assertTrue(all('"User:CN=deploy,O=x"' in line for line in lines))
        self.assertEqual(2, self.acls("nobody").returncode)


class Secrets(unittest.TestCase):
    """A marked secret, in the places where it belongs and in those where it does not: it is never said."""

    mark = f"s3cr3t{uuid.uuid4().hex}"

    def silent(self, text, where):
        at = text.lower().find(self.mark.lower())
        self.assertEqual(-1, at, f"{where}: …{text[max(0, at - 200):at + 50]}…")

    def settings(self):
        return {"DARKROOM_KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "DARKROOM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
                "DARKROOM_KAFKA_SASL_USERNAME": "darkroom-store", "DARKROOM_KAFKA_SASL_PASSWORD": self.mark,
                "DARKROOM_KAFKA_SSL_KEY_PASSWORD": self.mark, "DARKROOM_KAFKA_DEBUG": "all",
                "DARKROOM_REDIS_URL": f"redis://darkroom:{self.mark}@127.0.0.1:{free_port()}/0",
                "DARKROOM_LOG_LEVEL": "debug"}

    def test_at_work(self):
        """In the environment, in files, and in the arguments: log, pages and titles of the processes."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        files = self.settings()
        for name in ("DARKROOM_REDIS_URL", "DARKROOM_KAFKA_SASL_PASSWORD"):
            path = pathlib.Path(folder.name) / name
            path.write_text(files.pop(name) + "\n")
            files[f"{name}_FILE"] = str(path)
        url = f"redis://:{self.mark}@127.0.0.1:{free_port()}/0"
        started = []
        for stage, words, settings in [("store", [], self.settings()), ("predict", [], self.settings()),
                                       ("store", [], {**files, "DARKROOM_LOG_FORMAT": "json"}),
                                       ("train", [f"--redis-url={url}"], {}), ("deploy", ["--redis-url", url], {})]:
            port = free_port()
            worker = Worker(stage, *words, DARKROOM_PROBE=str(port), **settings)
            self.addCleanup(worker.stop)
            started.append((worker, port, f"{stage} {words}"))
        for worker, port, _ in started:
            worker.wait_for_page(port)
        time.sleep(3)
        for worker, port, name in started:
            for path in ("/metrics", "/readyz", "/healthz", "/"):
                self.silent(worker.page(port, path), f"{path} of {name}")
            for pid in worker.pids():
                self.silent(pathlib.Path(f"/proc/{pid}/cmdline").read_text(), f"the title of {name}")
            log = worker.log.read_text()
            self.assertTrue("Connection refused" in log, f"{name} does not say what it waits for")
            self.silent(log, f"the log of {name}")

    def test_in_the_wrong_place(self):
        url = f"redis://:{self.mark}@127.0.0.1/0"
        for words, settings in [
            ((), {"DARKROOM_REDIS_URL": f"http://darkroom:{self.mark}@127.0.0.1"}),
            ((), {"DARKROOM_REDIS_URL": f"redis://darkroom:{self.mark}@127.0.0.1:port"}),
            ((), {"DARKROOM_REDIS_URL": self.mark}),
            ((), {"DARKROOM_REDIS_URL_FILE": self.mark}),
            ((), {"DARKROOM_KAFKA_SASL_PASSWORD_FILE": self.mark}),
            ((), {"DARKROOM_KAFKA_SASL_PASWORD": self.mark}),
            ((), {"DARKROOM_KAFKA_SASL_JAAS_CONFIG": f'ScramLoginModule required password="{self.mark}";'}),
            ((), {"DARKROOM_KAFKA_BOOTSTRAP_SERVERS": f"darkroom:{self.mark}@127.0.0.1:9092"}),
            ((), {"DARKROOM_KAFKA_SECURITY_PROTOCOL": "ssl", "DARKROOM_KAFKA_SSL_KEY_PEM": self.mark}),
            ((), {"DARKROOM_KAFKA_SECURITY_PROTOCOL": "ssl", "DARKROOM_KAFKA_SSL_CERTIFICATE_PEM": self.mark}),
            ((url,), {}),
            ((f"--redis-ulr={url}",), {}),
        ]:
            environment = {"PATH": os.environ["PATH"], **settings}
            for program in ("darkroom-store", "darkroom"):
                own = ["images", "export", "--csv"] if program == "darkroom" else []
                run = subprocess.run([str(BUILD / program), *own, *words], env=environment, capture_output=True, text=True,
                                     timeout=60)
                self.silent(run.stdout + run.stderr, f"{program} {words} {settings}")
                if program != "darkroom":
                    self.assertEqual(2, run.returncode, run.stderr)

    def test_in_help(self):
        environment = {"PATH": os.environ["PATH"], **self.settings()}
        for name in PROGRAMS:
            words = [["--help"], ["--version"]]
            words += [["status", "--help"], ["models", "list", "--help"], ["topics", "acls"]] if name == "darkroom" else [["--settings-markdown"]]
            for each in words:
                run = subprocess.run([str(BUILD / name), *each], env=environment, capture_output=True, text=True, timeout=20)
                self.assertEqual(0, run.returncode)
                self.silent(run.stdout + run.stderr, f"{name} {each}")


if __name__ == "__main__":
    unittest.main()
