#!/usr/bin/env python3
"""What goes wrong on a node, and that nothing of it is left: killed processes, pods that take all they can get, a full disk, a
registry that goes away, a cable that is pulled.

Without `--all` the quick ones run, on a server that is its own node; with it also those that need an agent or minutes, and leaks
are looked for after 200 pods. Needs root, containerd, runc, CNI plugins and busybox-static; `KILN_BIN` names the binary.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import time

import oci
from harness import KILN, KUBECTL, run
from nodes import Nodes
from process import Process

ALL = "--all" in sys.argv
REGISTRY = "10.99.8.1:5000"
HALF_REGISTRY = pathlib.Path(__file__).with_name("half_registry.py")
PIDS = 64
NODES = Nodes("faults", {"hub": "10.99.8.1", **({"pi": "10.99.8.2"} if ALL else {})})
KUBE = NODES.kube


def client(node):
    """The beginning of a command of containerd's own client."""
    return ["ctr", "--address", NODES.folder / node / "containerd-state/containerd.sock", "--namespace", "k8s.io"]


def ctr(node, *arguments):
    """What containerd's own client says, line by line."""
    return run(*client(node), *arguments).stdout.splitlines()


def get(kind, name):
    """An object as the API has it."""
    return json.loads(KUBE("get", kind, name, "-o", "json").stdout)


def status(name):
    """The status of a pod's only container."""
    return get("pod", name)["status"]["containerStatuses"][0]


def until(name, path, value, seconds=60, kind="pod"):
    """Waits by kubectl's watch until a field has a value."""
    KUBE("wait", f"{kind}/{name}", f"--for=jsonpath={path}={value}", f"--timeout={seconds}s", timeout=seconds + 30)


def condition(node, kind, value, seconds):
    """Waits until a condition of a node is so."""
    KUBE("wait", f"node/{node}", f"--for=condition={kind}={value}", f"--timeout={seconds}s", timeout=seconds + 30)


def delete(*names, seconds=60):
    """Deletes pods and waits until they are gone."""
    KUBE("delete", "pod", *names, f"--timeout={seconds}s", timeout=seconds + 30)


def process_of(node, name):
    """The process id of a pod's container, on this machine."""
    container = status(name)["containerID"].removeprefix("containerd://")
    [line] = [line.split() for line in ctr(node, "tasks", "list") if line.startswith(container)]
    return int(line[1])


def cgroup_of(process, controller):
    """The folder of a process' cgroup, and of the pod's above it."""
    for line in pathlib.Path(f"/proc/{process}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            return pathlib.Path("/sys/fs/cgroup" + path).parent
        if controller in controllers.split(","):
            return pathlib.Path(f"/sys/fs/cgroup/{controller}{path}").parent
    raise AssertionError(f"process {process} has no cgroup of {controller}")


def runs(process):
    """Whether a process runs: one that has ended may still wait for its parent."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def daemon(node):
    """The process id of a node's containerd."""
    return int((NODES.folder / node / "containerd-state/containerd.pid").read_text())


# --- The quick ones -----------------------------------------------------------------------------------------------------------

def a_server_is_ready():
    if ALL:
        # A disk of its own, that a pod can fill.
        (NODES.folder / "pi").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=256m,mode=755", "tmpfs", NODES.folder / "pi")
    NODES.flags = {"hub": ["--kubelet-arg", f"pod-max-pids={PIDS}"],
                   "pi": ["--kubelet-arg", "eviction-hard=memory.available<50Mi,nodefs.available<20%,imagefs.available<20%",
                          "--kubelet-arg", "eviction-pressure-transition-period=10s"]}
    NODES.start_all()
    KUBE("wait", "--for=create", "serviceaccount/default", "--timeout=30s")


def a_container_whose_shim_is_killed_is_run_anew():
    NODES.apply(NODES.pod("steady", "hub"), NODES.pod("shimless", "hub"))
    NODES.ready("steady", "shimless")
    before = status("steady")["containerID"]
    process = process_of("hub", "shimless")
    shim = int(re.search(r"PPid:\s+(\d+)", pathlib.Path(f"/proc/{process}/status").read_text())[1])
    assert b"containerd-shim" in pathlib.Path(f"/proc/{shim}/cmdline").read_bytes()
    os.kill(shim, signal.SIGKILL)
    until("shimless", "{.status.containerStatuses[0].restartCount}", "1")
    NODES.ready("shimless")
    assert not runs(process), "what the shim ran has ended"
    assert "up" in NODES.within("shimless", "echo up").stdout
    after = status("steady")
    assert after["containerID"] == before and after["restartCount"] == 0, "its neighbour does not notice"
    delete("shimless")


def a_container_that_takes_too_much_memory_is_ended_alone():
    hog = NODES.pod("hog", "hub", "tail /dev/zero", resources={"limits": {"memory": "24Mi"}})
    hog["spec"]["restartPolicy"] = "Never"
    NODES.apply(hog)
    until("hog", "{.status.phase}", "Failed")
    ended = status("hog")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137), ended
    assert status("steady")["restartCount"] == 0 and get("pod", "steady")["status"]["phase"] == "Running"
    delete("hog")


