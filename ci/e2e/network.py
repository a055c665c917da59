#!/usr/bin/env python3
"""The network between nodes by its traffic: a server and two agents, each in a network namespace, with pods of containerd.

`KILN_BIN` names the binary.
"""
import json
import sys

from harness import KILN, KUBECTL, run
from nodes import Nodes

NODES = Nodes("network", {"hub": "10.99.8.1", "pi": "10.99.8.2", "zero": "10.99.8.3"})
KUBE = NODES.kube
SERVE = "echo $HOSTNAME > /www/index.html; dd if=/dev/zero of=/www/big bs=1024 count=2048 2>/dev/null; httpd -f -p 8080 -h /www"


def fetch(pod, address, path="index.html", namespace="default", ok=True, seconds=3):
    """What a pod gets by HTTP."""
    host = f"[{address}]" if ":" in address else address
    return NODES.within(pod, f"busybox timeout {seconds} wget -q -O - http://{host}:8080/{path}", namespace, ok=ok)


def all_pods_reach_each_other(seconds=20):
    """Each web pod answers every other node's within this time, with a body of many whole packets."""
    for target in NODES.addresses:
        address = NODES.address(f"web-{target}")
        for source in NODES.addresses:
            if source != target:
                NODES.until(f"{source} reaches {target}", lambda: fetch(f"web-{source}", address, ok=False).stdout == f"web-{target}\n", seconds)
                size = NODES.within(f"web-{source}", f"busybox timeout 10 wget -q -O - http://{address}:8080/big | wc -c").stdout
                assert int(size) == 2048 * 1024, size


def field(pod, path):
    """A field of a pod."""
    return KUBE("get", "pod", pod, "-o", f"jsonpath={path}").stdout


def three_nodes_join_and_their_networks_are_available():
    NODES.start_all("--cluster-cidr", "10.42.0.0/16,fd00:42::/56", "--service-cidr", "10.43.0.0/16,fd00:43::/112",
                    "--load-balancer-pool", "10.99.8.240-10.99.8.249")
    for node in NODES.addresses:
        KUBE("wait", f"node/{node}", "--for=condition=NetworkUnavailable=false", "--timeout=30s")
        found = json.loads(KUBE("get", "node", node, "-o", "json").stdout)
        assert found["metadata"]["annotations"]["kiln.dev/public-ip"] == NODES.addresses[node], found["metadata"]


def pods_of_all_nodes_reach_each_other_by_their_addresses():
    NODES.apply(*[NODES.pod(f"web-{node}", node, SERVE, {"kind": "web"}, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
                  for node in NODES.addresses])
    NODES.ready(*[f"web-{node}" for node in NODES.addresses])
    assert "mtu 1450" in NODES.within("web-pi", "ip link show eth0").stdout
    all_pods_reach_each_other()
    node = NODES.ip("hub", "neigh", "show", "dev", "kiln.1").stdout
    assert node.count("PERMANENT") == 4, node


def seen_by(node, command):
    """What a command prints in a node's network."""
    return run(*NODES.inside(node), *command, ok=False).stdout


def a_node_itself_reaches_pods_of_others():
    address = NODES.address("web-pi")
    command = ["busybox", "timeout", "3", "busybox", "wget", "-q", "-O", "-", f"http://{address}:8080/index.html"]
    NODES.until("hub reaches a pod of pi", lambda: seen_by("hub", command) == "web-pi\n")


def a_service_leads_to_pods_of_all_nodes():
    NODES.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                 "spec": {"selector": {"kind": "web"}, "ports": [{"port": 8080}]}})
    address = KUBE("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").stdout
    for source in NODES.addresses:
        seen = set()
        NODES.until(f"{source} reaches all pods of the Service", lambda: seen.add(
            fetch(f"web-{source}", address, ok=False).stdout.strip()) or {f"web-{node}" for node in NODES.addresses} <= seen)


def a_service_is_called_by_its_name():
    for source in NODES.addresses:
        NODES.until(f"{source} reaches the Service by its name",
                    lambda: fetch(f"web-{source}", "web", ok=False).stdout.startswith("web-"))


def pods_have_an_address_of_each_family_and_are_reached_at_both():
    for target in NODES.addresses:
        first, second = field(f"web-{target}", "{.status.podIPs[*].ip}").split()
        assert first == NODES.address(f"web-{target}") and second.startswith("fd00:42:"), (first, second)
        for source in NODES.addresses:
            if source != target:
                NODES.until(f"{source} reaches {target} by IPv6", lambda: fetch(f"web-{source}", second, ok=False).stdout == f"web-{target}\n")


