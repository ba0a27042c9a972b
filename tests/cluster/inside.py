"""inside: how the pods run. What the API server has is one thing; what the kernel says of the processes is another, and
that counts, where this machine is the node: a container's processes are found by its id in their cgroup."""

import json
import os
import pathlib

import live

USER = 65532
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh", "csh", "fish", "busybox", "toybox", "apt", "apt-get", "dpkg", "apk",
          "perl", "python3"}


def processes(container):
    """Pids, oldest first; none where it runs on another machine."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if container in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
            except OSError:
                pass
    return sorted(found)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def root_is_read_only(pid):
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        words = line.split()
        if words[4] == "/":
            return "ro" in words[5].split(",")
    return False


def of_the_kernel(pids):
    """What is not as it has to be, of each process."""
    wrong = set()
    for pid in pids:
        told = status_of(pid)
        wrong.update(f"{name} {told[name].split()}" for name, wanted in (
            ("Uid", [str(USER)] * 4), ("Gid", [str(USER)] * 4), ("CapEff", ["0" * 16]), ("CapPrm", ["0" * 16]),
            ("CapBnd", ["0" * 16]), ("NoNewPrivs", ["1"]), ("Seccomp", ["2"])) if told[name].split() != wanted)
        if not root_is_read_only(pid):
            wrong.add("the root can be written")
    return wrong


def of_the_spec(pod):
    """The same, of what the API server has."""
    spec, wrong = pod["spec"], set()
    if spec.get("automountServiceAccountToken") is not False or any(
            "token" in json.dumps(volume) for volume in spec.get("volumes", [])):
        wrong.add("a service account's token")
    if spec.get("enableServiceLinks") is not False:
        wrong.add("service links")
    for container in spec["containers"] + spec.get("initContainers", []):
        asked = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
        for name, wanted in (("runAsNonRoot", True), ("allowPrivilegeEscalation", False),
                             ("readOnlyRootFilesystem", True), ("capabilities", {"drop": ["ALL"]}),
                             ("seccompProfile", {"type": "RuntimeDefault"})):
            if asked.get(name) != wanted:
                wrong.add(f"{name} is {asked.get(name)}")
        for name in ("requests", "limits"):
            if "memory" not in container.get("resources", {}).get(name, {}):
                wrong.add(f"no {name} of memory")
    return wrong


def resident(pids):
    """Bytes: of all pages, of the pages with those that are shared divided by who shares, and the most of the first."""
    rss = sum(int(status_of(pid)["VmRSS"].split()[0]) for pid in pids) * 1024
    most = sum(int(status_of(pid)["VmHWM"].split()[0]) for pid in pids) * 1024
    pss = sum(int(line.split()[1]) for pid in pids
              for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
              if line.startswith("Pss:")) * 1024
    return rss, pss, most


def files_of(pid):
    """Names of all programs in the image, and bytes of all its files, as the container sees them."""
    root, names, size = f"/proc/{pid}/root", set(), 0
    device = os.stat(root).st_dev
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if os.lstat(f"{folder}/{each}").st_dev == device]
        for each in files:
            found = os.lstat(f"{folder}/{each}")
            size += found.st_size
            if found.st_mode & 0o111:
                names.add(each)
    return names, size


def look(there, verdicts):
    level = there.get(f"/api/v1/namespaces/{there.namespace}")["metadata"].get("labels", {}).get(
        "pod-security.kubernetes.io/enforce")
    verdicts.check("pod security that the namespace enforces", "restricted", level)
    image, here = None, 0
    print(f"      {'stage':<12}{'processes':>10}{'resident MB':>13}{'of its own':>12}{'at most':>9}")
    for stage in live.STAGES:
        pod = next(pod for pod in there.of_stage(stage) if pod.ready)
        found = there.get(f"/api/v1/namespaces/{there.namespace}/pods/{pod.name}")
        verdicts.check(f"{stage}: asks for what it must not", set(), of_the_spec(found))
        told = found["status"]["containerStatuses"][0]
        image = told["image"]
        shell = there.kubectl("exec", pod.name, "--", "sh", "-c", "true", check=False)
        verdicts.check(f"{stage}: a shell that starts", False, shell.returncode == 0)
        pids = processes(told["containerID"].rsplit("/", 1)[-1])
        if not pids:
            continue
        here += 1
        verdicts.check(f"{stage}: what the kernel says", set(), of_the_kernel(pids))
        rss, pss, most = resident(pids)
        print(f"      {stage:<12}{len(pids):>10}{rss / 1e6:>13.1f}{pss / 1e6:>12.1f}{most / 1e6:>9.1f}")
    if here:
        names, size = files_of(pids[0])
        verdicts.check("shells and package managers in the image", set(), names & SHELLS)
        print(f"      its files are {size / 1e6:.1f} MB, {len(names)} of them programs and libraries")
    else:
        print("skip  what the kernel says: the pods run on another machine")
    nodes = there.get("/api/v1/nodes")["items"]
    sizes = [each["sizeBytes"] for node in nodes for each in node["status"].get("images", [])
             if image in (each.get("names") or [])]
    print(f"      image {image}: {max(sizes, default=0) / 1e6:.1f} MB on its node")
