"""`ci/bench admission`: what policies, webhooks and definitions cost.

One client over one connection creates ConfigMaps without a policy, with one and with five, and with a webhook on the loopback;
then objects of a custom kind beside ConfigMaps. Last, 200 definitions of the size that operators' have are added, and the
memory that they cost is told. Bodies are alike, rounds alternate, and the best of each is told.
"""
import argparse
import base64
import http.client
import json
import multiprocessing
import os
import pathlib
import platform
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITIONS = 200
# Requests before anything is measured.
WARM = 300


def rss(pid):
    """Resident MiB of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


class Client:
    """One connection with the certificate of a kubeconfig."""

    def __init__(self, kubeconfig, scratch):
        text = pathlib.Path(kubeconfig).read_text()
        field = lambda name: re.search(rf"{name}: *\"?([^\s\"]+)", text).group(1)  # noqa: E731
        files = {}
        for name in ("certificate-authority-data", "client-certificate-data", "client-key-data"):
            files[name] = scratch / name
            files[name].write_bytes(base64.b64decode(field(name)))
        context = ssl.create_default_context(cafile=files["certificate-authority-data"])
        context.load_cert_chain(files["client-certificate-data"], files["client-key-data"])
        host, port = re.fullmatch(r"https://\[?([^\]]+)\]?:(\d+)/?", field("server")).groups()
        self.http = http.client.HTTPSConnection(host, int(port), context=context)
        self.http.connect()
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self, method, path, body=None, types="application/json"):
        self.http.request(method, path, body=json.dumps(body) if isinstance(body, dict) else body,
                          headers={"Content-Type": types, "User-Agent": "bench"})
        answer = self.http.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text[:300]}")
        return text


class Load:
    """Creates objects, each under a name of its own, and deletes them once they are counted."""

    def __init__(self, client, seconds):
        self.client, self.seconds, self.count = client, seconds, 0

    def rates(self, path, head=""):
        """Creations a second of objects of this head, stored and as a dry run, which has no disk in it."""
        rates = self.rate(path, head), self.rate(path, head, "?dryRun=All")
        self.client("DELETE", path)
        return rates

    def rate(self, path, head, query=""):
        """Creations a second."""
        self.count += 1
        label, made = f"r{self.count}", 0
        began = time.perf_counter()
        while time.perf_counter() - began < self.seconds:
            made += 1
            self.client("POST", path + query, f'{{{head}"metadata":{{"name":"{label}-{made}","labels":{{"app":"load"}}}},'
                                      f'"data":{{"key":"value","other":"{"x" * 300}"}}}}')
        return made / (time.perf_counter() - began)


def policy(name):
    """A policy as platform teams write them, with its binding."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules}, "failurePolicy": "Fail",
        "variables": [{"name": "labels", "expression": "has(object.metadata.labels) ? object.metadata.labels : {}"}],
        "validations": [
            {"expression": "'app' in variables.labels", "message": "label app is missing"},
            {"expression": "object.data.all(k, size(object.data[k]) < 4096 && !k.startsWith('secret'))"},
        ],
    }
    yield "validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    yield "validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding}


def answer_reviews(listener, context):
    """A webhook that lets everything pass, over connections that stay."""
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=answer_one, args=(stream, context), daemon=True).start()


def answer_one(stream, context):
    """Serves a connection until its end."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = context.wrap_socket(stream, server_side=True)
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = stream.recv(65536)
            if not more:
                return
            data += more
        head, data = data.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
        while len(data) < length:
            data += stream.recv(65536)
        uid = json.loads(data[:length])["request"]["uid"]
        data = data[length:]
        body = json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
                           "response": {"uid": uid, "allowed": True}}).encode()
        stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                       + body)


def webhook(scratch):
    """Starts the webhook; gives its process and its configuration."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE",
                    "-keyout", scratch / "hook.key", "-out", scratch / "hook.crt"], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(scratch / "hook.crt", scratch / "hook.key")
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.Process(target=answer_reviews, args=(listener, context), daemon=True)
    process.start()
    bundle = base64.b64encode((scratch / "hook.crt").read_bytes()).decode()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    hook = {"name": "bench.example.com", "clientConfig": {"url": url, "caBundle": bundle}, "rules": [rule],
            "sideEffects": "None", "admissionReviewVersions": ["v1"]}
    return process, {"metadata": {"name": "bench"}, "webhooks": [hook]}


