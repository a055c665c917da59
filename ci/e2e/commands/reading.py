"""Every way of looking: get in all its forms, describe, explain, what is served, waiting, events, raw paths and the proxy."""

import http.client
import json
import re
import socket
import urllib.request

from commands import ASKED, FOLDER, KUBE, Fails, Has, Like, Warns, ask, namespace, table
from process import Process

EVENT = """
apiVersion: v1
kind: Event
metadata:
  name: %s
involvedObject: {apiVersion: v1, kind: Pod, name: one, namespace: looks, uid: "%s"}
reason: %s
message: %s
type: %s
count: 3
source: {component: kubelet}
firstTimestamp: "2026-01-02T03:04:05Z"
lastTimestamp: "2026-01-02T03:04:05Z"
"""


def background(here, *arguments):
    """A kubectl that goes on while others are asked."""
    ASKED.append(" ".join(arguments))
    return Process(*KUBE.base, "--namespace", here, *arguments)


def get_prints_in_every_form_and_selects():
    here = namespace("forms")
    for name, tier in (("a", "web"), ("b", "db"), ("c", "web")):
        table(
            here,
            (f"create configmap {name} --from-literal=size={'x' * ord(name[0])}", f"configmap/{name} created\n"),
            (f"label configmap {name} tier={tier}", f"configmap/{name} labeled\n"),
        )
    table(
        here,
        ("get configmaps -l tier", Like(r"NAME +DATA +AGE\na +1 +\d+s\nb +1 +\d+s\nc +1 +\d+s\n")),
        ("get configmap a --no-headers", Like(r"a +1 +\d+s\n")),
        ("get configmaps -l tier=web -o name", "configmap/a\nconfigmap/c\n"),
        ("get configmaps -l 'tier in (db,x),tier!=x' -o name", "configmap/b\n"),
        ("get configmaps -l '!tier' -o name", "configmap/kube-root-ca.crt\n"),
        ("get configmap a b -o name", "configmap/a\nconfigmap/b\n"),
        (
            "get configmaps --field-selector metadata.name!=a,metadata.name!=kube-root-ca.crt -o name",
            "configmap/b\nconfigmap/c\n",
        ),
        (
            "get configmaps --field-selector data.size=1",
            Fails('"data.size" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ),
        ("get configmaps -l 'a b'", Fails("unable to parse requirement")),
        ("get configmaps --show-labels -l tier=db", Like(r"NAME +DATA +AGE +LABELS\nb +1 +\d+s +tier=db\n")),
        ("get configmaps -L tier -l tier=db", Like(r"NAME +DATA +AGE +TIER\nb +1 +\d+s +db\n")),
        ("get configmaps -l tier --sort-by='{.metadata.labels.tier}' -o name", "configmap/b\nconfigmap/a\nconfigmap/c\n"),
        (
            "get configmaps -l tier -o custom-columns=N:.metadata.name,T:.metadata.labels.tier",
            "N     T\na     web\nb     db\nc     web\n",
        ),
        ("get configmaps --chunk-size=1 -o name", "configmap/a\nconfigmap/b\nconfigmap/c\nconfigmap/kube-root-ca.crt\n"),
        (
            "get configmap a -o yaml",
            Like(
                r"apiVersion: v1\ndata:\n  size: x+\nkind: ConfigMap\nmetadata:\n  creationTimestamp: "
                r'"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"\n  labels:\n    tier: web\n  name: a\n  namespace: forms\n'
                r'  resourceVersion: "\d+"\n  uid: [0-9a-f-]{36}\n'
            ),
        ),
        ("get configmaps -l tier=db -o json", Has('"kind": "List"', '"apiVersion": "v1"', '"name": "b"')),
        (
            "get configmaps -l tier=web -o jsonpath='{range .items[*]}{.metadata.name}={.metadata.labels.tier};{end}'",
            "a=web;c=web;",
        ),
        ("get configmaps -l tier=db -o go-template='{{range .items}}{{.metadata.name}}{{end}}'", "b"),
        ("get cm,sa -o name", "configmap/a\nconfigmap/b\nconfigmap/c\nconfigmap/kube-root-ca.crt\nserviceaccount/default\n"),
        ("get cm -A --field-selector metadata.namespace=forms -o name", Has("configmap/a\n")),
        ("get configmap absent", Fails('Error from server (NotFound): configmaps "absent" not found')),
        ("get configmap absent --ignore-not-found", ""),
        ("get pods", ""),
        ("get pods", Warns("No resources found in forms namespace.")),
        ("get widgets", Fails("error: the server doesn't have a resource type \"widgets\"")),
        ("get namespace forms -o wide", Like(r"NAME +STATUS +AGE\nforms +Active +\d+s\n")),
        ("get all -o name -n default", "service/kubernetes\n"),
        (
            "get service kubernetes -n default -o wide",
            Like(
                r"NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE +SELECTOR\n"
                r"kubernetes +ClusterIP +10\.43\.0\.1 +<none> +443/TCP +\w+ +<none>\n"
            ),
        ),
        (
            "get endpointslices -n default -l kubernetes.io/service-name=kubernetes -o name",
            "endpointslice.discovery.k8s.io/kubernetes\n",
        ),
    )


def a_watch_tells_what_comes_changes_and_goes():
    here = namespace("watched")
    watch = background(here, "get", "configmaps", "--watch", "--output-watch-events", "-l", "w")
    table(
        here,
        (
            "create -f -",
            "configmap/one created\n",
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","labels":{"w":"1"}}}',
        ),
    )
    watch.expect(r"^EVENT +NAME +DATA +AGE$")
    watch.expect(r"^ADDED +one +0 ")
    table(here, ("patch configmap one --type=merge -p '{\"data\":{\"a\":\"1\"}}'", "configmap/one patched\n"))
    watch.expect(r"^MODIFIED +one +1 ")
    table(here, ("label configmap one w-", "configmap/one unlabeled\n"))
    watch.expect(r"^DELETED +one +1 ")
    watch.kill()


def describe_tells_of_many_kinds():
    here = namespace("looks")
    # A scheduler that is not there leaves it alone: its events are those that are made here.
    nobody = '{"spec":{"schedulerName":"nobody"}}'
    table(here, (f"run one --image=nginx:1.27 --labels=app=one --port=80 --overrides='{nobody}'", "pod/one created\n"))
    uid = ask(here, "get pod one -o jsonpath='{.metadata.uid}'").stdout
    table(
        here,
        ("create -f -", "event/one.1 created\n", EVENT % ("one.1", uid, "Pulled", "Image is here", "Normal")),
        ("create -f -", "event/one.2 created\n", EVENT % ("one.2", uid, "BackOff", "Restarting", "Warning")),
        (
            "describe pod one",
            Has(
                "Name:             one",
                "Status:           Pending",
                "Image:        nginx:1.27",
                "QoS Class:",
                "/var/run/secrets/kubernetes.io/serviceaccount from kube-api-access-",
                "Pulled",
                "x3",
                "kubelet",
            ),
        ),
        ("create deployment web --image=nginx --replicas=2", "deployment.apps/web created\n"),
        (
            "wait deployment web --for=jsonpath='{.status.updatedReplicas}'=2 --timeout=30s",
            "deployment.apps/web condition met\n",
        ),
        (
            "describe deployment web",
            Has("Replicas:               2 desired | 2 updated | 2 total | 0 available", "25% max unavailable, 25% max surge"),
        ),
        ("create service clusterip web --tcp=80:8080", "service/web created\n"),
        ("describe service web", Has("TargetPort:               8080/TCP", "IP Families:              IPv4")),
        ("describe service kubernetes -n default", Has("component=apiserver", "Endpoints:")),
        ("create ingress front --rule=shop.example/x=web:80", "ingress.networking.k8s.io/front created\n"),
        ("describe ingress front", Has("shop.example", "/x", "web:80")),
        ("create secret generic key --from-literal=word=secret", "secret/key created\n"),
        ("describe secret key", Like(r".*Type:  Opaque\n\nData\n====\nword:  6 bytes\n")),
        ("describe configmap kube-root-ca.crt", Has("-----BEGIN CERTIFICATE-----")),
        ("create job once --image=busybox", "job.batch/once created\n"),
        (
            "describe job once",
            Has("Completion Mode:  NonIndexed", "Backoff Limit:    6", "batch.kubernetes.io/job-name=once"),
        ),
        ("create cronjob tick --image=busybox --schedule='0 * * * *'", "cronjob.batch/tick created\n"),
        ("describe cronjob tick", Has("Schedule:                      0 * * * *", "Concurrency Policy:            Allow")),
        # That of the job, two of the deployment, and one by itself.
        ("create quota all --hard=pods=5", "resourcequota/all created\n"),
        ("wait quota/all --for=jsonpath='{.status.used.pods}'=4 --timeout=30s", "resourcequota/all condition met\n"),
        ("describe quota all", Like(r".*pods +4 +5\n")),
        ("describe namespace looks", Has("Status:       Active", "Resource Quotas", "No LimitRange resource.")),
        ("describe clusterrole view", Has("aggregate-to-edit=true", "configmaps", "[get list watch]")),
        ("describe priorityclass system-node-critical", Has("2000001000", "PreemptLowerPriority")),
        ("describe serviceaccount default", Has("Name:                default")),
        ("describe flowschema system-leader-election", Has("leader-election")),
        ("describe pod absent", Fails('pods "absent" not found')),
        ("describe node absent", Fails('nodes "absent" not found')),
    )


def events_are_told_of_an_object_and_by_type():
    table(
        "looks",
        (
            "events --for pod/one",
            Like(
                r"LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n"
                r".*Normal +Pulled +Pod/one +Image is here\n.*Warning +BackOff +Pod/one +Restarting\n"
            ),
        ),
        ("events --for pod/one --types=Warning --no-headers", Like(r"\S+ \(x3 over \S+\) +Warning +BackOff +Pod/one +Restarting\n")),
        ("get events --field-selector type=Warning,involvedObject.name=one -o name", "event/one.2\n"),
        ("get events --field-selector involvedObject.name=one,reason=Pulled -o name", "event/one.1\n"),
        (
            "get events.v1.events.k8s.io one.1 -o jsonpath='{.regarding.name} {.note} {.deprecatedCount}'",
            "one Image is here 3",
        ),
        ("get event one.2", Like(r"LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n\S+ +Warning +BackOff +pod/one +Restarting\n")),
    )


def explain_knows_every_field():
    table(
        "default",
        ("explain pods", Like(r"KIND:       Pod\nVERSION:    v1\n\nDESCRIPTION:\n.*FIELDS:\n.*  spec\t<PodSpec>\n.*")),
        ("explain pods.spec.containers.ports.containerPort", Has("FIELD: containerPort <integer>")),
        ("explain deployment.spec.strategy.type", Has("GROUP:      apps", "FIELD: type <string>", "ENUM:", "RollingUpdate")),
        ("explain ingress --api-version=networking.k8s.io/v1", Has("GROUP:      networking.k8s.io", "<IngressSpec>")),
        ("explain hpa --api-version=autoscaling/v1", Has("VERSION:    v1", "GROUP:      autoscaling")),
        (
            "explain service.spec --recursive",
            Like(
                r".*\n  ports\t<\[\]ServicePort>\n    appProtocol\t<string>\n.*"
                r"    port\t<integer> -required-\n.*"
            ),
        ),
        ("explain configmap -o plaintext-openapiv2", Has("binaryData")),
        ("explain deployment.spec.nope", Fails('error: field "nope" does not exist')),
        ("explain widgets", Fails("the server doesn't have a resource type \"widgets\"")),
    )


def what_is_served_is_told():
    table(
        "default",
        ("api-resources", Has("NAME ", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND")),
        (
            "api-resources --api-group=apps --no-headers -o name",
            "controllerrevisions.apps\ndaemonsets.apps\ndeployments.apps\nreplicasets.apps\nstatefulsets.apps\n",
        ),
        (
            "api-resources --namespaced=false --api-group= --no-headers -o name",
            "componentstatuses\nnamespaces\nnodes\npersistentvolumes\n",
        ),
        (
            "api-resources --categories=all -o name --sort-by=name",
            Has("pods\n", "services\n", "deployments.apps\n", "cronjobs.batch\n"),
        ),
        (
            "api-resources --verbs=create --api-group=authorization.k8s.io -o name",
            "localsubjectaccessreviews.authorization.k8s.io\nselfsubjectaccessreviews.authorization.k8s.io\n"
            "selfsubjectrulesreviews.authorization.k8s.io\nsubjectaccessreviews.authorization.k8s.io\n",
        ),
        (
            "api-resources -o wide --no-headers --api-group=batch",
            Like(
                r"cronjobs +cj +batch/v1 +true +CronJob +create,delete,deletecollection,get,list,patch,update,watch +all\n"
                r"jobs +batch/v1 +true +Job +create,delete,deletecollection,get,list,patch,update,watch +all\n"
            ),
        ),
        (
            "api-versions",
            Like(r"admissionregistration.k8s.io/v1\n.*\napps/v1\n.*\nautoscaling/v1\nautoscaling/v2\n.*\nv1\n"),
        ),
        ("version", Like(r"Client Version: v1\.32\.\d+\nKustomize Version: \S+\nServer Version: v1\.36\.\d+\+kiln\d+\n")),
        ("version -o json", Has('"major": "1"', '"minor": "36"', '"platform": "linux/')),
        ("cluster-info", Like(r".*Kubernetes control plane.* is running at .*https://127.0.0.1:\d+.*")),
        ("cluster-info dump --namespaces=default", Has('"kind": "NodeList"', '"kind": "ServiceList"')),
        (
            "config view -o jsonpath='{.current-context} {.clusters[0].cluster.certificate-authority-data}'",
            Has("kiln DATA+OMITTED"),
        ),
        ("config current-context", "kiln\n"),
        ("completion bash", Has("__start_kubectl")),
        ("get --raw /healthz", "ok"),
        ("get --raw /readyz?verbose", Has("[+]ping ok", "readyz check passed")),
        ("get --raw /version", Has('"gitVersion": "v1.36')),
        ("get --raw /api", Has('"versions":["v1"]')),
        ("get --raw /apis/apps/v1", Has('"name":"deployments/scale"')),
        ("get --raw /openid/v1/jwks", Has('"keys":[{')),
        ("get --raw /metrics", Has("apiserver_request_total{", "# TYPE apiserver_request_duration_seconds histogram")),
        ("get --raw /api/v1/nowhere", Fails("the server could not find the requested resource")),
        ("get --raw /openapi/v3", Has('"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=')),
    )


def wait_waits_for_what_is_said():
    here = namespace("waits")
    late = background(here, "wait", "--for=create", "configmap/late", "--timeout=30s")
    table(
        here,
        ("create configmap late --from-literal=a=1", "configmap/late created\n"),
        ("wait --for=jsonpath='{.data.a}'=1 configmap/late --timeout=30s", "configmap/late condition met\n"),
        (
            "wait --for=jsonpath='{.data.a}'=2 configmap/late --timeout=0",
            Fails("error: condition not met for configmaps/late"),
        ),
        ("wait --for=delete configmap/never --timeout=5s", ""),
        ("wait --for=condition=Available deployment/none", Fails('deployments.apps "none" not found')),
        ("create deployment web --image=nginx", "deployment.apps/web created\n"),
        ("wait --for=condition=Progressing deployment/web --timeout=30s", "deployment.apps/web condition met\n"),
        ("wait --for=condition=Available=False deployment/web --timeout=30s", "deployment.apps/web condition met\n"),
        (
            "wait --for=condition=Available deployment/web --timeout=0",
            Fails("error: condition not met for deployments/web"),
        ),
    )
    late.expect("^configmap/late condition met$")
    late.kill()


def the_proxy_passes_requests_on():
    proxy = background("default", "proxy", "--port=0")
    url = "http://" + proxy.expect(r"^Starting to serve on (\S+)").group(1)
    with urllib.request.urlopen(f"{url}/api/v1/namespaces/default") as answer:
        assert json.load(answer)["metadata"]["name"] == "default"
    proxy.kill()
    path = str(FOLDER / "proxy.sock")
    proxy = background("default", "proxy", f"--unix-socket={path}")
    proxy.expect(r"^Starting to serve on " + re.escape(path))
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", "/api/")
    assert json.load(connection.getresponse())["versions"] == ["v1"]
    proxy.kill()


TESTS = [
    get_prints_in_every_form_and_selects,
    a_watch_tells_what_comes_changes_and_goes,
    describe_tells_of_many_kinds,
    events_are_told_of_an_object_and_by_type,
    explain_knows_every_field,
    what_is_served_is_told,
    wait_waits_for_what_is_said,
    the_proxy_passes_requests_on,
]
