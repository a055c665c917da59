"""A pod of an image that came with the card: started without a registry, and reached from this machine."""
import json
import re
import subprocess
import urllib.request

import oci
from harness import run, say

NAME = "kiln.local/preloaded:1"
SERVE = "trap 'exit 0' TERM; echo up; echo hello > /www/index.html; httpd -p 8080 -h /www; n=0; while :; do n=$((n+1)); echo $n; sleep 1; done"


def archive(path, machine, busybox):
    """Writes an archive with the image, of a static busybox for a machine (in Kubernetes' word)."""
    oci.busybox(path, NAME, machine=machine, binary=busybox)


def busybox_of(image, folder):
    """The busybox in the root of an image that was built with the debug overlay."""
    table = json.loads(run("sfdisk", "--json", image).stdout)["partitiontable"]
    start = table["partitions"][1]["start"] * 512
    root = folder / "root.squashfs"
    run("mcopy", "-n", "-i", f"{image}@@{start}", "::root.squashfs", root)
    run("unsquashfs", "-no-progress", "-dest", folder / "unpacked", root, "usr/bin/busybox")
    return folder / "unpacked/usr/bin/busybox"


def reached(kube, node, seconds=120):
    """Starts the pod on a node, and reaches it by exec, by logs that are followed, and by a forwarded port."""
    container = {"name": "main", "image": NAME, "imagePullPolicy": "Never", "command": ["sh", "-c", SERVE]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "preloaded"},
           "spec": {"nodeName": node, "terminationGracePeriodSeconds": 5, "containers": [container]}}
    kube("wait", "--for=create", "serviceaccount/default", f"--timeout={seconds}s", timeout=seconds + 30)
    kube("create", "-f", "-", stdin=json.dumps(pod))
    kube("wait", "--for=condition=Ready", "pod/preloaded", f"--timeout={seconds}s", timeout=seconds + 30)
    times = json.loads(kube("get", "pod", "preloaded", "-o", "json").stdout)
    started = times["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    say(f"     {node}: the pod was made at {times['metadata']['creationTimestamp']}, and started at {started}")
    assert kube("exec", "preloaded", "--", "hostname").stdout == "preloaded\n"
    with subprocess.Popen([*kube.base, "logs", "--follow", "preloaded"], stdout=subprocess.PIPE, text=True) as logs:
        lines = [logs.stdout.readline() for _ in range(4)]
        logs.terminate()
    assert lines == ["up\n", "1\n", "2\n", "3\n"], lines
    with subprocess.Popen([*kube.base, "port-forward", "pod/preloaded", ":8080"], stdout=subprocess.PIPE, text=True) as forward:
        port = re.search(r"127\.0\.0\.1:(\d+) ->", forward.stdout.readline()).group(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.read() == b"hello\n"
        forward.terminate()
    kube("delete", "pod", "preloaded", f"--timeout={seconds}s", timeout=seconds + 30)
