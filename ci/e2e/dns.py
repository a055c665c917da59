#!/usr/bin/env python3
"""The cluster's DNS as pods see it: a server that is its own node, and an agent, in the network of `pod_nodes.py`, which see.

`KILN_BIN` names the binary.
"""
import json
import sys
import time

import oci
from harness import KILN, main, run, say
from pod_nodes import (
    FOLDER, KUBE, NETS, RUNNING, apply, clean, get, inside, network, phase, pod, start_agent, start_server, until,
)

CLUSTER_DNS = "10.43.0.10"


def within(name, command, ok=True):
    """Runs a command in a pod."""
    return KUBE("exec", name, "--", "sh", "-c", command, ok=ok)


def looked_up(name, what, kind="a", ok=True):
    """What a pod's look-up prints."""
    found = within(name, f"nslookup -type={kind} {what}", ok=ok)
    return found.stdout + found.stderr


def resolved(name, what):
    """The address that a program in a pod gets from its C library, which goes through the search path: ping says whom it asks."""
    return within(name, f"busybox ping -c 1 -W 1 {what} 2>&1 | head -1", ok=False).stdout


def eventually(what, check, seconds=30):
    """Waits until names are as they should be: nothing watches DNS."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return found


def create(*objects):
    """Creates objects."""
    KUBE("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def service(name, **spec):
    """A Service."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": ports, "selector": {"app": "web"}, **spec}}


# --- The scenarios ------------------------------------------------------------------------------------------------------------

def two_nodes_run_pods():
    network()
    for node in NETS:
        oci.busybox(FOLDER / node / "agent/images/busybox.tar")
    start_server()
    (FOLDER / "kubeconfig").write_text(run(KILN, "kubeconfig", "--data-dir", FOLDER / "hub").stdout)
    (FOLDER / "token").write_text(run(*inside("hub"), KILN, "token", "create", "--data-dir", FOLDER / "hub").stdout.strip())
    start_agent()
    for node in NETS:
        KUBE.ready(node, 60)
    KUBE("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    KUBE("wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=30s")
    found = json.loads(KUBE("get", "service", "kube-dns", "--namespace", "kube-system", "-o", "json").stdout)
    assert found["spec"]["clusterIP"] == CLUSTER_DNS, found


def pods_are_told_where_the_dns_is_and_find_services_by_every_form_of_their_names():
    web = pod("web-0", hostname="web-0", subdomain="web")
    web["metadata"]["labels"] = {"app": "web"}
    create(service("web", clusterIP="None"), service("front"))
    apply(web, *[pod(f"asks-{node}", node) for node in NETS])
    for name in ("web-0", *[f"asks-{node}" for node in NETS]):
        phase(name, "Running")
        until(name, "{.status.podIP}")
    address = get("web-0")["status"]["podIP"]
    front = json.loads(KUBE("get", "service", "front", "-o", "json").stdout)["spec"]["clusterIP"]
    for node in NETS:
        asks = f"asks-{node}"
        text = within(asks, "cat /etc/resolv.conf").stdout
        assert f"nameserver {CLUSTER_DNS}\n" in text and "search default.svc.cluster.local svc.cluster.local cluster.local" in text, text
        for form in ("front", "front.default", "front.default.svc", "front.default.svc.cluster.local"):
            eventually(f"{asks} finds {form}", lambda: f"({front})" in resolved(asks, form))
        eventually(f"{asks} finds the endpoint", lambda: address in looked_up(asks, "web-0.web.default.svc.cluster.local", ok=False))
        assert "10.43.0.1" in looked_up(asks, "kubernetes.default.svc.cluster.local")
        reverse = within(asks, f"nslookup {front}").stdout
        assert "front.default.svc.cluster.local" in reverse, reverse
        srv = looked_up(asks, "_http._tcp.front.default.svc.cluster.local", "srv")
        assert "80 front.default.svc.cluster.local" in srv, srv


def a_name_outside_is_asked_of_the_nodes_server_and_kept():
    # A pod asks this node, and this node the server that a ConfigMap names.
    found = run(*inside("hub"), "ip", "address", "show", "dev", "lo").stdout
    assert f"inet {CLUSTER_DNS}/32 scope global lo:kiln-dns" in found, found
    data = {"a.override": "hosts {\n  192.0.2.1 printer.home\n}\nrewrite name web.home front.default.svc.cluster.local\n"}
    custom = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns-custom", "namespace": "kube-system"}, "data": data}
    create(custom)
    for node in NETS:
        eventually("the printer is found", lambda: "192.0.2.1" in looked_up(f"asks-{node}", "printer.home", ok=False))
        assert "10.43." in looked_up(f"asks-{node}", "web.home")
    custom["data"] = {"a.override": "hosts {\n  printer.home\n}\n"}
    create(custom)

    def told():
        events = json.loads(KUBE("get", "events", "--namespace", "kube-system", "-o", "json").stdout)["items"]
        return [event["message"] for event in events if event["involvedObject"]["name"] == "coredns-custom"]

    [message] = eventually("the mistake is told", told)
    assert message.startswith("a.override line 2: `printer.home` is no address"), message
    assert "192.0.2.1" in looked_up("asks-hub", "printer.home"), "what held before holds"


def every_node_tells_whom_it_reaches():
    # Nothing routes out of these networks: what is outside is asked of a server that nobody is.
    for node, other in (("hub", "pi"), ("pi", "hub")):
        told = json.loads(run(*inside(node), KILN, "status", "--network", "--data-dir", FOLDER / node, "-o", "json").stdout)
        assert told["api"]["result"] == "reached", told
        [seen] = told["nodes"]
        assert (seen["name"], seen["node"]["result"]) == (other, "reached"), told
        assert told["dns"][0].get("answer") == "10.43.0.1", told
        services = {service["what"]: service["result"] for service in told["services"]}
        assert services["default/kubernetes"] == "reached" and services["kube-system/kube-dns"] == "reached", told
    say(run(*inside("hub"), KILN, "status", "--network", "--data-dir", FOLDER / "hub").stdout)


def without_dns_nothing_listens_and_the_address_is_free():
    RUNNING["hub"].stop()
    found = run(*inside("hub"), "ip", "address", "show", "dev", "lo").stdout
    assert CLUSTER_DNS not in found, found


if __name__ == "__main__":
    try:
        code = main([
            two_nodes_run_pods,
            pods_are_told_where_the_dns_is_and_find_services_by_every_form_of_their_names,
            a_name_outside_is_asked_of_the_nodes_server_and_kept,
            every_node_tells_whom_it_reaches,
            without_dns_nothing_listens_and_the_address_is_free,
        ])
        if code:
            for process in RUNNING.values():
                say("\n".join(process.said[-40:]))
    finally:
        clean()
    sys.exit(code)