def a_service_of_both_families_is_reached_by_each_and_by_its_name():
    base = {"selector": {"kind": "web"}, "ports": [{"port": 8080}]}
    NODES.apply(*[{"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**base, **spec}} for name, spec in (
        ("both", {"ipFamilyPolicy": "PreferDualStack"}), ("must", {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
        ("six", {"ipFamilies": ["IPv6"]}))])
    for name, families in (("both", [".", ":"]), ("must", [":", "."]), ("six", [":"])):
        addresses = KUBE("get", "service", name, "-o", "jsonpath={.spec.clusterIPs[*]}").stdout.split()
        assert len(addresses) == len(families) and all(of in address for of, address in zip(families, addresses)), addresses
        for address in addresses:
            NODES.until(f"{name} at {address}", lambda: fetch("web-pi", address, ok=False).stdout.startswith("web-"))
    NODES.until("a name of IPv6 alone", lambda: fetch("web-zero", "six", ok=False).stdout.startswith("web-"))
    said = NODES.within("web-zero", "busybox nslookup -type=aaaa both.default.svc.cluster.local", ok=False).stdout
    assert "fd00:43::" in said, said


def what_pods_send_out_by_ipv6_has_the_nodes_address():
    for at, node in enumerate(NODES.addresses):
        NODES.ip(node, "address", "add", f"fd00:99::{at + 1}/64", "dev", "eth0", "nodad")
    NODES.ip("switch", "address", "add", "fd00:99::fe/64", "dev", "br0", "nodad")
    said = NODES.within("web-hub", "busybox ping6 -c 1 -w 5 fd00:99::fe", ok=False)
    assert said.returncode == 0, said


def a_load_balancer_s_address_is_announced_to_the_nodes_network():
    NODES.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "balanced"},
                 "spec": {"type": "LoadBalancer", "selector": {"kind": "web"}, "ports": [{"port": 8080}]}})
    KUBE("wait", "service/balanced", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=10.99.8.240", "--timeout=10s")
    NODES.ip("switch", "address", "add", "10.99.8.254/24", "dev", "br0")
    command = ["busybox", "timeout", "3", "busybox", "wget", "-q", "-O", "-", "http://10.99.8.240:8080/index.html"]
    NODES.until("somebody outside reaches it", lambda: seen_by("switch", command).startswith("web-"))
    node = KUBE("get", "service", "balanced", "-o", "jsonpath={.metadata.annotations.kiln\\.dev/announced-by}").stdout
    mac = json.loads(NODES.ip(node, "-j", "link", "show", "eth0").stdout)[0]["address"]
    assert mac in NODES.ip("switch", "neigh", "show", "10.99.8.240").stdout, (node, mac)


def a_policy_keeps_out_whom_it_does_not_name():
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "pi"},
              "spec": {"podSelector": {"matchLabels": {"app": "web-pi"}},
                       "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web-zero"}}}], "ports": [{"port": 8080}]}]}}
    NODES.apply(policy)
    address = NODES.address("web-pi")
    NODES.until("hub is kept out", lambda: fetch("web-hub", address, ok=False, seconds=1).returncode != 0)
    assert fetch("web-zero", address).stdout == "web-pi\n"
    six = field("web-pi", "{.status.podIPs[1].ip}")
    NODES.until("hub is kept out by IPv6", lambda: fetch("web-hub", six, ok=False, seconds=1).returncode != 0)
    assert fetch("web-zero", six).stdout == "web-pi\n"
    KUBE("wait", "pod/web-pi", "--for=condition=Ready", "--timeout=5s")
    KUBE("delete", "networkpolicy", "pi")
    NODES.until("hub is let in", lambda: fetch("web-hub", address, ok=False).stdout == "web-pi\n")


def a_node_that_was_cut_off_is_back():
    NODES.ip("switch", "link", "set", "pi", "down")
    address = NODES.address("web-pi")
    assert fetch("web-hub", address, ok=False, seconds=1).returncode != 0
    NODES.ip("switch", "link", "set", "pi", "up")
    all_pods_reach_each_other()


def a_node_that_changes_its_address_is_followed():
    NODES.ip("pi", "address", "del", f"{NODES.addresses['pi']}/24", "dev", "eth0")
    NODES.addresses["pi"] = "10.99.8.22"
    NODES.ip("pi", "address", "add", "10.99.8.22/24", "dev", "eth0")
    NODES.ip("pi", "route", "add", "default", "dev", "eth0", ok=False)
    KUBE("wait", "node/pi", "--for=jsonpath={.metadata.annotations.kiln\\.dev/public-ip}=10.99.8.22", "--timeout=60s")
    all_pods_reach_each_other()


def a_node_that_is_started_again_keeps_its_ways():
    NODES.running["zero"].kill()
    all_but = NODES.address("web-zero")
    assert fetch("web-hub", all_but).stdout == "web-zero\n", "its pods are reached while it is away"
    NODES.start("zero")
    KUBE.ready("zero", 60)
    all_pods_reach_each_other()


def a_node_that_is_deleted_leaves_no_ways():
    NODES.running["zero"].stop()
    KUBE("delete", "node", "zero", "--timeout=30s")
    NODES.until("no way to zero", lambda: NODES.addresses["zero"] not in seen_by("hub", ["bridge", "fdb", "show", "dev", "kiln.1"]))

if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    sys.exit(NODES.run([
        three_nodes_join_and_their_networks_are_available,
        pods_of_all_nodes_reach_each_other_by_their_addresses,
        a_node_itself_reaches_pods_of_others,
        a_service_leads_to_pods_of_all_nodes,
        a_service_is_called_by_its_name,
        pods_have_an_address_of_each_family_and_are_reached_at_both,
        a_service_of_both_families_is_reached_by_each_and_by_its_name,
        what_pods_send_out_by_ipv6_has_the_nodes_address,
        a_load_balancer_s_address_is_announced_to_the_nodes_network,
        a_policy_keeps_out_whom_it_does_not_name,
        a_node_that_was_cut_off_is_back,
        a_node_that_changes_its_address_is_followed,
        a_node_that_is_started_again_keeps_its_ways,
        a_node_that_is_deleted_leaves_no_ways,
    ]))
