#!/usr/bin/env python3
"""One file makes a node of any Linux, and takes it away again: a server where there is only a static busybox and no C library, and
an agent on a Debian that has a containerd of its own.

Each machine is a root folder in namespaces of its own (mounts, processes, network) without an init system. systemd cannot run here:
its unit is checked by its own tool. Needs root.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import oci
from harness import TOOLS, Kubectl, imager, locked, main, run, say, scratch
from process import Process

FOLDER = scratch("bundle")
INSTALLER = FOLDER / "kiln-install.sh"
PREFIX = f"kb{os.getpid()}"
ADDRESSES = {"bare": "10.99.8.1", "debian": "10.99.8.2"}
URL = f"https://{ADDRESSES['bare']}:6443"
ROOM = ["--kubelet-arg", "eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%"]
# What a system has before anything is installed.
FOLDERS = ("bin", "dev", "etc", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr/bin", "usr/local/bin", "usr/local/lib",
           "var/lib", "var/log", "var/tmp")
MACHINES = {}


class Machine:
    """A root folder in namespaces of its own."""

    def __init__(self, name):
        self.name = name
        self.root = FOLDER / name
        self.net = f"{PREFIX}-{name}"
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "var/run").symlink_to("../run")
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (self.root / "etc/group").write_text("root:x:0:\n")
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (self.root / "etc/resolv.conf").write_text("")
        binds = ""
        if name == "bare":
            shutil.copy("/bin/busybox", self.root / "bin/busybox")
            for applet in run("/bin/busybox", "--list").stdout.split():
                (self.root / "bin" / applet).symlink_to("busybox") if applet != "busybox" else None
        else:
            for folder in ("bin", "sbin"):
                (self.root / folder).rmdir()
            for link in ("bin", "sbin", "lib", "lib64"):
                (self.root / link).symlink_to(f"usr/{link}")
            local = FOLDER / "local"
            for folder in ("bin", "lib"):
                (local / folder).mkdir(parents=True)
            (self.root / "etc/alternatives").mkdir()
            binds = (f"mount --bind /usr {self.root}/usr; mount --bind {local} {self.root}/usr/local; "
                     f"mount --bind /etc/alternatives {self.root}/etc/alternatives;")
        # The first process reaps what others leave.
        script = f"""set -e
            mount --make-rprivate /
            mount --bind {self.root} {self.root}
            {binds}
            mount -t proc proc {self.root}/proc
            mount --rbind /sys {self.root}/sys
            mount --rbind /dev {self.root}/dev
            mount -t tmpfs tmpfs {self.root}/run
            cp {INSTALLER} {self.root}/srv/
            exec chroot {self.root} /bin/sh -c 'echo up; while :; do sleep 1; done'"""
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.net}", "unshare", "--mount", "--pid", "--fork",
                                         "--kill-child", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "up\n", name
        [self.first] = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def __call__(self, *command, ok=True, **environment):
        """Runs a command in the machine."""
        variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **environment}
        words = [f"{key}={value}" for key, value in variables.items()]
        return run("nsenter", "--target", self.first, "--mount", "--pid", "--net", "--root", "--wd=/", "/usr/bin/env" if
                   self.name == "debian" else "/bin/env", "-i", *words, *command, ok=ok, timeout=180)

    def install(self, *arguments, ok=True, **environment):
        """Runs the installer."""
        return self("/bin/sh", "/srv/kiln-install.sh", *arguments, ok=ok, **environment)

    def says(self, pattern, times=1):
        """Waits until the log has a line so often."""
        log = Process("tail", "-n", "+1", "-F", self.root / "var/log/kiln.log")
        for _ in range(times):
            log.expect(pattern)
        log.kill()

    def state(self):
        """All that an installation could leave: files, mounts, interfaces, settings and rules."""
        files = set()
        # Of Debian's /usr only /usr/local is its own.
        for top in (self.root, FOLDER / "local") if self.name == "debian" else (self.root,):
            files |= {str(path) for path in top.rglob("*")}
        # What is mounted here is not seen from outside.
        files |= set(self("find", "/run", "/tmp", "-mindepth", "1").stdout.splitlines())
        mounts = sorted(line.split()[4] for line in pathlib.Path(f"/proc/{self.first}/mountinfo").read_text().splitlines())
        inside = ["nsenter", f"--net=/run/netns/{self.net}"]
        links = [link["ifname"] for link in json.loads(run(*inside, "ip", "-json", "link").stdout)]
        settings = run(*inside, "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").stdout
        return {"files": files, "mounts": mounts, "links": links, "settings": settings,
                "rules": run(*inside, "nft", "list", "ruleset").stdout}

    def stop(self):
        """Ends all of its processes, and with them its mounts."""
        self.process.kill()
        self.process.wait()


class Inside(Kubectl):
    """kubectl in the server's network."""

    def __init__(self):
        super().__init__(FOLDER / "kubeconfig", URL)
        self.base = ["nsenter", f"--net=/run/netns/{PREFIX}-bare", *self.base]


