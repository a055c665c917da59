"""`ci/bench ingress`: the ingress beside nginx, as proxies of one and the same server, by wrk in the same run.

Rates and times with 64 connections, each proxy in turn, several times, the best of each told; then what 10,000 connections that
have had a request each cost. Both run alone in their processes with two workers, and log no requests.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
HOST = "bench.example.com"
IDLE = 10_000

BACKEND = """
worker_processes 1; daemon off; pid {folder}/backend.pid; error_log {folder}/backend.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/b1; proxy_temp_path {folder}/b2;
  fastcgi_temp_path {folder}/b3; uwsgi_temp_path {folder}/b4; scgi_temp_path {folder}/b5;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{text}"; }} }} }}
"""
PROXY = """
worker_processes 2; daemon off; pid {folder}/proxy.pid; error_log {folder}/proxy.log; worker_rlimit_nofile 30000;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 180; client_body_temp_path {folder}/p1; proxy_temp_path {folder}/p2;
  fastcgi_temp_path {folder}/p3; uwsgi_temp_path {folder}/p4; scgi_temp_path {folder}/p5;
  upstream web {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; server_name {host};
    location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Forwarded-Proto $scheme; }} }} }}
"""


def free_port():
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def memory(pid):
    """MiB of a process and its children, pages that several share counted in parts."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for process in [pid, *children]:
        rollup = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M).group(1))
    return total / 1024


def wrk(port, seconds, connections=64):
    """Requests a second, and the 99th hundredth of their times in milliseconds."""
    command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {HOST}",
               f"http://127.0.0.1:{port}/some/path"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    wrong = re.search(r"Non-2xx.*|Socket errors.*", text)
    if wrong:
        sys.exit(f"port {port}: {wrong.group(0)}")
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    p99 = float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return {"per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), "p99_ms": p99}


def idle(port, pid):
    """KiB that a connection costs that has had one request and waits for the next, after some seconds."""
    before, sockets = memory(pid), []
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    try:
        for _ in range(IDLE):
            connection = socket.create_connection(("127.0.0.1", port))
            sockets.append(connection)
            connection.sendall(request)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                sys.exit(f"port {port}: no answer to connection {len(sockets)}")
        at_once = memory(pid)
        time.sleep(15)
        later = memory(pid)
        sockets[0].sendall(request)
        if not sockets[0].recv(4096).startswith(b"HTTP/1.1 200"):
            sys.exit(f"port {port}: a connection that waited was not served")
    finally:
        for connection in sockets:
            connection.close()
    return {"idle_kib_at_once": (at_once - before) * 1024 / IDLE, "idle_kib_after_15s": (later - before) * 1024 / IDLE}


@contextlib.contextmanager
def process(command, **options):
    """A process that ends with the block."""
    running = subprocess.Popen(command, **options)
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


def answers(port):
    """Waits until a port is listened at."""
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens at port {port}")


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="ci/bench ingress", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ingress", help="the built example ingress_bench; without it it is built")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", choices=["text", "json"], default="text")
    arguments = parser.parse_args(sys.argv[2:])
    missing = [tool for tool in ("nginx", "wrk") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {' '.join(missing)}")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ingress = arguments.ingress
    if ingress is None:
        build = ["cargo", "build", "-q", "--release", "-p", "kiln-ingress", "--example", "ingress_bench"]
        subprocess.run(build, cwd=TOP, check=True)
        ingress = TOP / "target" / "release" / "examples" / "ingress_bench"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        backend, proxy = free_port(), free_port()
        for name, text in (("backend", BACKEND.format(folder=folder, port=backend, text="x" * 1024)),
                           ("proxy", PROXY.format(folder=folder, port=proxy, backend=backend, host=HOST))):
            (pathlib.Path(folder) / f"{name}.conf").write_text(text)
        nginx = {name: stack.enter_context(process(["nginx", "-c", f"{folder}/{name}.conf"]))
                 for name in ("backend", "proxy")}
        own = stack.enter_context(process([str(ingress), f"127.0.0.1:{backend}"], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, text=True,
                                          env={**os.environ, "TOKIO_WORKER_THREADS": "2"}))
        ports = dict(own.stdout.readline().split() for _ in range(2))
        port = int(ports["http"].rsplit(":", 1)[1])
        answers(backend)
        answers(proxy)
        contenders = {"ingress": (port, own.pid), "nginx": (proxy, nginx["proxy"].pid)}
        result = {name: {"memory_mib_idle": memory(pid)} for name, (_, pid) in contenders.items()}
        for _ in range(arguments.rounds):
            for name, (at, _) in contenders.items():
                rate = wrk(at, arguments.seconds)
                if rate["per_second"] > result[name].get("per_second", 0):
                    result[name].update(rate)
        for name, (at, pid) in contenders.items():
            result[name]["memory_mib_after_load"] = memory(pid)
            result[name].update(idle(at, pid))
    result["ratio"] = result["ingress"]["per_second"] / result["nginx"]["per_second"]
    if arguments.o == "json":
        print(json.dumps(result, indent=2))
        return
    for name in ("ingress", "nginx"):
        print(f"{name}: " + "  ".join(f"{key}={value:.1f}" for key, value in result[name].items()))
    print(f"requests of nginx's: {result['ratio']:.2f} times")
