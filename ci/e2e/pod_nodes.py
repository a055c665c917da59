"""A server that is its own node and an agent, each in a network namespace with a containerd of its own, and what scenarios ask of their
pods.

Needs root, containerd, runc, CNI plugins and busybox-static. `clean` removes namespaces, mounts and containers.
"""
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import time

from harness import KILN, Kubectl, run, scratch
from process import Process

FOLDER = scratch("pods")
NETS = {"hub": "10.99.7.1", "pi": "10.99.7.2"}
URL = f"https://{NETS['hub']}:6443"
# Of this run alone, should another one run beside it.
PREFIX = f"kp{os.getpid()}"
LOGS = pathlib.Path("/var/log/pods")
# How full the machine's disk is is none of the scenarios' business.
ROOM = ["--kubelet-arg", "eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%"]
RUNNING = {}
FIGURES = {}
CGROUPS = pathlib.Path("/sys/fs/cgroup")


def inside(net):
    """The prefix of a command that runs in a network namespace, and in the mounts of the host."""
    return ["nsenter", f"--net=/run/netns/{PREFIX}-{net}"]


class Inside(Kubectl):
    """kubectl in the server's network."""

    def __init__(self):
        super().__init__(FOLDER / "kubeconfig", URL)
        self.base = [*inside("hub"), *self.base]


KUBE = Inside()


def network():
    """Two namespaces that a cable connects."""
    for net in NETS:
        run("ip", "netns", "add", f"{PREFIX}-{net}")
    ends = {"hub": f"{PREFIX}a", "pi": f"{PREFIX}b"}
    run("ip", "link", "add", ends["hub"], "type", "veth", "peer", "name", ends["pi"])
    for net, end in ends.items():
        run("ip", "link", "set", end, "netns", f"{PREFIX}-{net}")
        ip = [*inside(net), "ip"]
        run(*ip, "link", "set", "lo", "up")
        run(*ip, "address", "add", f"{NETS[net]}/24", "dev", end)
        run(*ip, "link", "set", end, "up")
        run(*ip, "route", "add", "default", "dev", end)


def start_server():
    """Starts the server with its own node."""
    RUNNING["hub"] = Process(*inside("hub"), KILN, "server", "--bind-address", NETS["hub"], "--disable", "mdns", "--node-name", "hub",
                             *ROOM, "--data-dir", FOLDER / "hub", KILN_BOARD_ID="a" * 64)
    RUNNING["hub"].expect("serving url=")


def start_agent():
    """Starts the agent."""
    token = (FOLDER / "token").read_text()
    RUNNING["pi"] = Process(*inside("pi"), KILN, "agent", "--server", URL, "--node-name", "pi", *ROOM,
                            "--data-dir", FOLDER / "pi", KILN_BOARD_ID="b" * 64, KILN_TOKEN=token)
    RUNNING["pi"].expect('joined node="pi"')


def pod(name, node="hub", **spec):
    """A pod with one busybox, as an object."""
    container = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 1; done"]}
    container.update(spec.pop("main", {}))
    base = {**({"nodeName": node} if node else {}), "terminationGracePeriodSeconds": 5, "automountServiceAccountToken": False,
            "containers": [container, *spec.pop("more", [])]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**base, **spec}}