def a_pod_that_forks_without_end_stays_within_its_limit():
    bomb = NODES.pod("bomb", "hub", "trap 'exit 0' TERM; while :; do awk 'BEGIN { while (1) system(\"sleep 1000 &\") }'; done",
                     resources={"limits": {"cpu": "300m"}})
    NODES.apply(bomb)
    until("bomb", "{.status.phase}", "Running")
    group = cgroup_of(process_of("hub", "bomb"), "pids")
    assert (group / "pids.max").read_text().strip() == str(PIDS)
    NODES.until("the pod has all processes that it may have", lambda: int((group / "pids.current").read_text()) >= PIDS - 2)
    NODES.apply(NODES.pod("beside", "hub"))
    NODES.ready("beside")
    assert "up" in NODES.within("beside", "echo up").stdout
    delete("bomb", "beside")
    assert not group.exists(), "the pod's cgroup is gone with all that was in it"


def shims(folder):
    """How many shims of a node run."""
    found = 0
    for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = place.read_bytes()
            found += b"containerd-shim" in command and f"{folder}/".encode() in command
    return found


def forgotten_networks():
    """How many network namespaces of pods have no process any more."""
    used = set()
    for place in pathlib.Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            used.add(place.stat().st_ino)
    found = 0
    for place in pathlib.Path("/run/netns").glob("cni-*"):
        with contextlib.suppress(FileNotFoundError):
            found += place.stat().st_ino not in used
    return found


def below(folder):
    """The folders and the files below a folder; what goes away meanwhile is left out."""
    folders, files = [], []
    for _, inner, names in os.walk(folder):
        folders += inner
        files += names
    return folders, files


def count(node):
    """What there is of a node on this machine, by kinds that pods could leave behind."""
    kiln, runtime = NODES.running[node].process.pid, daemon(node)
    folder = str(NODES.folder / node)
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    kubepods = cgroup_of(process_of(node, "steady" if node == "hub" else "keeps"), "memory").parent.parent

    def number(what, process):
        return len(list(pathlib.Path(f"/proc/{process}/{what}").iterdir()))

    def sockets(process):
        links = []
        for entry in pathlib.Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry))
        return len([link for link in links if link.startswith("socket:")]), len(links)

    connected, opened = sockets(kiln)
    return {
        "mounts": len([line for line in mounts if folder in line]),
        "network namespaces": forgotten_networks(),
        "cgroups": len(below(kubepods)[0]),
        "tasks": len(ctr(node, "tasks", "list")) - 1,
        "containers": len(ctr(node, "containers", "list")) - 1,
        "leases": len(ctr(node, "leases", "list")) - 1,
        "snapshots": len(ctr(node, "snapshots", "list")) - 1,
        "shims": shims(folder),
        "pods' folders": len(list((NODES.folder / node / "kubelet/pods").iterdir())),
        "links": len([line for line in NODES.ip(node, "-o", "link").stdout.splitlines() if "veth" in line]),
        "addresses": len([name for name in below(NODES.folder / node / "agent/cni/networks")[1] if name[0].isdigit()]),
        "kiln's sockets": connected,
        "kiln's files": opened,
        "kiln's threads": number("task", kiln),
        "containerd's files": number("fd", runtime),
    }


# Pools may grow a little, and shrink when they like.
SLACK = {"kiln's threads": 8, "containerd's files": 8, "kiln's files": 6, "kiln's sockets": 4}


