"""DNS queries a second and their times, beside unbound's cache: the same names, asked by dnsperf in the same run."""
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
SERVICES = 1000
# For times, so many questions a second are asked: well below what either takes.
STEADY = 5000
UNBOUND = """
server:
  interface: 127.0.0.1
  port: {port}
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: "{folder}/unbound.pid"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "iterator"
  num-threads: {threads}
  so-reuseport: yes
  cache-min-ttl: 3600
  local-zone: "local." nodefault
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream}
"""


def rss(pid):
    """Resident MiB."""
    return int(re.search(r"^VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)) / 1024


def dnsperf(port, names, *options):
    """Runs dnsperf; gives what it printed."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(names), "-c", "8", "-W", *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout


def measure(port, pid, names, seconds):
    """The figures of one server."""
    # All names once, so that what can be kept is.
    dnsperf(port, names, "-n", 1)
    text = dnsperf(port, names, "-l", seconds)
    rate = float(re.search(r"Queries per second:\s+([\d.]+)", text).group(1))
    lost = float(re.search(r"Queries lost:\s+(\d+)", text).group(1))
    wrong = sum(int(count) for code, count in re.findall(r"(\w+) (\d+) \(", text) if code.isupper() and code != "NOERROR")
    steady = dnsperf(port, names, "-l", seconds, "-Q", STEADY, "-v")
    times = [float(line.split()[-1]) * 1000 for line in steady.splitlines() if line.startswith("> NOERROR")]
    cuts = statistics.quantiles(times, n=100)
    return {"per_second": rate, "lost": lost, "wrong": wrong, "p50_ms": cuts[49], "p99_ms": cuts[98], "rss_mib": rss(pid)}


def until_answering(port, names):
    """Waits until a server answers."""
    deadline = time.monotonic() + 20
    while "Queries completed:    0 " in (text := dnsperf(port, names, "-n", 1, "-q", 1, "-t", 1)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answers: {text}")


def net_dns(free_port, seconds=5):
    """The cluster's DNS at 1,000 Services beside unbound that holds the same answers. Needs dnsperf; without unbound there is no
    peer."""
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "kiln-dns", "--features", "testing", "--example", "dns_bench"],
                   cwd=TOP, check=True)
    program = TOP / "target" / "release" / "examples" / "dns_bench"
    own, peer = free_port(), free_port()
    result = {"services": SERVICES}
    with tempfile.TemporaryDirectory(dir=TOP / "target") as scratch:
        folder = pathlib.Path(scratch)
        names, first = folder / "names", folder / "first"
        names.write_text("".join(f"s{number}.default.svc.cluster.local A\n" for number in range(SERVICES)))
        first.write_text("s0.default.svc.cluster.local A\n")
        server = subprocess.Popen([str(program), f"127.0.0.1:{own}", str(SERVICES)], stdout=subprocess.PIPE, text=True)
        other = None
        try:
            server.stdout.readline()  # `ready`
            result["kiln"] = measure(own, server.pid, names, seconds)
            if not (unbound := shutil.which("unbound", path="/usr/sbin:/usr/bin:/sbin:/bin")):
                return result
            config = folder / "unbound.conf"
            config.write_text(UNBOUND.format(port=peer, upstream=own, folder=folder, threads=2))
            other = subprocess.Popen([unbound, "-d", "-c", str(config)], stderr=subprocess.DEVNULL)
            until_answering(peer, first)
            result["unbound"] = measure(peer, other.pid, names, seconds)
        finally:
            for process in filter(None, (server, other)):
                process.terminate()
                process.wait()
    result["ratio"] = result["kiln"]["per_second"] / result["unbound"]["per_second"]
    return result