KUBE = Inside()
BEFORE = {}
BEGAN = []


def an_installer_is_the_same_twice_and_its_bill_of_materials_is_valid():
    images = FOLDER / "busybox.tar"
    oci.busybox(images)
    common = ["bundle", "--arch", "x86_64", "--container-image", images, *locked()]
    made = json.loads(imager(*common, "--file", INSTALLER, "-o", "json").stdout)
    imager(*common, "--file", FOLDER / "again.sh")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (INSTALLER, FOLDER / "again.sh")}
    assert digests == {made["sha256"]}, digests
    (FOLDER / "again.sh").unlink()
    run("sha256sum", "-c", f"{INSTALLER.name}.sha256", cwd=FOLDER)
    run(TOOLS / "spdx" / "bin" / "pyspdxtools", "-i", made["sbom"])
    say(f"     {made['size'] / 2**20:.1f} MiB, installed {made['installed-size'] / 2**20:.1f} MiB")


def machines_are_started():
    for name in ADDRESSES:
        run("ip", "netns", "add", f"{PREFIX}-{name}")
    run("ip", "link", "add", "eth0", "netns", f"{PREFIX}-bare", "type", "veth", "peer", "name", "eth0", "netns", f"{PREFIX}-debian")
    for name, address in ADDRESSES.items():
        ip = ["ip", "-n", f"{PREFIX}-{name}"]
        run(*ip, "link", "set", "lo", "up")
        run(*ip, "address", "add", f"{address}/24", "dev", "eth0")
        run(*ip, "link", "set", "eth0", "up")
        run(*ip, "route", "add", "default", "dev", "eth0")
        MACHINES[name] = Machine(name)
        BEFORE[name] = MACHINES[name].state()


def a_wrong_use_changes_nothing():
    bare = MACHINES["bare"]
    for arguments, environment, code, told in (
        (["sevrer"], {}, 2, "neither server nor agent"),
        (["agent"], {}, 2, "an agent needs its server"),
        ([], {"INSTALL_KILN_INIT": "upstart"}, 2, "INSTALL_KILN_INIT"),
    ):
        refused = bare.install(*arguments, ok=False, **environment)
        assert refused.returncode == code and told in refused.stderr, refused
    damaged = bytearray(INSTALLER.read_bytes())
    damaged[-1] ^= 1
    (bare.root / "tmp/damaged.sh").write_bytes(damaged)
    refused = bare("sh", "/tmp/damaged.sh", ok=False)
    assert refused.returncode == 3 and "damaged" in refused.stderr, refused
    bare("rm", "/tmp/damaged.sh")
    assert "kiln-uninstall" in bare.install("--help").stdout
    assert bare.state() == BEFORE["bare"]


def a_server_is_installed_where_there_is_no_c_library():
    bare = MACHINES["bare"]
    BEGAN.append(time.monotonic())
    told = bare.install("server", "--node-name", "bare", "--disable", "mdns", "--bind-address", ADDRESSES["bare"], *ROOM,
                        KILN_BOARD_ID="a" * 64)
    assert "is installed and started" in told.stdout and "run at boot" in told.stdout, told.stdout
    assert not list(bare.root.glob("lib*")), "a C library"
    assert oct((bare.root / "etc/kiln/kiln.env").stat().st_mode & 0o777) == "0o600"
    bare.says("serving url=")
    (FOLDER / "kubeconfig").write_text(bare("kiln", "kubeconfig").stdout)
    KUBE.ready("bare", 60)


def pod(name, node):
    """A pod of the image that came along."""
    container = {"name": "main", "image": "busybox", "imagePullPolicy": "Never",
                 "command": ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 1; done"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": node, "automountServiceAccountToken": False, "containers": [container]}}


