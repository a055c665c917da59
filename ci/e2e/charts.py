#!/usr/bin/env python3
"""Manifests and charts by the real binary and the real kubectl, without a node: what lies in server/manifests is on the server, a
HelmChart in it too, over HTTP from a repository; it follows its file, survives a restart, and goes when it is deleted.
"""
import base64
import http.server
import io
import json
import sys
import tarfile
import threading

from harness import KILN, Kubectl, free_port, main, scratch
from process import Process

FOLDER = scratch("charts")
PORT = free_port()
KUBE = Kubectl(FOLDER / "server/server/admin.kubeconfig", f"https://127.0.0.1:{PORT}")
MANIFESTS = FOLDER / "server/server/manifests"
RUNNING = {}

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.2.3\nappVersion: '9'\n",
    "values.yaml": "replicas: 0\ncolour: red\nlabels: {}\n",
    "crds/widgets.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions: [{name: v1, served: true, storage: true,
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
""",
    "templates/_helpers.tpl": """
{{- define "web.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}
""",
    "templates/all.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels: {{- include "web.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {checksum: {{ .Values | toYaml | sha256sum }}}
    spec: {containers: [{name: web, image: web}]}
---
{{- if .Capabilities.APIVersions.Has "apps/v1/Deployment" }}
apiVersion: example.org/v1
kind: Widget
metadata: {name: {{ .Release.Name }}}
colour: {{ .Values.colour }}
{{- end }}
""",
}


def archive():
    """The chart as Helm packs one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in CHART.items():
            entry = tarfile.TarInfo(f"web/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


class Repository(http.server.BaseHTTPRequestHandler):
    """A repository of one chart."""

    def do_GET(self):
        """The index, or the archive."""
        index = "entries:\n  web:\n  - {name: web, version: 1.2.3, urls: [web-1.2.3.tgz]}\n"
        body = {"/index.yaml": index.encode(), "/web-1.2.3.tgz": archive()}.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        """Nobody reads it."""


def chart(name, **spec):
    """A HelmChart."""
    return json.dumps({"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart", "metadata": {"name": name, "namespace": "kube-system"},
                       "spec": {"targetNamespace": "web", "createNamespace": True, **spec}})


def start():
    """Starts the server on its port."""
    RUNNING["server"] = Process(KILN, "server", "--disable-agent", "--disable", "mdns", "--bind-address", "127.0.0.1",
                                "--https-listen-port", PORT, "--data-dir", FOLDER / "server")
    RUNNING["server"].expect("serving url=")


def waits(what, path, value, *more):
    """Waits until a field of an object is this."""
    KUBE("wait", f"--for=jsonpath={path}={value}", what, "--timeout=30s", *more)


def manifests_are_applied_at_the_start_and_as_they_change():
    """A definition and its object in one file, and a HelmChart in another."""
    MANIFESTS.mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Repository)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    RUNNING["repo"] = f"http://127.0.0.1:{server.server_address[1]}"
    (MANIFESTS / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: x}\n")
    (MANIFESTS / "web.json").write_text(chart("web", repo=RUNNING["repo"], chart="web", set={"colour": "blue"}))
    start()
    KUBE("wait", "--for=create", "configmap/one", "--timeout=30s")
    (MANIFESTS / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\ndata: {a: x}\n")
    KUBE("wait", "--for=create", "configmap/two", "--timeout=30s")
    KUBE("wait", "--for=delete", "configmap/one", "--timeout=30s")
    waits("addon/map", "{.spec.source}", MANIFESTS / "map.yaml", "-n", "kube-system")


def a_chart_of_a_repository_is_installed_and_follows_its_file():
    """With its definition, its values, and a record that Helm reads."""
    KUBE("wait", "--for=create", "helmchart/web", "-n", "kube-system", "--timeout=30s")
    waits("helmchart/web", "{.status.conditions[0].status}", "False", "-n", "kube-system")
    waits("widget/web", "{.colour}", "blue", "-n", "web")
    found = json.loads(KUBE("get", "deployment", "web", "-n", "web", "-o", "json").stdout)
    assert found["metadata"]["labels"]["helm.sh/chart"] == "web-1.2.3", found["metadata"]
    content = base64.b64encode(archive()).decode()
    (MANIFESTS / "web.json").write_text(chart("web", chartContent=content, valuesContent="colour: green\n"))
    waits("widget/web", "{.colour}", "green", "-n", "web")
    KUBE("wait", "--for=create", "secret/sh.helm.release.v1.web.v2", "-n", "web", "--timeout=30s")


def a_restart_changes_nothing_and_a_disabled_manifest_goes_with_its_chart():
    """What the file made, the chart made."""
    RUNNING["server"].stop()
    RUNNING["server"] = Process(KILN, "server", "--disable-agent", "--disable", "mdns,web", "--bind-address", "127.0.0.1",
                                "--https-listen-port", PORT, "--data-dir", FOLDER / "server")
    RUNNING["server"].expect("serving url=")
    KUBE("wait", "--for=delete", "deployment/web", "-n", "web", "--timeout=30s")
    KUBE("wait", "--for=delete", "helmchart/web", "-n", "kube-system", "--timeout=30s")
    assert not (MANIFESTS / "web.json").exists()
    assert "two" in KUBE("get", "configmaps", "-o", "name").stdout
    RUNNING["server"].stop()


if __name__ == "__main__":
    sys.exit(main([
        manifests_are_applied_at_the_start_and_as_they_change,
        a_chart_of_a_repository_is_installed_and_follows_its_file,
        a_restart_changes_nothing_and_a_disabled_manifest_goes_with_its_chart,
    ]))
