"""Nodes as network namespaces on one switch: a server that is its own node and agents, each with a containerd of its own.

Needs root, containerd, runc, CNI plugins and busybox-static. `close` ends and removes all that was made.
"""
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time

import oci
from harness import KILN, Kubectl, main, run, say, scratch
from process import Process

# How full the machine's disk is is none of the scenarios' business.
ROOM = ["--kubelet-arg", "eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%"]


class Nodes:
    """The nodes and their cluster. The first one is the server."""

    def __init__(self, name, nodes, mtu=1500):
        """`nodes` are names with addresses in one /24, or in one /64 of IPv6."""
        self.folder = scratch(name)
        self.addresses = nodes
        self.server = next(iter(nodes))
        self.by_ipv6 = ":" in nodes[self.server]
        self.url = f"https://[{nodes[self.server]}]:6443" if self.by_ipv6 else f"https://{nodes[self.server]}:6443"
        # Of this run alone, should another one run beside it.
        self.prefix = f"kn{os.getpid()}"
        self.running = {}
        # Flags of each node, beside those of the scenario's start.
        self.flags = {}
        self.mtu = mtu
        self.kube = Kubectl(self.folder / "kubeconfig", self.url)
        self.kube.base = [*self.inside(self.server), *self.kube.base]

    def inside(self, node):
        """The prefix of a command that runs in a node's network, and in the mounts of the host."""
        return ["nsenter", f"--net=/run/netns/{self.prefix}-{node}"]

    def ip(self, node, *arguments, **kwargs):
        """Runs `ip` on a node, or on the switch."""
        return run(*self.inside(node), "ip", *arguments, **kwargs)

    def cable(self):
        """Makes the namespaces, and links that lead from each to the switch."""
        for net in ("switch", *self.addresses):
            run("ip", "netns", "add", f"{self.prefix}-{net}")
            self.ip(net, "link", "set", "lo", "up")
        self.ip("switch", "link", "add", "br0", "type", "bridge")
        self.ip("switch", "link", "set", "br0", "up")
        for node, address in self.addresses.items():
            self.ip("switch", "link", "add", node, "mtu", self.mtu, "type", "veth", "peer", "name", "eth0", "netns",
                    f"{self.prefix}-{node}")
            self.ip("switch", "link", "set", node, "master", "br0", "up")
            own = [f"{address}/64", "dev", "eth0", "nodad"] if self.by_ipv6 else [f"{address}/24", "dev", "eth0"]
            self.ip(node, "address", "add", *own)
            self.ip(node, "link", "set", "eth0", "mtu", self.mtu, "up")
            self.ip(node, "-6" if self.by_ipv6 else "-4", "route", "add", "default", "dev", "eth0")

    def start(self, node, *flags):
        """Starts a node."""
        common = ["--node-name", node, *ROOM, "--data-dir", self.folder / node, *self.flags.get(node, ()), *flags]
        board = f"{list(self.addresses).index(node):064d}"
        if node == self.server:
            self.running[node] = Process(*self.inside(node), KILN, "server", "--bind-address", self.addresses[node], "--disable",
                                         "mdns", *common, KILN_BOARD_ID=board)
            self.running[node].expect("serving url=")
        else:
            token = (self.folder / "token").read_text()
            self.running[node] = Process(*self.inside(node), KILN, "agent", "--server", self.url, *common, KILN_BOARD_ID=board,
                                         KILN_TOKEN=token)
            self.running[node].expect(f'joined node="{node}"', 60)

    def start_all(self, *server_flags):
        """Starts all nodes, and waits until they are Ready."""
        self.cable()
        for node in self.addresses:
            oci.busybox(self.folder / node / "agent/images/busybox.tar")
        for node in self.addresses:
            self.start(node, *(server_flags if node == self.server else ()))
            if node == self.server:
                (self.folder / "kubeconfig").write_text(run(KILN, "kubeconfig", "--data-dir", self.folder / node).stdout)
                token = run(*self.inside(node), KILN, "token", "create", "--data-dir", self.folder / node).stdout.strip()
                (self.folder / "token").write_text(token)
        for node in self.addresses:
            self.kube.ready(node, 60)

    def apply(self, *objects):
        """Creates objects."""
        self.kube("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def pod(self, name, node, command="trap 'exit 0' TERM; while :; do sleep 1; done", labels=None, namespace="default", **container):
        """A pod of one busybox on a node, as an object."""
        main = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command]}
        return {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}},
                "spec": {"nodeName": node, "terminationGracePeriodSeconds": 2, "automountServiceAccountToken": False,
                         "containers": [{**main, **container}]}}

    def ready(self, *names, namespace="default", seconds=60):
        """Waits until pods are Ready."""
        self.kube("wait", "--for=condition=Ready", "--namespace", namespace, *[f"pod/{name}" for name in names],
                  f"--timeout={seconds}s", timeout=seconds + 30)

    def address(self, name, namespace="default"):
        """A pod's address."""
        return self.kube("get", "pod", name, "--namespace", namespace, "-o", "jsonpath={.status.podIP}").stdout

    def within(self, name, command, namespace="default", ok=True):
        """Runs a command of a shell in a pod."""
        return self.kube("exec", "--namespace", namespace, name, "--", "sh", "-c", command, ok=ok)

    def until(self, what, is_so, seconds=20):
        """Waits until something is so; what it says last is told if it never is."""
        deadline = time.monotonic() + seconds
        while not (found := is_so()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)
        return found

    def pod_network(self, node):
        """The prefix of a command that runs in the network of a node's only pod, with the machine's programs."""
        client = ["ctr", "--address", self.folder / node / "containerd-state/containerd.sock", "--namespace", "k8s.io"]
        tasks = [line.split() for line in run(*client, "tasks", "list").stdout.splitlines()[1:]]
        return ["nsenter", f"--net=/proc/{tasks[0][1]}/ns/net"]

    def _ours(self):
        """Processes that were started here and go on by themselves: containerds and shims."""
        folder = str(self.folder).encode()
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (place / "cmdline").read_bytes()
                if folder in command and int(place.name) != os.getpid():
                    yield int(place.name)

    def run(self, tests):
        """Runs the scenarios, tells what the nodes said last if one failed, and removes all that was made. Answers the exit code."""
        try:
            code = main(tests)
            if code:
                for node, process in self.running.items():
                    said = process.said + [line for line in list(process.lines.queue) if line]
                    say(f"-- {node}\n" + "\n".join(said[-40:]))
            return code
        finally:
            self.close()

    def close(self):
        """Ends and removes all that was made here."""
        if (self.folder / "kubeconfig").exists():
            with contextlib.suppress(Exception):
                self.kube("delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--timeout=30s", ok=False)
        for process in self.running.values():
            with contextlib.suppress(Exception):
                process.process.terminate()
                process.process.wait(20)
        for node in self.addresses:
            self._sweep(node)
        for number in list(self._ours()):
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(number)
                os.kill(number, signal.SIGKILL)
                select.select([handle], [], [], 10)
                os.close(handle)
        for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(str(self.folder)):
                run("umount", "-l", line.split()[1], ok=False)
        for net in ("switch", *self.addresses):
            run("ip", "netns", "del", f"{self.prefix}-{net}", ok=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self, node):
        """Removes what a node's containerd still has."""
        state = self.folder / node / "containerd-state"
        if not (state / "config.toml").exists():
            return
        client = ["ctr", "--address", state / "containerd.sock", "--namespace", "k8s.io"]
        daemon = subprocess.Popen(["containerd", "--config", str(state / "config.toml")], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        with contextlib.suppress(Exception):
            deadline = time.monotonic() + 10
            while run(*client, "version", ok=False).returncode and time.monotonic() < deadline:
                time.sleep(0.1)
            for task in run(*client, "tasks", "list", "-q").stdout.split():
                run(*client, "tasks", "rm", "-f", task, ok=False)
            for container in run(*client, "containers", "list", "-q").stdout.split():
                info = json.loads(run(*client, "containers", "info", container).stdout)
                run(*client, "containers", "rm", container, ok=False)
                for space in info["Spec"]["linux"]["namespaces"]:
                    place = space.get("path", "")
                    if space["type"] == "network" and "/run/netns/cni-" in place:
                        run("umount", place, ok=False)
                        pathlib.Path(place).unlink(missing_ok=True)
                of = [info["Labels"].get(f"io.kubernetes.pod.{key}", "") for key in ("namespace", "name", "uid")]
                if all(of):
                    shutil.rmtree(pathlib.Path("/var/log/pods") / "_".join(of), ignore_errors=True)
        daemon.terminate()
        daemon.wait()