def runs(name, node):
    """Starts a pod on a node, and looks from inside."""
    KUBE("create", "-f", "-", stdin=json.dumps(pod(name, node)))
    waited = KUBE("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s", ok=False)
    assert waited.returncode == 0, KUBE("get", "events", "-o", "jsonpath={range .items[*]}{.message}{'\\n'}{end}").stdout
    assert KUBE("exec", name, "--", "hostname").stdout == f"{name}\n"
    assert KUBE("logs", name).stdout == "up\n"


def a_pod_runs_from_the_image_that_came_along():
    runs("one", "bare")
    say(f"     from the installer's start to a pod that is Ready and was looked into: {time.monotonic() - BEGAN[0]:.1f} s")


def an_agent_joins_from_a_machine_with_another_c_library():
    debian = MACHINES["debian"]
    token = MACHINES["bare"]("kiln", "token", "create").stdout.strip()
    # On one machine two nodes are told apart by their folders.
    debian.install("agent", "--node-name", "debian", "--data-dir", "/srv/kiln", *ROOM, KILN_URL=URL, KILN_TOKEN=token, KILN_BOARD_ID="b" * 64)
    KUBE.ready("debian", 60)
    runs("two", "debian")
    words = [path.read_bytes().split(b"\0")[0].decode() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
             if os.path.exists(path.parent / "root/usr/local/lib/kiln")]
    used = {word for word in words if "containerd" in word}
    assert all(word.startswith("/usr/local/lib/kiln/bin/") for word in used) and len(used) == 2, used
    assert token not in "".join(debian("sh", "-c", "cat /proc/[0-9]*/cmdline").stdout), "a process tells the token"
    checked = debian("systemd-analyze", "verify", "/usr/local/lib/kiln/init/kiln.service", ok=False)
    assert "kiln.service" not in checked.stderr, checked.stderr
    debian("rm", "-rf", "/run/systemd")


def an_upgrade_keeps_settings_data_and_pods():
    before = json.loads(KUBE("get", "pod", "one", "-o", "json").stdout)["status"]["containerStatuses"][0]
    start = (MACHINES["bare"].root / "etc/kiln/start").read_text()
    MACHINES["bare"].install()
    assert (MACHINES["bare"].root / "etc/kiln/start").read_text() == start
    MACHINES["bare"].says("serving url=", times=2)
    KUBE.ready("bare", 30)
    assert KUBE("exec", "one", "--", "hostname").stdout == "one\n"
    after = json.loads(KUBE("get", "pod", "one", "-o", "json").stdout)["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0), after


def an_uninstallation_leaves_nothing():
    refused = MACHINES["bare"]("kiln", "killall", ok=False)
    assert refused.returncode == 3 and "stop it first" in refused.stderr, refused
    for name in ("debian", "bare"):
        machine = MACHINES[name]
        machine("kiln-uninstall")
        after = machine.state()
        for what, was in BEFORE[name].items():
            left = set(after[what]) ^ set(was) if not isinstance(was, str) else after[what]
            assert after[what] == was, f"{name}: {what}: {sorted(left)[:40] if not isinstance(left, str) else left}"
        processes = machine("ps").stdout.splitlines() if name == "bare" else machine("ps", "-e").stdout.splitlines()
        assert not [line for line in processes if "kiln" in line or "containerd" in line], processes
    groups = [str(path) for path in [*pathlib.Path("/sys/fs/cgroup").glob("kubepods"), *pathlib.Path("/sys/fs/cgroup").glob("*/kubepods")]]
    assert not groups, groups


if __name__ == "__main__":
    try:
        code = main([
            an_installer_is_the_same_twice_and_its_bill_of_materials_is_valid,
            machines_are_started,
            a_wrong_use_changes_nothing,
            a_server_is_installed_where_there_is_no_c_library,
            a_pod_runs_from_the_image_that_came_along,
            an_agent_joins_from_a_machine_with_another_c_library,
            an_upgrade_keeps_settings_data_and_pods,
            an_uninstallation_leaves_nothing,
        ])
        if code:
            for name, machine in MACHINES.items():
                with contextlib.suppress(Exception):
                    say(f"-- {name}\n" + machine("tail", "-n", "40", "/var/log/kiln.log").stdout)
    finally:
        for machine in MACHINES.values():
            machine.stop()
        for name in ADDRESSES:
            run("ip", "netns", "del", f"{PREFIX}-{name}", ok=False)
        shutil.rmtree(FOLDER, ignore_errors=True)
    sys.exit(code)
