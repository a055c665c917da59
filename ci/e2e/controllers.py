#!/usr/bin/env python3
"""Scheduler and controllers with real pods: three nodes, each in a network namespace with a containerd of its own.

All that takes its time is asked for at once and looked at in turn. `KILN_BIN` names the binary.
"""
import base64
import json
import sys

import oci
from harness import KILN, KUBECTL, run
from nodes import Nodes

NODES = Nodes("controllers", {"hub": "10.99.6.1", "pi": "10.99.6.2", "zero": "10.99.6.3"})
KUBE = NODES.kube
WAIT = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
SERVE = f"echo $VERSION > /www/index.html; httpd -p 8080 -h /www; {WAIT}"
# A silent node is given up sooner than by Kubernetes' default; kubelets tell of themselves every 10 s.
FLAGS = ["--kube-controller-manager-arg", "node-monitor-grace-period=20s",
         "--kube-controller-manager-arg", "horizontal-pod-autoscaler-sync-period=5s"]


def read(*arguments):
    """What kubectl prints as JSON."""
    return json.loads(KUBE("get", *arguments, "-o", "json").stdout)


def pods(app):
    """The pods of an app that are not being deleted."""
    return [pod for pod in read("pods", "-l", f"app={app}")["items"] if "deletionTimestamp" not in pod["metadata"]]


def until(what, path, value, seconds=60):
    """Waits by kubectl's watch until a field has a value."""
    done = KUBE("wait", what, f"--for=jsonpath={path}={value}", f"--timeout={seconds}s", timeout=seconds + 30, ok=False)
    assert done.returncode == 0, f"{done.stderr}\n{KUBE('describe', what, ok=False).stdout}"


def rolled_out(what, seconds=60):
    """Waits for a rollout as a person does."""
    done = KUBE("rollout", "status", what, f"--timeout={seconds}s", timeout=seconds + 30, ok=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{KUBE('get', 'pods', '-o', 'wide').stdout}"


def template(app, command=WAIT, resources=None, mounts=(), **spec):
    """A template of pods with one busybox."""
    container = {"name": "main", "image": "busybox:1", "command": ["sh", "-c", command], "resources": resources or {},
                 "volumeMounts": list(mounts)}
    return {"metadata": {"labels": {"app": app}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec}}


def workload(kind, name, template_, group="apps/v1", **spec):
    """A workload of such pods."""
    selector = {} if group == "batch/v1" else {"selector": {"matchLabels": {"app": name}}}
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": {**selector, "template": template_, **spec}}


def stateful(name, replicas, storage_class):
    """A StatefulSet whose pods add their node's name to a file on a volume of their own, and its Service."""
    command = f"echo $NODE >> /data/seen; {WAIT}"
    pod = template(name, command, mounts=[{"name": "data", "mountPath": "/data"}])
    pod["spec"]["containers"][0]["env"] = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
                                                    "resources": {"requests": {"storage": "1Mi"}}}}
    # They begin on pi, and may go elsewhere.
    pod["spec"]["affinity"] = prefers("pi")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"clusterIP": "None", "selector": {"app": name}}}
    return service, workload("StatefulSet", name, pod, serviceName=name, replicas=replicas, volumeClaimTemplates=[claim])


