#!/usr/bin/env python3
"""A cluster of IPv6 alone, as its server's node.toml has it: two nodes without an IPv4 address, with pods of containerd.

`KILN_BIN` names the binary.
"""
import json
import sys

from harness import KILN, KUBECTL
from nodes import Nodes

NODES = Nodes("ipv6", {"hub": "fd00:99:6::1", "pi": "fd00:99:6::2"})
KUBE = NODES.kube
SERVE = "echo $HOSTNAME > /www/index.html; httpd -f -p 8080 -h /www"
SETTINGS = """version = 1
[node]
role = "server"
[server]
cluster-cidr = "fd00:42::/56"
service-cidr = ["fd00:43::/112"]
"""


def fetch(pod, host):
    """What a pod gets by HTTP, if it does."""
    host = f"[{host}]" if ":" in host else host
    return NODES.within(pod, f"busybox timeout 3 wget -q -O - http://{host}:8080/index.html", ok=False).stdout.strip()


def two_nodes_are_ready_with_a_range_of_ipv6_each():
    settings = NODES.folder / "node.toml"
    settings.write_text(SETTINGS)
    NODES.start_all("--config", settings)
    for node, address in NODES.addresses.items():
        found = json.loads(KUBE("get", "node", node, "-o", "json").stdout)
        assert [cidr.endswith("/64") and cidr.startswith("fd00:42") for cidr in found["spec"]["podCIDRs"]] == [True], found["spec"]
        internal = [one["address"] for one in found["status"]["addresses"] if one["type"] == "InternalIP"]
        assert internal == [address], internal
    assert KUBE("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIPs[*]}").stdout == "fd00:43::1"


def pods_have_one_address_and_reach_each_other_across_nodes():
    NODES.apply(*[NODES.pod(f"web-{node}", node, SERVE, {"kind": "web"}, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
                  for node in NODES.addresses])
    NODES.ready(*[f"web-{node}" for node in NODES.addresses])
    for source, target in (("hub", "pi"), ("pi", "hub")):
        addresses = KUBE("get", "pod", f"web-{target}", "-o", "jsonpath={.status.podIPs[*].ip}").stdout.split()
        assert len(addresses) == 1 and addresses[0].startswith("fd00:42:"), addresses
        NODES.until(f"{source} reaches {target}", lambda: fetch(f"web-{source}", addresses[0]) == f"web-{target}")


def a_service_is_reached_by_its_name_from_either_node():
    NODES.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                 "spec": {"selector": {"kind": "web"}, "ports": [{"port": 8080}]}})
    assert KUBE("get", "service", "web", "-o", "jsonpath={.spec.clusterIPs[*]}").stdout.startswith("fd00:43::")
    for source in NODES.addresses:
        seen = set()
        NODES.until(f"{source} reaches both pods of the Service",
                    lambda: seen.add(fetch(f"web-{source}", "web")) or {f"web-{node}" for node in NODES.addresses} <= seen)


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    sys.exit(NODES.run([
        two_nodes_are_ready_with_a_range_of_ipv6_each,
        pods_have_one_address_and_reach_each_other_across_nodes,
        a_service_is_reached_by_its_name_from_either_node,
    ]))
