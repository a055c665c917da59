#!/usr/bin/env python3
"""Webhooks and aggregated APIs of pods: a server, and an agent that the pod with both is on, each in a network namespace.

`KILN_BIN` names the binary.
"""
import base64
import json
import pathlib
import sys

import extension
from extension import GROUP, VERSION
from harness import run
from nodes import Nodes
from process import Process

NODES = Nodes("admission", {"hub": "10.99.11.1", "pi": "10.99.11.2"})
KUBE = NODES.kube


def client_config():
    """How the webhook is reached and trusted."""
    bundle = base64.b64encode((NODES.folder / "tls.crt").read_bytes()).decode()
    return {"service": {"namespace": "default", "name": "extension", "port": 443}, "caBundle": bundle}


def a_pod_answers_for_an_api_as_whoever_asks():
    NODES.start_all()
    folder = NODES.folder
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=e",
        "-addext", "subjectAltName=DNS:extension.default.svc", "-keyout", folder / "tls.key", "-out", folder / "tls.crt")
    trusted = KUBE("get", "configmap", "extension-apiserver-authentication", "--namespace", "kube-system", "-o", "json").stdout
    (folder / "ca.crt").write_text(json.loads(trusted)["data"]["requestheader-client-ca-file"])
    ports = [{"name": "https", "port": 443, "targetPort": 8443}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "extension"},
               "spec": {"selector": {"app": "extension"}, "ports": ports}}
    api = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"{VERSION}.{GROUP}"}, "spec": {
        "group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200, **client_config()}}
    NODES.apply(api)
    condition = "--for=jsonpath={.status.conditions[0].reason}"
    KUBE("wait", f"{condition}=ServiceNotFound", f"apiservice/{VERSION}.{GROUP}", "--timeout=10s")
    NODES.apply(service, NODES.pod("extension", "pi"))
    NODES.ready("extension")
    program = [sys.executable, pathlib.Path(extension.__file__).resolve(), folder / "tls.crt", folder / "tls.key", folder / "ca.crt"]
    NODES.running["extension"] = Process(*NODES.pod_network("pi"), *program)
    NODES.running["extension"].expect("serving")
    KUBE("wait", f"{condition}=Passed", f"apiservice/{VERSION}.{GROUP}", "--timeout=40s", timeout=60)
    answer = KUBE("get", "--raw", f"/apis/{GROUP}/{VERSION}/namespaces/default/flunders").stdout
    who = json.loads(answer)["who"]
    assert who["user"] == "kubernetes-admin" and "system:masters" in who["groups"], who
    assert who["proxy"] == ["front-proxy-client"], who
    listed = KUBE("api-resources", "--api-group", GROUP, "-o", "name").stdout.strip()
    assert listed == f"flunders.{GROUP}", listed


def a_webhook_in_a_pod_refuses_and_converts():
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    hook = {"name": "bad.example.com", "clientConfig": client_config(), "rules": rules, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 5}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = lambda name, storage: {"name": name, "served": True, "storage": storage, "schema": schema}  # noqa: E731
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
           "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                    "versions": [version("v1", True), version("v2", False)],
                    "conversion": {"strategy": "Webhook", "webhook": {
                        "clientConfig": client_config(), "conversionReviewVersions": ["v1"]}}}}
    NODES.apply({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                 "metadata": {"name": "bad"}, "webhooks": [hook]}, crd)
    KUBE("create", "configmap", "good")
    refused = KUBE("create", "configmap", "bad", ok=False).stderr
    assert 'admission webhook "bad.example.com" denied the request: it is bad' in refused, refused
    KUBE("wait", "--for=condition=Established", "crd/things.example.com", "--timeout=10s")
    NODES.apply({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"x": 1}})
    shown = json.loads(KUBE("get", "--raw", "/apis/example.com/v2/namespaces/default/things/a").stdout)
    assert (shown["apiVersion"], shown["spec"]) == ("example.com/v2", {"x": 1}), shown


def an_api_without_its_pod_is_not_available():
    NODES.running["extension"].kill()
    KUBE("delete", "pod", "extension", "--wait=false")
    condition = "--for=jsonpath={.status.conditions[0].reason}=MissingEndpoints"
    KUBE("wait", condition, f"apiservice/{VERSION}.{GROUP}", "--timeout=20s")
    refused = KUBE("get", "--raw", f"/apis/{GROUP}/{VERSION}/namespaces/default/flunders", ok=False).stderr
    assert "unable to handle the request" in refused, refused
    KUBE("delete", "apiservice", f"{VERSION}.{GROUP}")


if __name__ == "__main__":
    sys.exit(NODES.run([
        a_pod_answers_for_an_api_as_whoever_asks,
        a_webhook_in_a_pod_refuses_and_converts,
        an_api_without_its_pod_is_not_available,
    ]))
