"""cluster: a Kubernetes cluster as these tests see it. `kubectl proxy` on a socket of our own does the login, whatever
the kubeconfig asks for; what happens to Deployments and pods is watched and noted with the clock of this machine, and
the log of every container is kept, because it goes with its pod."""

import dataclasses
import datetime
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "live"))
import live  # noqa: E402

STAGE = "app.kubernetes.io/component"  # the label that says which stage a pod is of


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclasses.dataclass
class Pod:
    """What was seen of it, and when; 0: not yet."""
    name: str
    uid: str
    stage: str
    created: float
    running: float = 0
    ready: float = 0
    gone: float = 0
    restarts: int = 0
    node: str = ""
    phase: str = ""
    ending: bool = False

    def is_there(self):
        return not self.gone and self.phase not in ("Succeeded", "Failed")


class Cluster:
    def __init__(self, kubeconfig, namespace, folder):
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self.namespace, self.folder = namespace, pathlib.Path(folder)
        self.logs = self.folder / "pods"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "api"
        self.socket.unlink(missing_ok=True)
        self.proxy = subprocess.Popen(["kubectl", "proxy", f"--unix-socket={self.socket}"], env=self.environment,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        live.wait_for("kubectl proxy", 10, lambda: self.socket.exists() or self.proxy.poll() is not None)
        if self.proxy.poll() is not None:
            raise live.Failed(f"kubectl proxy: {self.proxy.stderr.read().decode().strip()}")
        self.lock, self.over = threading.Lock(), False
        self.pods = {}    # uid -> Pod
        self.scaled = []  # (time, stage, replicas that are asked for)

    def close(self):
        self.over = True
        self.proxy.terminate()
        self.proxy.wait()

    # ---- asking

    def kubectl(self, *words, check=True, text=None, seconds=180):
        try:
            run = subprocess.run(["kubectl", "--namespace", self.namespace, *words], env=self.environment, text=True,
                                 input=text, stdin=None if text else subprocess.DEVNULL, capture_output=True,
                                 timeout=seconds)
        except subprocess.TimeoutExpired:
            run = subprocess.CompletedProcess(words, 124, "", f"it was not done after {seconds} s")
        if check and run.returncode:
            raise live.Failed(f"kubectl {' '.join(words)}: {run.stderr.strip()}")
        return run

    def open(self, path, seconds=10, how="GET"):
        connection = Connection(self.socket, seconds)
        connection.request(how, path)
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read().decode(errors="replace")
            connection.close()
            raise live.Failed(f"{how} {path}: {answer.status}: {text[:300]}")
        return answer

    def get(self, path):
        with self.open(path) as answer:
            return json.load(answer)

    def of(self, kind, api="apis/apps/v1"):
        """The objects of a kind in the namespace."""
        return self.get(f"/{api}/namespaces/{self.namespace}/{kind}")["items"]

    def scaled_objects(self):
        return self.of("scaledobjects", "apis/keda.sh/v1alpha1")

    def times(self):
        """Seconds between two looks of KEDA's at predict's lag, and that it waits before a stage goes to zero."""
        found = {each["metadata"]["name"]: each["spec"] for each in self.scaled_objects()}
        return found["predict"]["pollingInterval"], max(each["cooldownPeriod"] for each in found.values())

    def delete_at_once(self, pod):
        """What kubectl delete pod --force asks for, without the time that kubectl takes to start."""
        try:
            self.open(f"/api/v1/namespaces/{self.namespace}/pods/{pod.name}?gracePeriodSeconds=0", how="DELETE").close()
        except live.Failed as failed:  # it has gone by itself
            if ": 404" not in str(failed):
                raise

    # ---- watching

    def watch(self):
        """From now on; the namespace has to be there."""
        for path, take in (("api/v1", self.take_pod), ("apis/apps/v1", self.take_deployment)):
            kind = "pods" if take == self.take_pod else "deployments"
            threading.Thread(target=self.keep_watching, daemon=True,
                             args=(f"/{path}/namespaces/{self.namespace}/{kind}", take)).start()

    def keep_watching(self, path, take):
        while not self.over:
            try:
                found = self.get(path)
                with self.lock:
                    for each in found["items"]:
                        take(time.time(), "ADDED", each)
                    if take == self.take_pod:
                        there = {each["metadata"]["uid"] for each in found["items"]}
                        for pod in self.pods.values():
                            pod.gone = pod.gone or (0 if pod.uid in there else time.time())
                version = found["metadata"]["resourceVersion"]
                with self.open(f"{path}?watch=1&timeoutSeconds=3600&resourceVersion={version}", seconds=3700) as answer:
                    for line in answer:
                        event = json.loads(line)
                        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                            with self.lock:
                                take(time.time(), event["type"], event["object"])
            except (OSError, ValueError, http.client.HTTPException, live.Failed):
                time.sleep(0.2)

    def take_deployment(self, now, kind, found):
        stage, replicas = found["metadata"]["labels"].get(STAGE), found["spec"].get("replicas", 1)
        last = next((n for _, each, n in reversed(self.scaled) if each == stage), None)
        if stage in live.STAGES and replicas != last:
            self.scaled.append((now, stage, replicas))

    def take_pod(self, now, kind, found):
        meta, status = found["metadata"], found.get("status", {})
        stage = meta.get("labels", {}).get(STAGE)
        if stage not in live.STAGES:
            return
        pod = self.pods.get(meta["uid"])
        if not pod:
            pod = self.pods[meta["uid"]] = Pod(meta["name"], meta["uid"], stage, now)
        pod.phase, pod.node = status.get("phase", ""), found["spec"].get("nodeName", "")
        pod.ending = "deletionTimestamp" in meta
        for each in status.get("containerStatuses", []):
            pod.restarts = max(pod.restarts, each.get("restartCount", 0))
            if not pod.running and {"running", "terminated"} & each.get("state", {}).keys():
                pod.running = now
                threading.Thread(target=self.keep_log, args=(pod, each["name"]), daemon=True).start()
            if each.get("ready"):
                pod.ready = pod.ready or now
        if kind == "DELETED":
            pod.gone = now

    def log(self, pod):
        return self.logs / f"{pod.name}.log"

    def keep_log(self, pod, container):
        """Follows it; where the kubelet goes away meanwhile, it is read again from its beginning."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod.name}/log?container={container}&follow=true"
        while not self.over:
            try:
                with self.open(path, seconds=3700) as answer, open(self.log(pod), "wb") as log:
                    while data := answer.read1(1 << 16):
                        log.write(data)
                        log.flush()
            except (OSError, http.client.HTTPException, live.Failed):
                pass
            if not pod.is_there():
                return
            time.sleep(0.5)

    # ---- what was seen

    def of_stage(self, stage=None):
        """Pods that are there; those that have to end are not among them."""
        with self.lock:
            return [pod for pod in self.pods.values()
                    if pod.is_there() and not pod.ending and stage in (None, pod.stage)]

    def at_zero(self):
        """Nothing runs and nothing is asked for."""
        with self.lock:
            wanted = {stage: replicas for _, stage, replicas in self.scaled}
            return not any(wanted.values()) and not any(pod.is_there() for pod in self.pods.values())

    def asked_for(self, stage, since):
        """When its Deployment was scaled up from zero, or its first pod came."""
        with self.lock:
            times = [when for when, each, n in self.scaled if each == stage and n and when > since]
            times += [pod.created for pod in self.pods.values() if pod.stage == stage and pod.created > since]
        return min(times, default=0)

    def since(self, when):
        with self.lock:
            return [pod for pod in self.pods.values() if pod.created > when]

    def lines(self, pod):
        """(time, text) of its log; the workers write JSON."""
        path, lines = self.log(pod), []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
            try:
                told = json.loads(line)
                lines.append((seconds_of(told["time"]), told["msg"]))
            except (ValueError, KeyError):
                lines.append((0, line))
        return lines

    def tail(self, pod, count=8):
        return "\n".join(f"    {text}" for _, text in self.lines(pod)[-count:])


def seconds_of(text):
    return datetime.datetime.fromisoformat(text).timestamp()