def prefers(node):
    """The affinity of a pod that would rather be on a node."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}}


def soon_gone(node):
    """What a pod has that is on a node and leaves it soon after the node fell silent."""
    left = [{"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
            for why in ("unreachable", "not-ready")]
    return {"affinity": prefers(node), "tolerations": left}


def three_nodes_join():
    for node in NODES.addresses:
        for version in "1", "2":
            oci.busybox(NODES.folder / node / f"agent/images/busybox-{version}.tar", f"docker.io/library/busybox:{version}",
                        Env=["PATH=/bin", f"VERSION={version}"])
    NODES.start_all(*FLAGS)


def all_is_asked_for_at_once():
    busy = template("load", "while :; do :; done", {"requests": {"cpu": "50m"}, "limits": {"cpu": "150m"}})
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template("tick", "true", restartPolicy="Never")}}}}
    # A volume that every node reaches, as one of a file server is.
    shared = [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"shared-{n}"},
               "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "shared",
                        "hostPath": {"path": str(NODES.folder / f"shared-{n}"), "type": "DirectoryOrCreate"}}} for n in range(2)]
    jobs = [workload("Job", "each", template("each", "echo $JOB_COMPLETION_INDEX; sleep 0.5", restartPolicy="Never"), "batch/v1",
                     completionMode="Indexed", completions=4, parallelism=2),
            workload("Job", "fails", template("fails", "exit 42", restartPolicy="Never"), "batch/v1", backoffLimit=6,
                     podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]})]
    most = {"requests": {"cpu": f"{1000 * int(read('node', 'hub')['status']['allocatable']['cpu']) - 600}m"}}
    here = {"nodeSelector": {"kubernetes.io/hostname": "hub"}}
    important = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "important"}, "value": 1000}
    NODES.apply(cron, workload("Deployment", "load", busy, replicas=1),
                workload("DaemonSet", "agent", template("agent"), updateStrategy={"rollingUpdate": {"maxUnavailable": "100%"}}),
                workload("Deployment", "lost", template("lost", **soon_gone("zero")), replicas=2),
                *shared, *stateful("db", 2, "shared"), *stateful("local", 1, "local-path"), *jobs, important,
                workload("Deployment", "humble", template("humble", resources=most, **here), replicas=1))
    KUBE("autoscale", "deployment/load", "--min=1", "--max=3", "--cpu-percent=50")
    NODES.until("a humble pod", lambda: pods("humble"))
    rolled_out("deployment/humble")
    urgent = template("urgent", resources=most, priorityClassName="important", **here)
    NODES.apply({"apiVersion": "v1", "kind": "Pod", **urgent, "metadata": {"name": "urgent", "labels": {"app": "urgent"}}})


def jobs_run_to_their_ends():
    KUBE("wait", "job/each", "--for=condition=Complete", "--timeout=60s")
    assert read("job", "each")["status"]["completedIndexes"] == "0-3"
    told = {KUBE("logs", pod["metadata"]["name"]).stdout.strip() for pod in pods("each")}
    assert told == {"0", "1", "2", "3"}, told
    KUBE("wait", "job/fails", "--for=condition=Failed", "--timeout=60s")
    [failed] = [c for c in read("job", "fails")["status"]["conditions"] if c["type"] == "Failed"]
    assert failed["reason"] == "PodFailurePolicy" and "exit code 42" in failed["message"], failed
    assert len(pods("fails")) == 1


def a_daemon_set_is_everywhere_and_is_updated():
    rolled_out("daemonset/agent")
    assert sorted(pod["spec"]["nodeName"] for pod in pods("agent")) == sorted(NODES.addresses)
    KUBE("set", "image", "daemonset/agent", "main=busybox:2")
    rolled_out("daemonset/agent")
    assert {pod["spec"]["containers"][0]["image"] for pod in pods("agent")} == {"busybox:2"}
    rolled_out("deployment/lost")
    assert {pod["spec"]["nodeName"] for pod in pods("lost")} == {"zero"}
    # From here on nobody hears of this node. Nothing new is to go there until that is known.
    KUBE("cordon", "zero")
    NODES.running["zero"].kill()


def a_deployment_is_made_reached_updated_and_rolled_back():
    def answers():
        ask = ["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", f"http://{address}/index.html"]
        return {run(*NODES.inside("hub"), *ask, ok=False).stdout.strip() for _ in range(4)}

    KUBE("create", "deployment", "web", "--image=busybox:1", "--replicas=2", "--", "sh", "-c", SERVE)
    ready = {"name": "busybox", "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    KUBE("patch", "deployment", "web", "-p", json.dumps({"spec": {"template": {"spec": {"containers": [ready]}}}}))
    KUBE("expose", "deployment/web", "--port=80", "--target-port=8080")
    rolled_out("deployment/web")
    address = read("service", "web")["spec"]["clusterIP"]
    NODES.until("answers of the first version", lambda: answers() == {"1"})
    KUBE("set", "image", "deployment/web", "busybox=busybox:2")
    rolled_out("deployment/web")
    NODES.until("answers of the second version", lambda: answers() == {"2"})
    KUBE("set", "image", "deployment/web", "busybox=busybox:none")
    NODES.until("a pod whose image is not there", lambda: any(
        "ImagePull" in (status.get("state", {}).get("waiting") or {}).get("reason", "")
        for pod in pods("web") for status in pod["status"].get("containerStatuses", [])))
    assert answers() == {"2"}, "the others go on"
    assert KUBE("rollout", "status", "deployment/web", "--timeout=1s", ok=False).returncode != 0
    KUBE("rollout", "undo", "deployment/web")
    rolled_out("deployment/web")
    assert answers() == {"2"}
    assert {pod["spec"]["containers"][0]["image"] for pod in pods("web")} == {"busybox:2"}


def a_pod_of_more_priority_takes_the_place_of_a_humble_one():
    KUBE("wait", "pod/urgent", "--for=condition=Ready", "--timeout=60s")
    until("deployment/humble", "{.status.unavailableReplicas}", 1)
    [waiting] = pods("humble")
    assert "nodeName" not in waiting["spec"], waiting["spec"]
    assert "Preempted" in KUBE("get", "events", "-o", "jsonpath={.items[*].reason}").stdout
    KUBE("delete", "pod", "urgent", "--timeout=30s")
    rolled_out("deployment/humble")


def a_drain_moves_a_stateful_set_with_its_volumes():
    rolled_out("statefulset/db")
    rolled_out("statefulset/local")
    before = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in pods("db") + pods("local")}
    assert set(before.values()) == {"pi"}, before
    KUBE("drain", "pi", "--ignore-daemonsets", "--timeout=60s", timeout=90)
    rolled_out("statefulset/db")
    for n in range(2):
        seen = NODES.within(f"db-{n}", "cat /data/seen").stdout.split()
        assert seen == ["pi", "hub"], seen
    # What is on a node's own disk waits for that node.
    until("pod/local-0", "{.status.conditions[?(@.type==\"PodScheduled\")].status}", "False")
    [condition] = [c for c in read("pod", "local-0")["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert "didn't match PersistentVolume's node affinity" in condition["message"], condition
    KUBE("uncordon", "pi")
    rolled_out("statefulset/local")
    assert NODES.within("local-0", "cat /data/seen").stdout.split() == ["pi", "pi"]


def a_replication_controller_is_made_described_exposed_patched_and_scaled():
    spec = {"replicas": 2, "selector": {"app": "nautilus"}, "template": template("nautilus")}
    NODES.apply({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "nautilus"}, "spec": spec})
    until("replicationcontroller/nautilus", "{.status.readyReplicas}", 2)
    described = KUBE("describe", "replicationcontroller", "nautilus").stdout
    for part in ("Replicas:     2 current / 2 desired", "Pods Status:  2 Running / 0 Waiting / 0 Succeeded / 0 Failed", "SuccessfulCreate"):
        assert part in described, f"no {part!r} in\n{described}"
    [first, _] = [pod["metadata"]["name"] for pod in pods("nautilus")]
    described = KUBE("describe", "pod", first).stdout
    for part in ("Controlled By:  ReplicationController/nautilus", "Image:         busybox:1", "Container started"):
        assert part in described, f"no {part!r} in\n{described}"
    KUBE("expose", "replicationcontroller", "nautilus", "--name=rm2", "--port=1234", "--target-port=8080")
    KUBE("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=8080")
    assert read("service", "rm3")["spec"]["selector"] == {"app": "nautilus"}
    NODES.until("endpoints of both pods", lambda: len((read("endpoints", "rm3").get("subsets") or [{}])[0].get("addresses", [])) == 2)
    KUBE("patch", "pod", first, "-p", '{"metadata": {"annotations": {"x": "y"}}}')
    KUBE("label", "pod", first, "testing-label=testing-label-value")
    listed = KUBE("get", "pod", first, "-L", "testing-label").stdout
    assert "testing-label-value" in listed and read("pod", first)["metadata"]["annotations"]["x"] == "y"
    KUBE("label", "pod", first, "testing-label-")
    assert "testing-label-value" not in KUBE("get", "pod", first, "-L", "testing-label").stdout
    KUBE("scale", "replicationcontroller", "nautilus", "--replicas=1")
    until("replicationcontroller/nautilus", "{.status.replicas}", 1)
    KUBE("delete", "replicationcontroller/nautilus", "service/rm2", "service/rm3", "--timeout=30s")


def a_pod_is_run_replaced_and_has_a_token_of_its_account():
    KUBE("run", "once", "--image=busybox:1", "--restart=Never", "--overrides", json.dumps(
        {"spec": {"terminationGracePeriodSeconds": 1}}), "--", "sh", "-c", WAIT)
    KUBE("wait", "pod/once", "--for=condition=Ready", "--timeout=60s")
    found = read("pod", "once")
    assert found["spec"]["restartPolicy"] == "Never"
    mounted = "/var/run/secrets/kubernetes.io/serviceaccount"
    token, namespace = (NODES.within("once", f"cat {mounted}/{name}").stdout.strip() for name in ("token", "namespace"))
    authority = NODES.within("once", f"cat {mounted}/ca.crt").stdout
    assert namespace == "default" and authority == read("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    (NODES.folder / "ca.crt").write_text(authority)
    who = json.loads(run(*NODES.inside("hub"), KUBECTL, "--kubeconfig", "/dev/null", "--server", NODES.url, "--certificate-authority",
                         NODES.folder / "ca.crt", "--token", token, "auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert who["username"] == "system:serviceaccount:default:default", who
    assert who["extra"]["authentication.kubernetes.io/pod-name"] == ["once"], who
    head, body = (json.loads(base64.urlsafe_b64decode(part + "===")) for part in token.split(".")[:2])
    issuer = json.loads(KUBE("get", "--raw", "/.well-known/openid-configuration").stdout)
    keys = json.loads(KUBE("get", "--raw", "/openid/v1/jwks").stdout)["keys"]
    assert issuer["issuer"] == body["iss"] and head["kid"] in {key["kid"] for key in keys}, (issuer, head, keys)
    found["spec"]["containers"][0]["image"] = "busybox:2"
    KUBE("replace", "-f", "-", stdin=json.dumps(found))
    assert read("pod", "once")["spec"]["containers"][0]["image"] == "busybox:2"
    KUBE("delete", "pod", "once", "--timeout=30s")


def a_guestbook_of_several_services_works_and_goes():
    write = f"echo a message > /www/index.html; httpd -p 8080 -h /www; {WAIT}"
    ask = "httpd -p 8080 -h /www; while :; do busybox timeout 2 wget -q -O /tmp/new http://backend/index.html && mv /tmp/new /www/index.html; sleep 0.3; done"
    parts = {"backend": write, "frontend": ask}
    services = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                 "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}} for name in parts]
    NODES.apply(*services, *[workload("Deployment", name, template(name, command), replicas=2) for name, command in parts.items()])
    address = read("service", "frontend")["spec"]["clusterIP"]
    wget = ["busybox", "timeout", "2", "busybox", "wget", "-q", "-O", "-", f"http://{address}/index.html"]
    NODES.until("the message by way of both", lambda: run(*NODES.inside("hub"), *wget, ok=False).stdout == "a message\n")
    for name in parts:
        KUBE("delete", f"deployment/{name}", f"service/{name}", "--timeout=30s")
        KUBE("wait", "pod", "-l", f"app={name}", "--for=delete", "--timeout=30s")


def pods_of_a_node_that_died_are_made_anew_elsewhere():
    until("node/zero", "{.status.conditions[?(@.type==\"Ready\")].status}", "Unknown")
    NODES.until("pods on nodes that live", lambda: (now := pods("lost")) and {pod["spec"].get("nodeName") for pod in now} <= {"hub", "pi"})
    rolled_out("deployment/lost")
    gone = [pod["metadata"] for pod in read("pods", "-l", "app=lost")["items"] if "deletionTimestamp" in pod["metadata"]]
    assert len(gone) == 2, "they are there until their node says that they ended"
    KUBE("taint", "node", "zero", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
    for pod in gone:
        KUBE("wait", f"pod/{pod['name']}", "--for=delete", "--timeout=60s")


def an_autoscaler_follows_the_load():
    until("deployment/load", "{.spec.replicas}", 3, 90)
    rolled_out("deployment/load")
    assert "SuccessfulRescale" in KUBE("describe", "horizontalpodautoscaler", "load").stdout


def a_cron_job_ran_at_the_full_minute():
    KUBE("wait", "cronjob/tick", "--for=jsonpath={.status.lastSuccessfulTime}", "--timeout=90s", timeout=120)
    assert read("cronjob", "tick")["status"]["lastScheduleTime"].endswith(":00Z")


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    sys.exit(NODES.run([
        three_nodes_join,
        all_is_asked_for_at_once,
        jobs_run_to_their_ends,
        a_daemon_set_is_everywhere_and_is_updated,
        a_deployment_is_made_reached_updated_and_rolled_back,
        a_pod_of_more_priority_takes_the_place_of_a_humble_one,
        a_drain_moves_a_stateful_set_with_its_volumes,
        a_replication_controller_is_made_described_exposed_patched_and_scaled,
        a_pod_is_run_replaced_and_has_a_token_of_its_account,
        a_guestbook_of_several_services_works_and_goes,
        pods_of_a_node_that_died_are_made_anew_elsewhere,
        an_autoscaler_follows_the_load,
        a_cron_job_ran_at_the_full_minute,
    ]))