def apply(*pods):
    """Creates pods."""
    KUBE("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(pods)}))


def get(name):
    """A pod as the API has it."""
    return json.loads(KUBE("get", "pod", name, "-o", "json").stdout)


def until(name, path, value=None, seconds=60):
    """Waits by kubectl's watch until a field of a pod is there, or has a value."""
    wanted = f"--for=jsonpath={path}" + (f"={value}" if value is not None else "")
    done = KUBE("wait", f"pod/{name}", wanted, f"--timeout={seconds}s", timeout=seconds + 30, ok=False)
    found = KUBE("get", "pod", name, "-o", "jsonpath={.status}", ok=False).stdout if done.returncode else ""
    assert done.returncode == 0, f"{name}: no {path} {value} within {seconds} s: {found}\n{events(name)}"


def phase(name, wanted, seconds=60):
    """Waits for a phase."""
    until(name, "{.status.phase}", wanted, seconds)


def events(name):
    """The reasons and messages of a pod's events, in the order of their making."""
    found = json.loads(KUBE("get", "events", f"--field-selector=involvedObject.name={name}", "-o", "json").stdout)["items"]
    return [(event["reason"], event["message"]) for event in found]


def delete(name, seconds=30):
    """Deletes a pod and waits until it is gone."""
    KUBE("delete", "pod", name, f"--timeout={seconds}s", timeout=seconds + 30)


def logs(name, container="main", attempt=None):
    """What a container wrote, from the files on the machine."""
    found = list(LOGS.glob(f"default_{name}_*"))
    # Another run may have a pod of the name.
    folder = found[0] if len(found) == 1 else LOGS / f"default_{name}_{get(name)['metadata']['uid']}"
    files = sorted((folder / container).glob("*.log"), key=lambda path: int(path.name.split(".")[0]))
    chosen = files[-1] if attempt is None else folder / container / f"{attempt}.log"
    return "".join(line.split(" ", 3)[3] for line in chosen.read_text().splitlines(keepends=True))


def client(node):
    """The beginning of a command of containerd's own client, at a node's socket."""
    return ["ctr", "--address", FOLDER / node / "containerd-state/containerd.sock", "--namespace", "k8s.io"]


def ctr(node, *arguments):
    """Runs containerd's own client."""
    return run(*client(node), *arguments).stdout


def tasks(node):
    """How many containers and sandboxes run."""
    return len([line for line in ctr(node, "tasks", "list").splitlines()[1:] if "RUNNING" in line])


def status(name, container="main", kind="containerStatuses"):
    """The status of a container."""
    return next(one for one in get(name)["status"][kind] if one["name"] == container)


def script(*lines):
    """A container that runs these lines and ends."""
    return {"command": ["sh", "-c", "\n".join(lines)]}


def told(name, container="main"):
    """What a container wrote as `key=value`, by key."""
    return dict(line.split("=", 1) for line in logs(name, container).splitlines() if "=" in line)


def once(name, lines, wanted="Succeeded", **spec):
    """Runs a pod that ends by itself, and answers what it told. It is left to be looked at."""
    one = script(*lines)
    one.update(spec.pop("main", {}))
    apply(pod(name, restartPolicy="Never", main=one, **spec))
    phase(name, wanted)
    return told(name)


def create(kind, name, **fields):
    """Creates an object of the default namespace."""
    group = {"PersistentVolume": "v1", "PersistentVolumeClaim": "v1"}.get(kind, "v1")
    KUBE("create", "-f", "-", stdin=json.dumps({"apiVersion": group, "kind": kind, "metadata": {"name": name}, **fields}))


def group(uid, controller):
    """A pod's control group on the machine."""
    base = CGROUPS if (CGROUPS / "cgroup.controllers").exists() else CGROUPS / controller
    [found] = [path for path in base.glob(f"kubepods*/**/pod{uid}") if path.is_dir()]
    return found


def eventually(check, seconds=30):
    """Waits until what a pod writes, or the machine shows, is so: there is nothing to watch it by."""
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def samples(path):
    """The series of a node, as names, labels and values."""
    text = KUBE("get", "--raw", f"/api/v1/nodes/hub/proxy/metrics{path}").stdout
    lines = [re.match(r"([^{ ]+)(?:\{(.*)\})? ([^ ]+)", line) for line in text.splitlines() if not line.startswith("#")]
    return [(line[1], dict(re.findall(r'(\w+)="([^"]*)"', line[2] or "")), float(line[3])) for line in lines]


def sample(path, name, /, **labels):
    """The values of a series with these labels."""
    return [value for of, has, value in samples(path) if of == name and labels.items() <= has.items()]


def ours():
    """The processes that live off this scenario's folder: its daemons and their containers' shims."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if int(entry.name) != os.getpid() and any(word.startswith(f"{FOLDER}/".encode()) for word in words):
                found.append(int(entry.name))
    return found


def sweep(node):
    """Ends a node's containers, by a containerd that is started for it, and removes what they leave on the machine."""
    state = FOLDER / node / "containerd-state"
    socket = state / "containerd.sock"
    if not (state / "config.toml").exists():
        return
    daemon = subprocess.Popen(["containerd", "--config", str(state / "config.toml")], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    with contextlib.suppress(Exception):
        deadline = time.monotonic() + 10
        while run("ctr", "--address", socket, "version", ok=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        for task in ctr(node, "tasks", "list", "-q").split():
            run(*client(node), "tasks", "rm", "-f", task, ok=False)
        for container in ctr(node, "containers", "list", "-q").split():
            info = json.loads(ctr(node, "containers", "info", container))
            run(*client(node), "containers", "rm", container, ok=False)
            for space in info["Spec"]["linux"]["namespaces"]:
                place = space.get("path", "")
                if space["type"] == "network" and "/run/netns/cni-" in place:
                    run("umount", place, ok=False)
                    pathlib.Path(place).unlink(missing_ok=True)
            labels = info["Labels"]
            of = [labels.get(f"io.kubernetes.pod.{key}", "") for key in ("namespace", "name", "uid")]
            if all(of):
                shutil.rmtree(LOGS / "_".join(of), ignore_errors=True)
    daemon.terminate()
    daemon.wait()


def clean():
    """Ends and removes all that was made here."""
    if (FOLDER / "kubeconfig").exists():
        KUBE("delete", "pods", "--all", "--timeout=30s", ok=False)
    for process in RUNNING.values():
        with contextlib.suppress(Exception):
            process.process.terminate()
            process.process.wait(20)
    # A containerd outlives a kiln that was killed, and shims their containerd.
    for number in ours():
        if b"containerd-shim" not in pathlib.Path(f"/proc/{number}/cmdline").read_bytes():
            end(number)
    for node in NETS:
        sweep(node)
    for number in ours():
        end(number)
    for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(str(FOLDER)):
            run("umount", "-l", place, ok=False)
    for net in NETS:
        run("ip", "netns", "del", f"{PREFIX}-{net}", ok=False)
    shutil.rmtree(FOLDER, ignore_errors=True)


def end(number):
    """Ends a process that does not end by itself, and waits until it is gone."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(number)
        os.kill(number, signal.SIGKILL)
        select.select([handle], [], [], 10)
        os.close(handle)
