#!/usr/bin/env python3
"""No broker, no Redis, wrong settings: a worker says what is missing, is not ready, and goes on when it
comes; what will never work ends at once with one line and exit code 2."""

import subprocess
import sys
import time
import unittest

import live


class Proxy:
    """A door to a real server that can stay shut: before open() nobody listens on its port."""

    def __init__(self, url):
        self.target = url.split("://")[-1].split("/")[0]
        self.port = live.free_port()
        self.process = None

    def open(self):
        self.process = subprocess.Popen([sys.executable, "-c", FORWARD, str(self.port), self.target])

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()


FORWARD = """
import socket, sys, threading
host, port = sys.argv[2].rsplit(":", 1)
def pipe(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
door = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    a, _ = door.accept()
    b = socket.create_connection((host, int(port)))
    for x, y in ((a, b), (b, a)): threading.Thread(target=pipe, args=(x, y), daemon=True).start()
"""


class Outage(live.LiveTest):
    stages = ()

    def waits(self, stage, **missing):
        """The worker is alive, says what is missing now and then, and is not ready."""
        worker = live.Worker(self.fleet, stage, **missing).start()
        self.addCleanup(worker.stop)
        live.wait_for("the probe to answer", 10, lambda: worker.probe("/healthz")[0])
        time.sleep(5)
        self.assertIsNone(worker.process.poll(), worker.tail())
        self.assertEqual(503, worker.probe("/readyz")[0])
        lines = worker.log.read_text().splitlines()
        return worker, lines

    def test_no_broker_at_start(self):
        # The door stands for the broker until it has told its own address, which a client then goes to.
        door = Proxy(live.KAFKA)
        self.addCleanup(door.close)
        worker, lines = self.waits("preprocess", kafka_bootstrap_servers=f"127.0.0.1:{door.port}")
        said = [line for line in lines if str(door.port) in line]
        self.assertTrue(1 <= len(said) <= 8, "\n".join(lines))
        door.open()
        live.wait_for("the worker to be ready", 40, worker.ready)

    def test_no_redis_at_start(self):
        door = Proxy(live.REDIS)
        self.addCleanup(door.close)
        worker, lines = self.waits("store", redis_url=f"redis://127.0.0.1:{door.port}/0")
        said = [line for line in lines if str(door.port) in line]
        self.assertTrue(1 <= len(said) <= 8, "\n".join(lines))
        door.open()
        live.wait_for("the worker to be ready", 40, worker.ready)

    def refused(self, stage, name, value, *words):
        environment = {**self.fleet.environment, **({name: value} if name else {})}
        run = subprocess.run([str(live.BUILD / f"darkroom-{stage}"), *words], env=environment, timeout=20,
                             capture_output=True, text=True)
        lines = [line for line in (run.stdout + run.stderr).splitlines() if " info " not in line]
        self.assertEqual((2, 1), (run.returncode, len(lines)), lines)
        return lines[0]

    def test_a_wrong_value_is_one_line_and_exit_2(self):
        line = self.refused("predict", "DARKROOM_LOG_FORMAT", "yaml")
        self.assertIn("DARKROOM_LOG_FORMAT", line)
        self.assertIn("json", line)

    def test_a_wrong_flag_is_one_line_and_exit_2(self):
        self.assertIn("--no-such-flag", self.refused("store", None, None, "--no-such-flag=1"))

    def test_a_wrong_client_property_is_one_line_and_exit_2(self):
        self.assertIn("no.such.property", self.refused("batch", "DARKROOM_KAFKA_NO_SUCH_PROPERTY", "1").lower())

    def test_a_wrong_spec_is_one_line_and_exit_2(self):
        path = self.scratch / "models.json"
        path.write_text('{"models": {"default": {"network": "transformer"}}}')
        line = self.refused("train", "DARKROOM_MODELS", str(path))
        self.assertIn("network", line)
        self.assertIn("cnn", line)

    def test_workers_drain_on_sigterm(self):
        workers = [live.Worker(self.fleet, stage, 9).start() for stage in live.STAGES]
        for worker in workers:
            self.addCleanup(worker.stop)
        for worker in workers:
            live.wait_for(f"{worker.name} to be ready", 30, worker.ready)
        began = time.monotonic()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            self.assertEqual(0, worker.process.wait(15), worker.tail())
        self.assertLess(time.monotonic() - began, 10)


if __name__ == "__main__":
    unittest.main()