def definition(number, schema):
    """A definition whose instances are like ConfigMaps, or of another schema."""
    plural = f"things{number}"
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
               "subresources": {"status": {}},
               "additionalPrinterColumns": [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]}
    return {"metadata": {"name": f"{plural}.g{number // 10}.example.com"}, "spec": {
        "group": f"g{number // 10}.example.com", "scope": "Namespaced",
        "names": {"plural": plural, "kind": f"Thing{number}"}, "versions": [version]}}


def small():
    """The schema of what is like a ConfigMap."""
    return {"type": "object", "properties": {
        "data": {"type": "object", "additionalProperties": {"type": "string"}}}}


def large():
    """A schema of the size of an operator's: a pod's template in a workload, with descriptions, some 45 KiB."""
    words = ("More about this field and what comes of it can be found in the documentation of the operator, which "
             "tells of defaults and of what must not be changed later. ")
    text = lambda: {"type": "string", "description": words}  # noqa: E731
    number = lambda: {"type": "integer", "format": "int32", "minimum": 0, "description": words}  # noqa: E731
    amount = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True,
              "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"}
    thing = lambda **fields: {"type": "object", "description": words, "properties": fields}  # noqa: E731
    listed = lambda item, key: {"type": "array", "items": item, "x-kubernetes-list-type": "map",  # noqa: E731
                                "x-kubernetes-list-map-keys": [key], "description": words}
    env = {**thing(name=text(), value=text(), valueFrom=thing(
        secretKeyRef=thing(name=text(), key=text(), optional={"type": "boolean"}),
        configMapKeyRef=thing(name=text(), key=text(), optional={"type": "boolean"}))), "required": ["name"]}
    probe = thing(httpGet=thing(path=text(), port=amount, host=text(), scheme=text()), periodSeconds=number(),
                  timeoutSeconds=number(), failureThreshold=number(), successThreshold=number())
    resources = thing(limits={"type": "object", "additionalProperties": amount},
                      requests={"type": "object", "additionalProperties": amount})
    container = {**thing(
        name=text(), image=text(), imagePullPolicy={**text(), "enum": ["Always", "Never", "IfNotPresent"]},
        command={"type": "array", "items": {"type": "string"}}, args={"type": "array", "items": {"type": "string"}},
        env=listed(env, "name"), livenessProbe=probe, readinessProbe=probe, startupProbe=probe, resources=resources,
        ports={"type": "array", "items": thing(name=text(), containerPort=number(), hostPort=number(), protocol=text())},
        volumeMounts={"type": "array", "items": thing(name=text(), mountPath=text(), subPath=text())},
        securityContext=thing(runAsUser=number(), runAsGroup=number(), privileged={"type": "boolean"},
                              seLinuxOptions=thing(level=text(), role=text(), type=text(), user=text()))), "required": ["name"]}
    term = thing(key=text(), operator=text(), values={"type": "array", "items": {"type": "string"}})
    affinity = thing(**{kind: thing(**{when: {"type": "array", "items": thing(
        weight=number(), topologyKey=text(), matchExpressions={"type": "array", "items": term})}
        for when in ("required", "preferred")}) for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")})
    spec = thing(replicas={**number(), "default": 1}, version=text(), paused={"type": "boolean", "default": False},
                 containers=listed(container, "name"), initContainers=listed(container, "name"), affinity=affinity,
                 tolerations={"type": "array", "items": thing(key=text(), operator=text(), value=text(), effect=text())},
                 storage=thing(size=amount, className=text(), selector=thing(matchLabels={
                     "type": "object", "additionalProperties": {"type": "string"}})))
    spec["x-kubernetes-validations"] = [{"rule": "self.replicas <= 100", "message": "at most 100"}]
    condition = thing(type=text(), status=text(), reason=text(), message=text(),
                      lastTransitionTime={"type": "string", "format": "date-time"})
    return {"type": "object", "properties": {
        "spec": spec, "status": thing(conditions=listed({**condition, "required": ["type"]}, "type"), replicas=number())}}


def established(client, name):
    """Waits for a definition, by a watch."""
    client.http.request("GET", f"{CRDS}?watch=1&fieldSelector=metadata.name%3D{name}")
    answer = client.http.getresponse()
    for line in answer:
        conditions = json.loads(line)["object"].get("status", {}).get("conditions") or []
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            break
    client.http.close()  # the watch's connection is of no more use
    client.http.connect()


def measure(kubeconfig, pid, scratch, seconds, rounds):
    """All figures of a server."""
    client = Client(kubeconfig, scratch)
    load = Load(client, seconds)
    maps, best = "/api/v1/namespaces/kube-public/configmaps", {}

    def keep(what, rates):
        best[what] = [max(pair) for pair in zip(best.get(what, (0, 0)), rates)]

    name = "things0.g0.example.com"
    client("POST", CRDS, definition(0, small()))
    established(client, name)
    things = "/apis/g0.example.com/v1/namespaces/kube-public/things0"
    for i in range(WARM):
        client("POST", maps, f'{{"metadata":{{"name":"warm-{i}"}}}}')
    for _ in range(rounds):
        keep("ConfigMap", load.rates(maps))
        keep("custom", load.rates(things, '"apiVersion":"g0.example.com/v1","kind":"Thing0",'))
        for many in (1, 5):
            for i in range(many):
                for plural, body in policy(f"bench{i}"):
                    client("POST", f"{ADMISSION}/{plural}", body)
            keep(f"{many} policies", load.rates(maps))
            for i in range(many):
                for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
                    client("DELETE", f"{ADMISSION}/{plural}/bench{i}")
        process, configuration = webhook(scratch)
        client("POST", f"{ADMISSION}/validatingwebhookconfigurations", configuration)
        keep("webhook", load.rates(maps))
        client("DELETE", f"{ADMISSION}/validatingwebhookconfigurations/bench")
        process.terminate()
    micros = {what: 1e6 / dry for what, (_, dry) in best.items()}
    result = {
        "posts_a_second": {what: stored for what, (stored, _) in best.items()},
        "dry_runs_a_second": {what: dry for what, (_, dry) in best.items()},
        "policy_us": (micros["5 policies"] - micros["ConfigMap"]) / 5,
        "webhook_us": micros["webhook"] - micros["ConfigMap"],
        "custom_to_configmap": micros["custom"] / micros["ConfigMap"],
    }
    if pid:
        schema = large()
        result["definition_kib"] = len(json.dumps(schema)) / 1024
        before = rss(pid)
        for i in range(1, DEFINITIONS + 1):
            client("POST", CRDS, definition(i, schema))
        established(client, f"things{DEFINITIONS}.g{DEFINITIONS // 10}.example.com")
        time.sleep(5)  # what answers leave behind is given back by then
        result["definitions_mib"] = rss(pid) - before
    return result


def main(newest):
    """`ci/bench admission`; `newest` finds a binary if none is named."""
    parser = argparse.ArgumentParser(prog="ci/bench admission", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", help="the binary to measure; without it the newest that an image was built with")
    parser.add_argument("--kubeconfig", help="measure the server that this leads to")
    parser.add_argument("--pid", type=int, help="the process of that server, for its memory")
    parser.add_argument("--seconds", type=float, default=3, help="how long each rate is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", choices=["text", "json"], default="text")
    arguments = parser.parse_args(sys.argv[2:])
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        if arguments.kubeconfig:
            figures = measure(arguments.kubeconfig, arguments.pid, scratch, arguments.seconds, arguments.rounds)
        else:
            kiln = arguments.kiln or newest()
            if kiln is None:
                sys.exit("no kiln for this machine is built: cargo imager build --board x86_64, or name one by --kiln")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            server = subprocess.Popen(
                [str(kiln), "server", "--data-dir", str(scratch / "server"), "--bind-address", "127.0.0.1",
                 "--https-listen-port", str(port), "--node-name", "bench", "--disable-agent", "--disable", "mdns"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                server.stdout.readline()  # the URL, once it serves
                kubeconfig = scratch / "server" / "server" / "admin.kubeconfig"
                figures = measure(kubeconfig, server.pid, scratch, arguments.seconds, arguments.rounds)
            finally:
                server.terminate()
                server.wait()
    result = {"machine": {"cores": os.cpu_count(), "system": platform.platform()}, **figures}
    if arguments.o == "json":
        print(json.dumps(result, indent=2))
        return
    print(f"machine: {result['machine']}")
    for what, rate in figures["posts_a_second"].items():
        print(f"POST, {what:12} {rate:8.0f}/s, as a dry run {figures['dry_runs_a_second'][what]:8.0f}/s")
    print(f"a policy costs {figures['policy_us']:.0f} us, the webhook {figures['webhook_us']:.0f} us; a custom object "
          f"{figures['custom_to_configmap']:.2f} times a ConfigMap")
    if "definitions_mib" in figures:
        print(f"{DEFINITIONS} definitions of {figures['definition_kib']:.0f} KiB: {figures['definitions_mib']:.1f} MiB")
