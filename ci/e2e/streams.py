#!/usr/bin/env python3
"""Streams into pods, by kubectl: logs, exec, attach, cp, port-forward, debug, the proxies and top, on the server's own node and
through an agent's tunnel. The nodes are those of pod_nodes.py. Needs root, containerd, runc, CNI plugins and busybox-static.
"""
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

from harness import KILN, KUBECTL, main, run, say
from pod_nodes import FOLDER, KUBE, NETS, RUNNING, URL, apply, clean, delete, inside, phase, pod, start_server
from pods import a_server_and_an_agent_become_ready_with_a_runtime_of_their_own

NODES = list(NETS)
FIGURES = {}


def kubectl(*arguments, **kwargs):
    """kubectl as a process that goes on."""
    return subprocess.Popen([*KUBE.base, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def exec_in(name, *command, stdin=None, ok=True, flags=()):
    """Runs a command in a pod's container."""
    return KUBE("exec", *flags, name, "--", *command, stdin=stdin, ok=ok)


def each(test):
    """A pod on each node."""
    for node in NODES:
        test(f"{node}-one", node)


def the_nodes_come_up_and_run_a_pod_each():
    a_server_and_an_agent_become_ready_with_a_runtime_of_their_own()
    count = "printf 'Content-Type: text/plain\\r\\n\\r\\n'; busybox wc -c"
    page = "mkdir -p /www/cgi-bin; echo served by $(hostname) > /www/index.html; " \
           f"(echo '#!/bin/sh'; echo \"{count}\") > /www/cgi-bin/size; busybox chmod +x /www/cgi-bin/size; httpd -p 8080 -h /www; "
    loop = "trap 'exit 0' TERM; echo up; while :; do sleep 1; done"
    apply(*(pod(f"{node}-one", node, main={"command": ["sh", "-c", page + loop], "ports": [{"containerPort": 8080}]})
            for node in NODES))
    for node in NODES:
        phase(f"{node}-one", "Running")


def logs_are_read_by_their_options_and_followed():
    # Nobody can say in which order two streams are written at the same moment.
    script = "for i in 1 2 3 4 5; do echo line $i; done; sleep 1; echo wrong >&2; sleep 1; echo last"
    for node in NODES:
        name = f"{node}-log"
        apply(pod(name, node, restartPolicy="Never", main={"command": ["sh", "-c", script]}))
        phase(name, "Running")
        follower = kubectl("logs", "-f", name)
        out, error = follower.communicate(timeout=60)
        assert out.decode().splitlines() == [f"line {n}" for n in range(1, 6)] + ["wrong", "last"], (out, error)

        def told(*options, name=name):
            return KUBE("logs", name, *options).stdout

        assert told("--tail=2") == "wrong\nlast\n", told()
        assert told("--limit-bytes=6") == "line 1", told()
        stamped = told("--timestamps", "--tail=1")
        stamp = stamped.split(" ", 1)[0]
        assert stamp[4] == "-" and stamp.endswith("Z") and stamped == f"{stamp} last\n", stamped
        assert told(f"--since-time={stamp}") == "last\n", told("--timestamps")
        assert told("--since=1h", "--tail=1") == "last\n", told("--timestamps")
        refused = KUBE("logs", name, "--previous", ok=False)
        assert 'previous terminated container "main"' in refused.stderr, refused.stderr
        delete(name)


def the_log_of_the_container_before_is_kept():
    script = "[ -f /d/second ] && echo second && exec sleep 1000; touch /d/second; echo first; exit 1"
    again = {"command": ["sh", "-c", script], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    apply(*(pod(f"{node}-again", node, main=again, volumes=[{"name": "d", "emptyDir": {}}]) for node in NODES))
    for node in NODES:
        name = f"{node}-again"
        KUBE("wait", f"pod/{name}", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=60s")
        phase(name, "Running")
        assert KUBE("logs", name, "--previous").stdout == "first\n"
        KUBE("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")


def a_command_gets_its_input_and_gives_its_output_and_its_code():
    def test(name, _):
        assert exec_in(name, "cat", stdin="hi\n", flags=("-i",)).stdout == "hi\n"
        both = exec_in(name, "sh", "-c", "echo out; echo err >&2")
        assert (both.stdout, both.stderr.strip()) == ("out\n", "err"), both
        failed = exec_in(name, "sh", "-c", "exit 7", ok=False)
        assert failed.returncode == 7, failed
        absent = exec_in(name, "no-such-program", ok=False)
        assert absent.returncode != 0 and "no-such-program" in absent.stderr, absent
    each(test)


def input_of_megabytes_comes_back_as_it_was():
    data = os.urandom(4 << 20)
    def test(name, _):
        process = kubectl("exec", "-i", name, "--", "cat")
        out, _ = process.communicate(data, timeout=120)
        assert process.returncode == 0 and hashlib.sha256(out).digest() == hashlib.sha256(data).digest(), len(out)
    each(test)


def older_clients_that_speak_spdy_are_served_too():
    def test(name, _):
        environment = {**os.environ, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
        process = kubectl("exec", "-i", name, "--", "cat", env=environment)
        out, error = process.communicate(b"by SPDY\n", timeout=60)
        assert out == b"by SPDY\n", (out, error)
    each(test)


def fifty_megabytes_are_copied_both_ways():
    there, back = FOLDER / "there", FOLDER / "back"
    there.write_bytes(os.urandom(50 << 20))
    wanted = hashlib.sha256(there.read_bytes()).hexdigest()
    def test(name, node):
        began = time.monotonic()
        KUBE("cp", str(there), f"{name}:/tmp/there", timeout=300)
        FIGURES[f"50 MB to {node}, seconds"] = time.monotonic() - began
        assert exec_in(name, "busybox", "sha256sum", "/tmp/there").stdout.split()[0] == wanted
        began = time.monotonic()
        KUBE("cp", f"{name}:/tmp/there", str(back), timeout=300)
        FIGURES[f"50 MB from {node}, seconds"] = time.monotonic() - began
        assert hashlib.sha256(back.read_bytes()).hexdigest() == wanted
        exec_in(name, "rm", "/tmp/there")
    each(test)


def an_attached_container_is_spoken_with():
    for node in NODES:
        name = f"{node}-attach"
        shell = {"stdin": True, "stdinOnce": True, "command": ["sh", "-c", "read line; sleep 1; echo got $line"]}
        apply(pod(name, node, restartPolicy="Never", main=shell))
        phase(name, "Running")
        process = kubectl("attach", "-i", name)
        out, error = process.communicate(b"hello\n", timeout=60)
        assert b"got hello" in out, (out, error)
        delete(name)


def many_connections_go_through_one_forwarded_port():
    def test(name, node):
        forward = kubectl("port-forward", name, "18080:8080")
        try:
            assert b"Forwarding from" in forward.stdout.readline()
            fetch = [*inside("hub"), "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18080/"]
            answers, lock = [], threading.Lock()
            def once():
                out = subprocess.run(fetch, capture_output=True, timeout=60, check=False).stdout
                with lock:
                    answers.append(out)
            threads = [threading.Thread(target=once) for _ in range(30)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert answers == [f"served by {name}\n".encode()] * 30, answers
        finally:
            forward.terminate()
            forward.wait()
    each(test)


def pods_services_and_nodes_are_reached_through_the_api():
    def test(name, node):
        path = f"/api/v1/namespaces/default/pods/{name}:8080/proxy/"
        assert KUBE("get", "--raw", path).stdout == f"served by {name}\n"
        assert KUBE("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz").stdout == "ok"
        assert 'href="pods/"' in KUBE("get", "--raw", f"/api/v1/nodes/{node}/proxy/logs/").stdout
        bound = json.loads(KUBE("get", "--raw", f"/api/v1/nodes/{node}/proxy/pods").stdout)
        assert name in [p["metadata"]["name"] for p in bound["items"]]
        summary = json.loads(KUBE("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary").stdout)
        assert summary["node"]["nodeName"] == node and summary["node"]["memory"]["workingSetBytes"] > 0
        assert name in [p["podRef"]["name"] for p in summary["pods"]], summary["pods"]
    each(test)


def what_nodes_and_pods_use_is_shown():
    top = KUBE("top", "node").stdout
    assert all(any(line.startswith(node) for line in top.splitlines()) for node in NODES), top
    top = KUBE("top", "pod", "--containers").stdout
    assert all(f"{node}-one" in top for node in NODES), top
    # Series that dashboards and autoscalers ask for by these names and labels.
    def samples(path):
        return KUBE("get", "--raw", f"/api/v1/nodes/pi/proxy/metrics{path}").stdout
    of = 'container="main",namespace="default",pod="pi-one"'
    for series in (f"container_cpu_usage_seconds_total{{{of}}} ", f"container_memory_working_set_bytes{{{of}}} ",
                   f"container_start_time_seconds{{{of}}} ", 'pod_cpu_usage_seconds_total{namespace="default",pod="pi-one"} ',
                   "node_memory_working_set_bytes ", "resource_scrape_error 0"):
        assert f"\n{series}" in samples("/resource"), series
    found = samples("/cadvisor")
    for series in ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_failures_total",
                   "container_network_receive_bytes_total", "container_start_time_seconds"):
        assert any(line.startswith(series + "{") and 'pod="pi-one"' in line for line in found.splitlines()), series


FETCH = """
import ssl, sys, urllib.error, urllib.request
data = open(sys.argv[3], "rb").read() if len(sys.argv) > 3 else None
request = urllib.request.Request(sys.argv[1], data, {"Authorization": "Bearer " + sys.argv[2]} if sys.argv[2] else {})
try:
    answer = urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=20)
    print(answer.status, answer.read().decode() if data else "")
except urllib.error.HTTPError as refused:
    print(refused.code)
"""


SOCKET = """
import socket, ssl, struct, sys
host, port, path, token = sys.argv[1:]
plain = socket.create_connection((host, int(port)), timeout=20)
stream = ssl._create_unverified_context().wrap_socket(plain).makefile("rwb")
stream.write((f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nAuthorization: Bearer {token}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
              "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
              "Sec-WebSocket-Protocol: binary.k8s.io\\r\\n\\r\\n").encode())
stream.flush()
print(stream.readline().decode().strip())
while (line := stream.readline().strip().lower()) != b"":
    if line.startswith(b"sec-websocket-protocol"):
        print(line.decode())
while (head := stream.read(2)) and head[0] == 0x82:
    size = head[1] if head[1] < 126 else struct.unpack("!H", stream.read(2))[0]
    sys.stdout.write(stream.read(size).decode())
print("closed" if head and head[0] == 0x88 else f"then {head!r}")
"""


def a_log_is_read_over_a_websocket():
    KUBE("create", "serviceaccount", "reader")
    KUBE("create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader")
    token = KUBE("create", "token", "reader").stdout.strip()
    def test(name, _):
        path = f"/api/v1/namespaces/default/pods/{name}/log?container=main"
        said = run(*inside("hub"), "python3", "-c", SOCKET, NETS["hub"], "6443", path, token).stdout.splitlines()
        assert said == ["HTTP/1.1 101 Switching Protocols", "sec-websocket-protocol: binary.k8s.io", "up", "closed"], said
    each(test)


def what_is_sent_through_a_proxy_may_be_long():
    KUBE("create", "serviceaccount", "sender")
    KUBE("create", "clusterrolebinding", "sender", "--clusterrole=cluster-admin", "--serviceaccount=default:sender")
    token = KUBE("create", "token", "sender").stdout.strip()
    large = FOLDER / "large"
    large.write_bytes(os.urandom(20 << 20))
    def test(name, _):
        url = f"{URL}/api/v1/namespaces/default/pods/{name}:8080/proxy/cgi-bin/size"
        assert run(*inside("hub"), "python3", "-c", FETCH, url, token, large).stdout.split() == ["200", str(20 << 20)]
    each(test)


def the_kubelets_port_lets_in_who_may_and_nobody_else():
    KUBE("create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics")
    for account in ("scraper", "stranger"):
        KUBE("create", "serviceaccount", account)
    KUBE("create", "clusterrolebinding", "scraper", "--clusterrole=scraper", "--serviceaccount=default:scraper")
    tokens = {account: KUBE("create", "token", account).stdout.strip() for account in ("scraper", "stranger")}
    for address in NETS.values():
        def code(path, token):
            return run(*inside("hub"), "python3", "-c", FETCH, f"https://{address}:10250{path}", token).stdout.strip()
        assert code("/metrics/resource", "") == "401"
        assert code("/metrics/resource", "nonsense") == "401"
        assert code("/metrics/resource", tokens["stranger"]) == "403"
        assert code("/metrics/resource", tokens["scraper"]) == "200"
        assert code("/pods", tokens["scraper"]) == "403"


def a_pod_is_debugged_by_a_container_beside_it():
    def test(name, _):
        KUBE("debug", name, "--image=busybox", "--image-pull-policy=IfNotPresent", "--container=look", "--", "sh", "-c",
             "echo seen; sleep 60")
        KUBE("wait", f"pod/{name}", "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running}", "--timeout=60s")
        assert KUBE("logs", name, "-c", "look").stdout == "seen\n"
        assert exec_in(name, "echo", "beside", flags=("-c", "look")).stdout == "beside\n"
    each(test)


def a_tunnel_comes_back_after_the_servers_restart():
    RUNNING["hub"].stop()
    start_server()
    KUBE.ready("hub", 60)
    RUNNING["pi"].expect("the tunnel is open", 60)
    RUNNING["hub"].expect('tunnel is open node="pi"', 60)
    assert exec_in("pi-one", "echo", "again").stdout == "again\n"


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    try:
        code = main([
            the_nodes_come_up_and_run_a_pod_each,
            logs_are_read_by_their_options_and_followed,
            the_log_of_the_container_before_is_kept,
            a_command_gets_its_input_and_gives_its_output_and_its_code,
            input_of_megabytes_comes_back_as_it_was,
            older_clients_that_speak_spdy_are_served_too,
            fifty_megabytes_are_copied_both_ways,
            an_attached_container_is_spoken_with,
            many_connections_go_through_one_forwarded_port,
            pods_services_and_nodes_are_reached_through_the_api,
            a_log_is_read_over_a_websocket,
            what_is_sent_through_a_proxy_may_be_long,
            what_nodes_and_pods_use_is_shown,
            the_kubelets_port_lets_in_who_may_and_nobody_else,
            a_pod_is_debugged_by_a_container_beside_it,
            a_tunnel_comes_back_after_the_servers_restart,
        ])
        for what, figure in FIGURES.items():
            say(f"{what}: {figure:.2f}")
    finally:
        clean()
    sys.exit(code)
