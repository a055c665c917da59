#!/usr/bin/env python3
"""Services by their traffic: a server and an agent, each in a network namespace, with pods of containerd behind Services.

`KILN_BIN` names the binary.
"""
import json
import sys

from harness import KILN, KUBECTL, run
from nodes import Nodes

NODES = Nodes("services", {"hub": "10.99.9.1", "pi": "10.99.9.2"})
KUBE = NODES.kube
SERVE = "mkdir -p /www; echo $HOSTNAME > /www/index.html; httpd -f -p 8080 -h /www"
READY = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}


def service(name, **spec):
    """A Service of the web pods, as an object."""
    base = {"selector": {"web": "yes"}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**base, **spec}}


def field(name, path):
    """A field of a Service."""
    return KUBE("get", "service", name, "-o", f"jsonpath={path}").stdout


def wget(address, port, seconds=3):
    """The command that asks by HTTP."""
    return f"busybox timeout {seconds} wget -q -O - http://{address}:{port}/index.html"


def from_pod(pod, address, port=80):
    """What a pod is answered."""
    return NODES.within(pod, wget(address, port), ok=False).stdout.strip()


def from_node(node, address, port=80):
    """What a node itself is answered."""
    return run(*NODES.inside(node), *wget(address, port).replace("wget", "busybox wget").split(), ok=False).stdout.strip()


def both_answer(ask, what):
    """Both web pods answer, by and by."""
    found = set()
    NODES.until(what, lambda: found.add(ask()) or {"web-hub", "web-pi"} <= found, 30)
    assert found <= {"web-hub", "web-pi", ""}, found


def a_service_is_reached_from_pods_and_nodes():
    NODES.start_all()
    webs = [NODES.pod(f"web-{node}", node, SERVE, {"web": "yes"}, readinessProbe=READY) for node in NODES.addresses]
    asking = [NODES.pod(f"ask-{node}", node) for node in NODES.addresses]
    NODES.apply(service("web"), *webs, *asking)
    NODES.ready("web-hub", "web-pi", "ask-hub", "ask-pi")
    address = field("web", "{.spec.clusterIP}")
    for node in NODES.addresses:
        both_answer(lambda: from_pod(f"ask-{node}", address), f"a pod on {node}")
        both_answer(lambda: from_node(node, address), f"{node} itself")
        # A pod behind the Service, which it may itself be led to.
        both_answer(lambda: from_pod(f"web-{node}", address), f"web-{node}")


def the_api_is_reached_by_its_service():
    for node in NODES.addresses:
        done = NODES.within(f"ask-{node}", "echo hello | busybox nc -w 5 10.43.0.1 443", ok=False)
        assert done.returncode == 0, (node, done.stderr)


def a_port_of_any_node_leads_to_the_service():
    NODES.apply(service("ports", type="NodePort"))
    port = field("ports", "{.spec.ports[0].nodePort}")
    for node, address in NODES.addresses.items():
        for source in NODES.addresses:
            both_answer(lambda: from_node(source, address, port), f"{source} at {node}")


def a_load_balancer_has_the_nodes_addresses_and_serves_there():
    NODES.apply(service("balanced", type="LoadBalancer", ports=[{"port": 8088, "targetPort": 8080}]))
    wanted = set(NODES.addresses.values())
    NODES.until("addresses", lambda: set(field("balanced", "{.status.loadBalancer.ingress[*].ip}").split()) == wanted)
    for address in NODES.addresses.values():
        both_answer(lambda: from_node("pi", address, 8088), f"pi at {address}")


def definition(kind, plural, version="v1", scope="Namespaced"):
    """A definition of the Gateway API, with the shape left open: users install those of the API's own releases."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    group = "gateway.networking.k8s.io"
    served = {"name": version, "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}", "annotations": {"api-approved.kubernetes.io": "https://example.com/a-test"}},
            "spec": {"group": group, "scope": scope, "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                     "versions": [served]}}


def a_gateway_is_served_by_every_node_once_the_gateway_api_is_installed():
    NODES.apply(definition("GatewayClass", "gatewayclasses", scope="Cluster"), definition("Gateway", "gateways"),
                definition("HTTPRoute", "httproutes"), definition("ReferenceGrant", "referencegrants", "v1beta1"))
    NODES.until("the class", lambda: KUBE("get", "gatewayclass", "kiln", "-o", "jsonpath={.status.conditions[0].status}",
                                          ok=False).stdout == "True", 30)
    api = "gateway.networking.k8s.io/v1"
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}, {"name": "other", "port": 8081, "protocol": "HTTP"}]
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/index.html"}}], "backendRefs": [{"name": "web", "port": 80}]}
    NODES.apply({"apiVersion": api, "kind": "Gateway", "metadata": {"name": "gw"},
                 "spec": {"gatewayClassName": "kiln", "listeners": listeners}},
                {"apiVersion": api, "kind": "HTTPRoute", "metadata": {"name": "web"},
                 "spec": {"parentRefs": [{"name": "gw"}], "rules": [rule]}})
    KUBE("wait", "gateway/gw", "--for=condition=Programmed", "--timeout=20s")
    wanted = set(NODES.addresses.values())
    found = KUBE("get", "gateway", "gw", "-o", "jsonpath={.status.addresses[*].value}").stdout
    assert set(found.split()) == wanted, found
    told = KUBE("get", "httproute", "web", "-o", "jsonpath={.status.parents[0].conditions[*].status}").stdout
    assert told == "True True", told
    for address in NODES.addresses.values():
        for port in (80, 8081):
            both_answer(lambda: from_node("pi", address, port), f"the Gateway at {address}:{port}")


def an_endpoint_that_goes_gets_nothing_more_and_none_is_refused_at_once():
    address = field("web", "{.spec.clusterIP}")
    KUBE("label", "pod", "web-pi", "web-")
    KUBE("wait", "pod/web-pi", "--for=jsonpath={.metadata.labels.app}=web-pi", "--timeout=10s")
    NODES.until("only web-hub", lambda: {from_pod("ask-pi", address) for _ in range(10)} == {"web-hub"})
    KUBE("label", "pod", "web-hub", "web-")
    NODES.until("nobody", lambda: from_pod("ask-pi", address) == "")
    done = NODES.within("ask-pi", wget(address, 80, 20), ok=False)
    assert "Connection refused" in done.stderr, done
    KUBE("label", "pod", "web-hub", "web-pi", "web=yes")
    both_answer(lambda: from_pod("ask-hub", address), "both again")


def services_go_on_while_a_node_s_kiln_is_away():
    address = field("web", "{.spec.clusterIP}")
    pod = json.loads(KUBE("get", "pod", "ask-pi", "-o", "json").stdout)["status"]["podIP"]
    assert pod, "it has an address"
    NODES.running["pi"].kill()
    both_answer(lambda: from_node("pi", address), "pi without kiln")
    NODES.start("pi")
    KUBE.ready("pi", 60)
    both_answer(lambda: from_pod("ask-pi", address), "a pod on pi again")


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    sys.exit(NODES.run([
        a_service_is_reached_from_pods_and_nodes,
        the_api_is_reached_by_its_service,
        a_port_of_any_node_leads_to_the_service,
        a_load_balancer_has_the_nodes_addresses_and_serves_there,
        a_gateway_is_served_by_every_node_once_the_gateway_api_is_installed,
        an_endpoint_that_goes_gets_nothing_more_and_none_is_refused_at_once,
        services_go_on_while_a_node_s_kiln_is_away,
    ]))