def pods_come_and_go_and_leave_nothing():
    many, batch = (200, 50) if ALL else (16, 16)
    # What is made once and stays is there after the first.
    NODES.apply(NODES.pod("once", "hub"))
    NODES.ready("once")
    delete("once")
    before = count("hub")
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "data": {"key": "value"}}
    NODES.apply(data)
    for first in range(0, many, batch):
        pods = []
        for number in range(first, first + batch):
            pod = NODES.pod(f"many-{number}", "hub", "exec sleep 10000", volumeMounts=[
                {"name": "memory", "mountPath": "/m"}, {"name": "data", "mountPath": "/d/key", "subPath": "key"}])
            pod["spec"]["terminationGracePeriodSeconds"] = 0
            pod["spec"]["volumes"] = [{"name": "memory", "emptyDir": {"medium": "Memory"}},
                                      {"name": "data", "configMap": {"name": "data"}}]
            pods.append(pod)
        NODES.apply(*pods)
        names = [pod["metadata"]["name"] for pod in pods]
        NODES.ready(*names, seconds=180)
        delete(*names, seconds=180)
    left = {}

    def is_clean():
        left.clear()
        after = count("hub")
        left.update({kind: (before[kind], found) for kind, found in after.items() if found > before[kind] + SLACK.get(kind, 0)})
        return not left

    try:
        NODES.until("nothing is left of pods", is_clean, 30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from error


def pods_end_in_order_when_the_machine_does():
    node = "pi" if ALL else "hub"
    slow, last = (NODES.pod(name, node, f"trap 'sleep {wait}; exit 0' TERM; while :; do sleep 1; done")
                  for name, wait in (("slow", 1), ("last", 0)))
    last["spec"]["priorityClassName"] = "system-node-critical"
    NODES.apply(slow, last)
    NODES.ready("slow", "last")
    # As PID 1 of an image tells it, and a service manager may.
    NODES.running[node].signal(signal.SIGPWR)
    assert NODES.running[node].process.wait(60) == 0
    ended = {}
    NODES.start(node)
    # By the time that another pod runs the kubelet has looked at what is left of these.
    KUBE.ready(node, 60)
    NODES.apply(NODES.pod("fresh", node))
    NODES.ready("fresh")
    for name in ("slow", "last"):
        found = get("pod", name)["status"]
        assert (found["phase"], found.get("reason")) == ("Failed", "Terminated"), found
        assert found["message"] == "Pod was terminated in response to imminent node shutdown.", found
        ended[name] = found["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    assert ended["slow"] <= ended["last"], ended
    delete("slow", "last", "fresh")


# --- By hand ------------------------------------------------------------------------------------------------------------------

def kiln_and_containerd_are_killed_under_pods_and_these_do_not_notice():
    NODES.apply(NODES.pod("keeps", "pi"))
    NODES.ready("keeps")
    before = status("keeps")
    NODES.running["pi"].kill()
    os.kill(daemon("pi"), signal.SIGKILL)
    NODES.start("pi")
    KUBE.ready("pi", 60)
    NODES.until("the pod can be reached again", lambda: NODES.within("keeps", "echo up", ok=False).returncode == 0)
    after = status("keeps")
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0), after


def a_pod_that_fills_the_disk_is_ended_and_the_node_recovers():
    fills = NODES.pod("fills", "pi", "dd if=/dev/zero of=/data/all bs=1M; sleep 1000",
                      volumeMounts=[{"name": "data", "mountPath": "/data"}])
    fills["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    NODES.apply(fills)
    until("fills", "{.status.phase}", "Failed", 90)
    found = get("pod", "fills")["status"]
    assert found["reason"] == "Evicted", found
    assert found["message"].startswith("The node was low on resource: ephemeral-storage. Threshold quantity: "), found["message"]
    disruption = [one for one in found["conditions"] if one["type"] == "DisruptionTarget"]
    assert disruption and disruption[0]["reason"] == "TerminationByKubelet", found["conditions"]
    condition("pi", "DiskPressure", "true", 30)
    condition("pi", "DiskPressure", "false", 60)
    assert get("pod", "keeps")["status"]["phase"] == "Running"
    delete("fills")
    NODES.apply(NODES.pod("next", "pi"))
    NODES.ready("next")
    delete("next")


def a_registry_that_goes_away_in_mid_pull_is_tried_again():
    # A layer of its own, which is nowhere else.
    oci.busybox(NODES.folder / "registry.tar", f"{REGISTRY}/app:1", motd=b"a registry")
    for mode in ("half", "whole"):
        registry = Process(*NODES.inside("hub"), sys.executable, HALF_REGISTRY, REGISTRY, NODES.folder / "registry.tar", mode)
        registry.expect("serving")
        if mode == "half":
            folder = NODES.folder / "pi/agent/registries.d" / REGISTRY
            folder.mkdir(parents=True)
            (folder / "hosts.toml").write_text(f'[host."http://{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n')
            NODES.apply(NODES.pod("pulls", "pi", image=f"{REGISTRY}/app:1"))
            registry.expect("half a layer is sent", 30)
            registry.process.wait(30)
            until("pulls", "{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff", 60)
        else:
            NODES.ready("pulls", seconds=90)
            registry.kill()
    delete("pulls")


def a_node_whose_cable_is_pulled_comes_back_with_its_pods():
    before = status("keeps")
    NODES.ip("switch", "link", "set", "pi", "down")
    condition("pi", "Ready", "Unknown", 120)
    until("keeps", '{.status.conditions[?(@.type=="Ready")].status}', "False")
    NODES.ip("switch", "link", "set", "pi", "up")
    condition("pi", "Ready", "true", 60)
    NODES.ready("keeps")
    NODES.until("the pod can be reached again", lambda: NODES.within("keeps", "echo up", ok=False).returncode == 0)
    after = status("keeps")
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0), after
    delete("keeps")


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    sys.argv = [argument for argument in sys.argv if argument != "--all"]
    sys.exit(NODES.run([
        a_server_is_ready,
        a_container_whose_shim_is_killed_is_run_anew,
        a_container_that_takes_too_much_memory_is_ended_alone,
        a_pod_that_forks_without_end_stays_within_its_limit,
        pods_come_and_go_and_leave_nothing,
        *([
            kiln_and_containerd_are_killed_under_pods_and_these_do_not_notice,
            a_pod_that_fills_the_disk_is_ended_and_the_node_recovers,
            a_registry_that_goes_away_in_mid_pull_is_tried_again,
            a_node_whose_cable_is_pulled_comes_back_with_its_pods,
        ] if ALL else []),
        pods_end_in_order_when_the_machine_does,
    ]))
