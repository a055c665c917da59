"""What the scenarios share: the imager, virtual machines whose console can be awaited, kubectl, and the figures they print.

Nothing here sleeps: a console is followed by `tail -F` and awaited line by line, kubectl waits by its own watches.
"""
import functools
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
TOOLS = pathlib.Path(os.environ.get("KILN_CI_TOOLS", CACHE / "kiln-ci"))
IMAGER = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "debug" / "imager"
KUBECTL = TOOLS / "kubectl"
KILN = pathlib.Path(os.environ.get("KILN_BIN", IMAGER.parents[1] / "debug" / "kiln"))
SCRATCH = pathlib.Path(os.environ.get("KILN_CI_SCRATCH", TOP / "target" / "e2e"))


def say(text):
    """One line of the report."""
    print(text, flush=True)


def run(*command, ok=True, **kwargs):
    """Runs a command; its output is returned, and printed whole if it failed where it should not."""
    command = [str(c) for c in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)
    if ok and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def imager(*arguments, ok=True, **kwargs):
    """Runs the imager."""
    return run(IMAGER, *arguments, ok=ok, **{"cwd": TOP, **kwargs})


@functools.cache
def locked():
    """Arguments that build from a lock of today's packages: a mirror drops what it has replaced, a test must still build.

    Where nothing moved this lock is the checkout's own, to the byte.
    """
    lock = SCRATCH / "imager.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(TOP / "imager.lock", lock)
    imager("update-lock", "--lock", lock)
    return ["--locked", "--lock", lock]


def free_port():
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Machine:
    """One virtual machine, started by `imager run`, whose serial console is a file that is followed."""

    def __init__(self, name, image, folder, *arguments, keys=False, environment=None):
        """With `keys`, `type` reaches the console; else the machine is headless."""
        self.name = name
        self.monitor = pathlib.Path(folder) / f"{name}.qmp"
        self.log = pathlib.Path(folder) / f"{name}.serial.log"
        self.log.write_bytes(b"")
        self.started = time.monotonic()
        self.err = open(pathlib.Path(folder) / f"{name}.stderr.log", "wb")
        self.process = subprocess.Popen(
            [str(a) for a in (IMAGER, "run", image, *([] if keys else ["--headless"]), "--serial-log", self.log,
                              "--monitor", self.monitor, *arguments)],
            cwd=TOP, env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE if keys else subprocess.DEVNULL,
            stdout=self.err, stderr=self.err)
        self.tail = subprocess.Popen(["tail", "-n", "+1", "-F", str(self.log)], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL)
        self.pending = b""
        self.lines = []
        self.read = 0

    def _next_line(self, deadline):
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            ready, _, _ = select.select([self.tail.stdout], [], [], min(left, 1))
            if ready:
                chunk = os.read(self.tail.stdout.fileno(), 65536)
                self.pending += chunk
            elif self.process.poll() is not None:
                return None
        line, self.pending = self.pending.split(b"\n", 1)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.decode("utf-8", "replace")).rstrip("\r")

    def expect(self, pattern, seconds):
        """The first console line from here on that the pattern matches; fails with the console's end."""
        deadline = time.monotonic() + seconds
        while (line := self._next_line(deadline)) is not None:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        end = "\n".join(self.lines[-40:])
        stderr = pathlib.Path(self.err.name).read_text()
        raise AssertionError(f"{self.name}: no line like /{pattern}/ within {seconds} s; the console ends:\n{end}\n{stderr}")

    def told(self, pattern, seconds):
        """Like `expect`, but a line that has gone by counts too."""
        for line in self.lines:
            if found := re.search(pattern, line):
                return found
        return self.expect(pattern, seconds)

    def type(self, text):
        """Types a line on the console."""
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def press(self, *keys):
        """Presses keys of the machine's keyboard together."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.monitor))
            lines = monitor.makefile("rw")
            lines.readline()  # the greeting
            pressed = [{"type": "qcode", "data": key} for key in keys]
            for command in ({"execute": "qmp_capabilities"}, {"execute": "send-key", "arguments": {"keys": pressed}}):
                lines.write(json.dumps(command) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "error" not in answer, answer

    def cut(self):
        """Cuts the power: the emulator ends at once, and what the guest had not written is lost."""
        main = self.process.pid
        [emulator] = pathlib.Path(f"/proc/{main}/task/{main}/children").read_text().split()
        os.kill(int(emulator), signal.SIGKILL)
        self.process.wait()
        self.stop()

    def wait(self, seconds):
        """Waits for the machine to power itself off."""
        return self.process.wait(seconds)

    def stop(self):
        """Ends the machine, by a signal to the process that this object started."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.tail.kill()
        self.tail.wait()
        self.err.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Kubectl:
    """The real kubectl against one server."""

    def __init__(self, kubeconfig, server):
        self.base = [str(KUBECTL), "--kubeconfig", str(kubeconfig), "--server", server]

    def __call__(self, *arguments, ok=True, stdin=None, timeout=120):
        return run(*self.base, *arguments, ok=ok, input=stdin, timeout=timeout)

    def ready(self, node, seconds):
        """Waits until a node is Ready, by kubectl's own watch; the node may have to appear first."""
        self("wait", "--for=create", f"node/{node}", f"--timeout={seconds}s", timeout=seconds + 30)
        self("wait", "--for=condition=Ready", f"node/{node}", f"--timeout={seconds}s", timeout=seconds + 30)


def main(tests):
    """Runs the functions in order, a line each, and closes with the counts."""
    wanted = sys.argv[1:]
    passed = failed = 0
    for test in tests:
        name = test.__name__
        if wanted and name not in wanted:
            continue
        began = time.monotonic()
        try:
            test()
        except Exception as error:  # each failure is told and counted; the rest still run
            failed += 1
            say(f"FAIL {name} ({time.monotonic() - began:.1f} s)\n{error}")
        else:
            passed += 1
            say(f"ok   {name} ({time.monotonic() - began:.1f} s)")
    say(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def scratch(name):
    """An empty folder for one scenario."""
    folder = SCRATCH / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
