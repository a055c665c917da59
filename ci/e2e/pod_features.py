#!/usr/bin/env python3
"""What a pod's spec asks for, seen from inside of pods that run: environment, names, volumes, rights, resources.

Uses the server, the network and the images of `pods.py`, which see. Needs root, containerd, runc, CNI plugins and busybox-static;
`KILN_BIN` names the binary.
"""
import base64
import json
import pathlib
import re
import sys
import time

import oci
import pods
from harness import KILN, main, run
from process import Process
from pods import KUBE, FOLDER, apply, delete, events, get, logs, phase, pod, status, until

CGROUPS = pathlib.Path("/sys/fs/cgroup")


def script(*lines):
    """A container that runs these lines and ends."""
    return {"command": ["sh", "-c", "\n".join(lines)]}


def told(name, container="main"):
    """What a container wrote as `key=value`, by key."""
    return dict(line.split("=", 1) for line in logs(name, container).splitlines() if "=" in line)


def once(name, lines, wanted="Succeeded", **spec):
    """Runs a pod that ends by itself, and answers what it told. It is left to be looked at."""
    one = script(*lines)
    one.update(spec.pop("main", {}))
    apply(pod(name, restartPolicy="Never", main=one, **spec))
    phase(name, wanted)
    return told(name)


def create(kind, name, **fields):
    """Creates an object of the default namespace."""
    group = {"PersistentVolume": "v1", "PersistentVolumeClaim": "v1"}.get(kind, "v1")
    KUBE("create", "-f", "-", stdin=json.dumps({"apiVersion": group, "kind": kind, "metadata": {"name": name}, **fields}))


def group(uid, controller):
    """A pod's control group on the machine."""
    base = CGROUPS if (CGROUPS / "cgroup.controllers").exists() else CGROUPS / controller
    [found] = [path for path in base.glob(f"kubepods*/**/pod{uid}") if path.is_dir()]
    return found


def eventually(check, seconds=30):
    """Waits until what a pod writes, or the machine shows, is so: there is nothing to watch it by."""
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


# --- The scenarios ------------------------------------------------------------------------------------------------------------

def a_server_runs_pods():
    pods.network()
    oci.busybox(FOLDER / "hub" / "agent/images/busybox.tar")
    pods.start_server()
    (FOLDER / "kubeconfig").write_text(run(pods.KILN, "kubeconfig", "--data-dir", FOLDER / "hub").stdout)
    KUBE.ready("hub", 60)
    KUBE("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    KUBE("wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=30s")


def the_environment_comes_from_all_its_sources():
    create("ConfigMap", "settings", data={"one": "1", "two": "2"})
    create("Secret", "hidden", data={"pass": base64.b64encode(b"word").decode()})

    def field(path):
        return {"fieldRef": {"fieldPath": path}}

    def amount(resource, divisor="1"):
        return {"resourceFieldRef": {"resource": resource, "divisor": divisor}}

    sources = {"NAME": field("metadata.name"), "NS": field("metadata.namespace"), "UID": field("metadata.uid"),
               "LABEL": field("metadata.labels['app']"), "NODE": field("spec.nodeName"), "IP": field("status.podIP"),
               "HOST": field("status.hostIP"), "ACCOUNT": field("spec.serviceAccountName"),
               "CPU": amount("limits.cpu", "1m"), "MEM": amount("requests.memory", "1Mi"), "DISK": amount("limits.ephemeral-storage"),
               "KEY": {"configMapKeyRef": {"name": "settings", "key": "one"}},
               "PASS": {"secretKeyRef": {"name": "hidden", "key": "pass"}},
               "GONE": {"configMapKeyRef": {"name": "nothing", "key": "x", "optional": True}}}
    env = [{"name": name, "valueFrom": source} for name, source in sources.items()]
    env += [{"name": "BOTH", "value": "$(KEY)-$(PASS) $$(KEY) $(NONE) $(KUBERNETES_SERVICE_PORT)"}]
    one = pod("env", restartPolicy="Never", main={
        "command": ["sh", "-c", "env; echo ARGS=$0"], "args": ["$(KEY)$(NONE)"], "env": env,
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "hidden"}},
                    {"secretRef": {"name": "nothing", "optional": True}}],
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"memory": "32Mi"}}})
    one["metadata"]["labels"] = {"app": "x"}
    apply(one)
    phase("env", "Succeeded")
    found, state = told("env"), get("env")
    expected = {"NAME": "env", "NS": "default", "UID": state["metadata"]["uid"], "LABEL": "x", "NODE": "hub",
                "IP": state["status"]["podIP"], "HOST": state["status"]["hostIP"], "ACCOUNT": "default", "CPU": "500", "MEM": "32",
                "KEY": "1", "PASS": "word", "BOTH": "1-word $(KEY) $(NONE) 443", "P_one": "1", "P_two": "2", "pass": "word",
                "ARGS": "1$(NONE)", "KUBERNETES_PORT_443_TCP_PROTO": "tcp"}
    wrong = {key: (found.get(key), value) for key, value in expected.items() if found.get(key) != value}
    assert not wrong, wrong
    assert "GONE" not in found and int(found["DISK"]) > 0, found
    assert "KUBERNETES_SERVICE_HOST" in found


def what_the_environment_misses_is_told_until_it_is_there():
    apply(pod("missing", restartPolicy="Never", main={**script("echo LATE=$LATE"), "env": [
        {"name": "LATE", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "key"}}}]}))
    until("missing", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError")
    assert status("missing")["state"]["waiting"]["message"] == 'configmap "late" not found', status("missing")
    create("ConfigMap", "late", data={"key": "here"})
    phase("missing", "Succeeded")
    assert told("missing") == {"LATE": "here"}


def names_are_those_of_the_spec():
    show = ("echo NAME=$(hostname)", "cat /etc/hosts | tr '\\t' ' ' | sed 's/^/HOSTS /'", "sed 's/^/RESOLV /' /etc/resolv.conf")
    once("names", show, hostname="h", subdomain="sub", setHostnameAsFQDN=True, dnsPolicy="None",
         dnsConfig={"nameservers": ["9.9.9.9"], "searches": ["my.example"], "options": [{"name": "ndots", "value": "2"}]},
         hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a.example", "b.example"]}])
    text = logs("names")
    ip = get("names")["status"]["podIP"]
    assert told("names") == {"NAME": "h.sub.default.svc.cluster.local"}, text
    for line in ("HOSTS # Kubernetes-managed hosts file.", f"HOSTS {ip} h.sub.default.svc.cluster.local h",
                 "HOSTS 1.2.3.4 a.example b.example", "RESOLV nameserver 9.9.9.9", "RESOLV search my.example",
                 "RESOLV options ndots:2"):
        assert line in text.splitlines(), (line, text)
    once("cluster", show)
    text = logs("cluster")
    assert told("cluster") == {"NAME": "cluster"}
    assert "RESOLV search default.svc.cluster.local svc.cluster.local cluster.local" in text, text
    assert "RESOLV options ndots:5" in text and "RESOLV nameserver 10." in text, text
    once("hostnet", show, hostNetwork=True)
    assert "HOSTS # Kubernetes-managed hosts file (host network)." in logs("hostnet")
    assert told("hostnet")["NAME"] == run("hostname").stdout.strip()


def empty_folders_are_shared_and_have_their_medium():
    writer = {"name": "writer", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", "echo hi > /d/f"],
              "volumeMounts": [{"name": "disk", "mountPath": "/d"}]}
    found = once("empty", (
        "stat -c 'DISK=%a %g' /disk", "stat -c 'MEM=%a %g' /mem", "echo TYPE=$(stat -f -c %T /mem)",
        "df -k /mem | tail -1 | awk '{print \"SIZE=\" $2}'", "echo FILE=$(cat /disk/f)", "touch /mem/x && stat -c 'NEW=%g' /mem/x"),
        initContainers=[writer], securityContext={"fsGroup": 4321},
        main={"volumeMounts": [{"name": "disk", "mountPath": "/disk"}, {"name": "mem", "mountPath": "/mem"}]},
        volumes=[{"name": "disk", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}])
    assert found == {"DISK": "2777 4321", "MEM": "3777 4321", "TYPE": "tmpfs", "SIZE": "8192", "FILE": "hi", "NEW": "4321"}, found


def files_of_config_maps_secrets_and_projections_follow_their_sources():
    projected = {"defaultMode": 0o640, "sources": [
        {"configMap": {"name": "settings", "items": [{"key": "one", "path": "deep/one"}]}},
        {"secret": {"name": "hidden", "items": [{"key": "pass", "path": "pass", "mode": 0o400}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                                   {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}}]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "me"}}]}
    watching = pod("files", terminationGracePeriodSeconds=1, main={
        "command": ["sh", "-c", "\n".join((
            "trap 'exit 0' TERM",
            "stat -L -c 'MODE %a %n' /map/one /secret/pass /all/deep/one /all/pass /all/token",
            "echo SECRET $(stat -f -c %T /secret)", "echo TOKEN $(cut -d. -f2 /all/token)", "echo CPU $(cat /all/cpu)",
            "touch /map/new 2>/dev/null || echo READONLY",
            "while :; do echo NOW $(cat /map/one /all/deep/one /all/labels /secret/pass); sleep 0.2; done"))],
        "volumeMounts": [{"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret"},
                         {"name": "all", "mountPath": "/all"}]},
        volumes=[{"name": "map", "configMap": {"name": "settings"}}, {"name": "secret", "secret": {"secretName": "hidden"}},
                 {"name": "all", "projected": projected}])
    watching["metadata"]["labels"] = {"app": "x"}
    apply(watching)
    phase("files", "Running")
    assert eventually(lambda: 'NOW 11app="x"word' in logs("files")), logs("files")
    text = logs("files")
    for line in ("MODE 644 /map/one", "MODE 644 /secret/pass", "MODE 640 /all/deep/one", "MODE 400 /all/pass", "MODE 640 /all/token",
                 "SECRET tmpfs", "READONLY"):
        assert line in text.splitlines(), (line, text)
    claims = next(line for line in text.splitlines() if line.startswith("TOKEN ")).split()[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert claims["aud"] == ["me"] and claims["kubernetes.io"]["pod"]["name"] == "files", claims
    began = time.monotonic()
    KUBE("patch", "configmap", "settings", "-p", json.dumps({"data": {"one": "9"}}))
    KUBE("label", "pod", "files", "app=y", "--overwrite")
    KUBE("patch", "secret", "hidden", "-p", json.dumps({"stringData": {"pass": "new"}}))
    assert eventually(lambda: 'NOW 99app="y"new' in logs("files"), 60), logs("files")[-500:]
    pods.FIGURES["a change of a ConfigMap seen in a pod, seconds"] = time.monotonic() - began
    delete("files")


def what_is_optional_may_come_and_go():
    apply(pod("optional", terminationGracePeriodSeconds=1, main={
        "command": ["sh", "-c", "while :; do echo NOW [$(cat /map/key /secret/key /all/key 2>/dev/null)]; sleep 0.2; done"],
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("map", "secret", "all")]},
        volumes=[{"name": "map", "configMap": {"name": "maybe", "optional": True}},
                 {"name": "secret", "secret": {"secretName": "maybe", "optional": True}},
                 {"name": "all", "projected": {"sources": [{"configMap": {"name": "maybe", "optional": True}}]}}]))
    phase("optional", "Running")
    assert eventually(lambda: "NOW []" in logs("optional")), logs("optional")
    create("ConfigMap", "maybe", data={"key": "c"})
    create("Secret", "maybe", data={"key": base64.b64encode(b"s").decode()})
    assert eventually(lambda: "NOW [csc]" in logs("optional"), 60), logs("optional")[-200:]
    KUBE("delete", "configmap", "maybe")
    assert eventually(lambda: logs("optional").rstrip().endswith("NOW [s]"), 60), logs("optional")[-200:]
    delete("optional")


def a_volume_that_is_missing_is_told_and_waited_for():
    apply(pod("waits", restartPolicy="Never", main={**script("cat /v/key"), "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
              volumes=[{"name": "v", "configMap": {"name": "slow"}}]))
    message = 'MountVolume.SetUp failed for volume "v" : configmap "slow" not found'
    assert eventually(lambda: ("FailedMount", message) in events("waits")), events("waits")
    create("ConfigMap", "slow", data={"key": "came"})
    phase("waits", "Succeeded")
    assert logs("waits").strip() == "came", logs("waits")


def parts_of_volumes_are_mounted_and_none_leads_out():
    found = once("parts", ("echo PART=$(ls /part)", "echo DEEP=$(ls /all)", "echo x > /part/file", "echo FILE=$(cat /one)"),
                 main={"env": [{"name": "WHERE", "value": "deep/place"}], "volumeMounts": [
                     {"name": "v", "mountPath": "/part", "subPathExpr": "$(WHERE)"}, {"name": "v", "mountPath": "/all"},
                     {"name": "map", "mountPath": "/one", "subPath": "one"}]},
                 volumes=[{"name": "v", "emptyDir": {}}, {"name": "map", "configMap": {"name": "settings"}}])
    assert found == {"PART": "", "DEEP": "deep", "FILE": "9"}, found
    mounts = [{"name": name, "mountPath": path, "subPath": part} for name, path, part in (
        ("map", "/etc/passwd", "one"), ("secret", "/s/pass", "pass"), ("facts", "/f/name", "name"), ("all", "/p/deep", "deep"))]
    found = once("whole", ("echo MAP=$(cat /etc/passwd)", "echo SECRET=$(cat /s/pass)", "echo FACTS=$(cat /f/name)",
                           "echo ALL=$(cat /p/deep/one)"),
                 main={"volumeMounts": mounts},
                 volumes=[{"name": "map", "configMap": {"name": "settings"}}, {"name": "secret", "secret": {"secretName": "hidden"}},
                          {"name": "facts", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                          {"name": "all", "projected": {"sources": [{"configMap": {
                              "name": "settings", "items": [{"key": "one", "path": "deep/one"}]}}]}}])
    assert found == {"MAP": "9", "SECRET": "new", "FACTS": "whole", "ALL": "9"}, found
    link = {"name": "link", "image": "busybox", "imagePullPolicy": "Never", "command": ["ln", "-s", "/etc", "/v/out"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    apply(pod("escape", initContainers=[link], main={"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "out"}]},
              volumes=[{"name": "v", "emptyDir": {}}]))
    until("escape", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError")
    message = status("escape")["state"]["waiting"]["message"]
    assert message == 'failed to prepare subPath for volumeMount "v" of container "main"', message
    delete("escape")


def host_paths_are_checked_and_local_volumes_are_claimed():
    data = FOLDER / "data"
    data.mkdir()
    (data / "file").write_text("kept")
    apply(pod("wrong", main={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
              volumes=[{"name": "v", "hostPath": {"path": str(data), "type": "File"}}]))
    message = f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {data} is not a file'
    assert eventually(lambda: ("FailedMount", message) in events("wrong")), events("wrong")
    delete("wrong")
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["hub"]}
    create("PersistentVolume", "pv", spec={
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "local": {"path": str(data)},
        "claimRef": {"namespace": "default", "name": "claim"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}})
    create("PersistentVolumeClaim", "claim", spec={
        "accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "volumeName": "pv", "resources": {"requests": {"storage": "1Gi"}}})
    KUBE("wait", "pvc/claim", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s")
    found = once("claims", ("echo FILE=$(cat /v/file)", "echo more > /v/more", "echo HOST=$(cat /h/more)"),
                 main={"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "h", "mountPath": "/h", "readOnly": True}]},
                 volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                          {"name": "h", "hostPath": {"path": str(data), "type": "Directory"}}])
    assert found == {"FILE": "kept", "HOST": "more"}, found
    delete("claims")
    assert (data / "more").read_text() == "more\n", "what is claimed survives the pod"


def a_claim_of_the_nodes_disk_gets_a_folder_that_goes_with_it():
    create("PersistentVolumeClaim", "disk", spec={"storageClassName": "local-path", "accessModes": ["ReadWriteOnce"],
                                                  "resources": {"requests": {"storage": "1Gi"}}})
    # The scheduler is what picks the volume's node.
    once("disk", ("echo kept > /v/file",), nodeName="", securityContext={"runAsUser": 1000},
         main={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
         volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "disk"}}])
    name = KUBE("get", "pvc/disk", "-o", "jsonpath={.spec.volumeName}").stdout
    folder = pathlib.Path(KUBE("get", f"pv/{name}", "-o", "jsonpath={.spec.hostPath.path}").stdout)
    assert (folder / "file").read_text() == "kept\n", folder
    delete("disk")
    KUBE("delete", "pvc/disk", "--timeout=30s")
    KUBE("wait", "--for=delete", f"pv/{name}", "--timeout=30s")
    assert not folder.exists() and folder.parent.exists(), folder


def processes_have_the_rights_that_they_are_given_and_no_more():
    show = ("id -u | sed s/^/UID=/", "id -g | sed s/^/GID=/", "echo GROUPS=$(id -G)",
            "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | sed 's/:\\t*/=/'",
            "touch /file 2>/dev/null && echo WRITES=yes", "echo KCORE=$(head -c1 /proc/kcore 2>/dev/null | wc -c)",
            "echo SHM=$(cat /proc/sys/kernel/shm_rmid_forced)", "touch /proc/sys/kernel/x 2>/dev/null; true")
    found = once("rights", show, securityContext={
        "runAsUser": 1000, "runAsGroup": 2000, "supplementalGroups": [3000], "fsGroup": 4000,
        "seccompProfile": {"type": "RuntimeDefault"}, "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]},
        main={"securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}})
    assert found["UID"] == "1000" and found["GID"] == "2000" and set(found["GROUPS"].split()) == {"2000", "3000", "4000"}, found
    assert int(found["CapEff"], 16) == 0 and found["NoNewPrivs"] == "1" and found["Seccomp"] == "2", found
    assert "WRITES" not in found and found["KCORE"] == "0" and found["SHM"] == "1", found
    found = once("usual", show, main={"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}})
    assert found["UID"] == "0" and found["WRITES"] == "yes" and found["Seccomp"] == "0", found
    assert int(found["CapEff"], 16) & (1 << 12) and not int(found["CapEff"], 16) & (1 << 21), "NET_ADMIN, not SYS_ADMIN"
    found = once("privileged", show, main={"securityContext": {"privileged": True}})
    assert int(found["CapEff"], 16) & (1 << 21), found
    apply(pod("root", main={"securityContext": {"runAsNonRoot": True}}))
    until("root", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError")
    message = status("root")["state"]["waiting"]["message"]
    assert message.startswith("container has runAsNonRoot and image will run as root (pod: \"root_default("), message
    delete("root")


def namespaces_are_shared_as_the_spec_says():
    shared = {"name": "other", "image": "busybox", "imagePullPolicy": "Never", "command": ["sleep", "1000"]}
    apply(pod("shared", shareProcessNamespace=True, more=[shared], terminationGracePeriodSeconds=1,
              main={"command": ["sh", "-c", "while ! ps | grep -q 'sleep 1000'; do sleep 0.1; done; echo SEES=other; sleep 1000"]}))
    phase("shared", "Running")
    assert eventually(lambda: told("shared") == {"SEES": "other"}), logs("shared")
    delete("shared")
    found = once("hostpid", ("echo FIRST=$(cat /proc/1/comm)", "echo NET=$(readlink /proc/self/ns/net)"), hostPID=True, hostNetwork=True)
    assert found["FIRST"] == pathlib.Path("/proc/1/comm").read_text().strip(), found


def resources_reach_the_kernel():
    both = {"cpu": "250m", "memory": "64Mi"}
    apply(pod("guaranteed", main={"resources": {"limits": both, "requests": both}}),
          pod("burstable", main={"resources": {"requests": {"cpu": "100m", "memory": "32Mi"}}}), pod("besteffort"))
    scores = {}
    for name in ("guaranteed", "burstable", "besteffort"):
        phase(name, "Running")
        [process] = [line.split()[1] for line in pods.ctr("hub", "tasks", "list").splitlines()
                     if line.startswith(status(name)["containerID"].removeprefix("containerd://"))]
        scores[name] = int(pathlib.Path(f"/proc/{process}/oom_score_adj").read_text())
        assert f"pod{get(name)['metadata']['uid']}" in pathlib.Path(f"/proc/{process}/cgroup").read_text()
    # Some sandboxes let nobody lower it.
    lowers = run("sh", "-c", "echo -997 >/proc/self/oom_score_adj", ok=False).returncode == 0
    assert scores["guaranteed"] == (-997 if lowers else 0) and scores["besteffort"] == 1000 and 2 < scores["burstable"] < 1000, scores
    cpu = group(get("guaranteed")["metadata"]["uid"], "cpu")
    memory = group(get("guaranteed")["metadata"]["uid"], "memory")
    if (cpu / "cpu.max").exists():
        assert (cpu / "cpu.max").read_text() == "25000 100000\n"
        assert (memory / "memory.max").read_text() == f"{64 << 20}\n"
    else:
        assert (cpu / "cpu.cfs_quota_us").read_text() == "25000\n" and (cpu / "cpu.shares").read_text() == "256\n"
        assert (memory / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
    assert "burstable" in str(group(get("burstable")["metadata"]["uid"], "cpu"))
    for name in scores:
        delete(name)
    hog = once("hog", ("dd if=/dev/zero of=/dev/null bs=100M count=1",), wanted="Failed",
               main={"resources": {"limits": {"memory": "16Mi"}}})
    assert hog == {} and status("hog")["state"]["terminated"]["reason"] == "OOMKilled", status("hog")


def resources_change_while_a_pod_runs():
    def limits(cpu, memory):
        both = {"cpu": cpu, "memory": memory}
        return {"resources": {"limits": both, "requests": both}}

    second = {"name": "second", "image": "busybox", "imagePullPolicy": "Never", "command": ["sleep", "1000"],
              "terminationMessagePolicy": "File", **limits("100m", "32Mi")}
    apply(pod("resized", main=limits("100m", "32Mi"), more=[second], terminationGracePeriodSeconds=1))
    phase("resized", "Running")
    before = status("resized")

    def resize(**containers):
        change = [{"name": name, **limits(*amounts)} for name, amounts in containers.items()]
        KUBE("patch", "pod", "resized", "--subresource", "resize", "-p", json.dumps({"spec": {"containers": change}}))

    def settled(cpu, memory):
        found = status("resized")
        is_set = found["resources"]["limits"] == {"cpu": cpu, "memory": memory} == found["allocatedResources"]
        kinds = [condition["type"] for condition in get("resized")["status"]["conditions"]]
        return is_set and not {"PodResizePending", "PodResizeInProgress"} & set(kinds)

    resize(main=("200m", "64Mi"), second=("50m", "16Mi"))
    assert eventually(lambda: settled("200m", "64Mi")), get("resized")["status"]
    after = status("resized")
    assert after["containerID"] == before["containerID"] and after["restartCount"] == 0, after
    whole = get("resized")["metadata"]["uid"]
    cpu, memory = group(whole, "cpu"), group(whole, "memory")
    own = before["containerID"].removeprefix("containerd://")
    if (cpu / "cpu.max").exists():
        assert (cpu / "cpu.max").read_text() == "25000 100000\n" and (cpu / own / "cpu.max").read_text() == "20000 100000\n"
        assert (memory / own / "memory.max").read_text() == f"{64 << 20}\n"
    else:
        assert (cpu / "cpu.cfs_quota_us").read_text() == "25000\n" and (cpu / own / "cpu.cfs_quota_us").read_text() == "20000\n"
        assert (memory / own / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        assert (memory / "memory.limit_in_bytes").read_text() == f"{80 << 20}\n"
    reasons = [reason for reason, _ in events("resized")]
    assert "ResizeStarted" in reasons and "ResizeCompleted" in reasons, reasons
    resize(main=("1000", "64Mi"))
    until("resized", '{.status.conditions[?(@.type=="PodResizePending")].reason}', "Deferred")
    assert status("resized")["allocatedResources"]["cpu"] == "200m"
    assert (cpu / own).exists() and status("resized")["containerID"] == before["containerID"]
    resize(main=("100m", "32Mi"))
    assert eventually(lambda: settled("100m", "32Mi")), get("resized")["status"]
    delete("resized")


def a_pod_that_takes_more_disk_than_it_may_is_ended():
    apply(pod("greedy", main={"command": ["sh", "-c", "dd if=/dev/zero of=/d/f bs=1M count=8; sleep 1000"],
                              "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
              volumes=[{"name": "d", "emptyDir": {"sizeLimit": "4Mi"}}]))
    phase("greedy", "Failed", 60)
    state = get("greedy")["status"]
    assert state["reason"] == "Evicted", state
    assert state["message"] == 'Usage of EmptyDir volume "d" exceeds the limit "4Mi". ', state
    assert ("Evicted", 'Usage of EmptyDir volume "d" exceeds the limit "4Mi". ') in events("greedy")


def what_containers_leave_behind_is_their_message():
    def ends(name, text, policy, code=0, **more):
        main = {**script(text, f"exit {code}"), "terminationMessagePolicy": policy, **more}
        apply(pod(name, restartPolicy="Never", main=main))
        phase(name, "Failed" if code else "Succeeded")
        return status(name)["state"]["terminated"].get("message", "")

    assert ends("m1", "echo -n DONE > /dev/termination-log", "File", securityContext={"runAsUser": 1000}) == "DONE"
    assert ends("m2", "echo -n DONE", "FallbackToLogsOnError", code=1) == "DONE"
    assert ends("m3", "echo -n DONE", "FallbackToLogsOnError") == ""
    assert ends("m4", "echo -n OK > /dev/my", "FallbackToLogsOnError", terminationMessagePath="/dev/my") == "OK"


def a_pod_that_does_not_fit_is_refused():
    apply(pod("large", main={"resources": {"requests": {"cpu": "1000"}}}), pod("elsewhere", nodeSelector={"no": "where"}))
    for name, reason in (("large", "OutOfcpu"), ("elsewhere", "NodeAffinity")):
        phase(name, "Failed")
        state = get(name)["status"]
        assert state["reason"] == reason, state
    assert get("large")["status"]["message"].startswith("Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000,")
    why = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    assert get("elsewhere")["status"]["message"] == why, get("elsewhere")["status"]


def an_image_is_a_volume_that_is_read_only():
    mounts = [{"name": "i", "mountPath": "/image"}, {"name": "i", "mountPath": "/part", "subPath": "etc"}]
    found = once("imaged", [
        "echo name=$(head -n 1 /image/etc/passwd)", "echo part=$(ls /part)", "touch /image/x 2>/dev/null && echo writes=yes",
        "/image/bin/busybox true 2>/dev/null && echo runs=yes",
        "echo done=yes"],
        main={"volumeMounts": mounts}, volumes=[{"name": "i", "image": {"reference": "busybox", "pullPolicy": "IfNotPresent"}}])
    assert found == {"name": "root:x:0:0:root:/root:/bin/sh", "part": "group passwd", "done": "yes"}, found
    delete("imaged")
    apply(pod("noimage", volumes=[{"name": "i", "image": {"reference": "nowhere.invalid/x:1", "pullPolicy": "Never"}}],
              main={"volumeMounts": mounts[:1]}))
    until("noimage", "{.status.containerStatuses[0].state.waiting.reason}", "ErrImageNeverPull")
    delete("noimage")


def a_container_may_have_all_of_its_pod_run_anew():
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]
    init = {"name": "init", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", "echo i >> /d/begun"],
            "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    source = {"name": "source", "image": "busybox", "imagePullPolicy": "Never", "restartPolicy": "Never", "restartPolicyRules": rules,
              "command": ["sh", "-c", "[ $(wc -l < /d/begun) = 1 ] && exit 42; sleep 1000"],
              "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    apply(pod("anew", restartPolicy="Never", initContainers=[init], more=[source], volumes=[{"name": "d", "emptyDir": {}}],
              terminationGracePeriodSeconds=0))
    until("anew", '{.status.containerStatuses[?(@.name=="source")].restartCount}', "1")
    KUBE("wait", "pod/anew", "--for=condition=Ready", "--timeout=30s")
    found = get("anew")["status"]
    counts = [one["restartCount"] for one in found["initContainerStatuses"] + found["containerStatuses"]]
    assert counts == [1, 1, 1], found
    conditions = {one["type"]: one["status"] for one in found["conditions"]}
    assert conditions["AllContainersRestarting"] == "False", conditions
    delete("anew")


def a_pod_changes_as_far_as_it_may_and_its_changes_are_counted():
    def generation(name):
        found = get(name)
        return found["metadata"]["generation"], found["status"].get("observedGeneration")

    made = [pod(name, terminationGracePeriodSeconds=0) for name in ("changes", "other")]
    for one in made:
        one["metadata"]["labels"] = {"of": "changes"}
    apply(*made)
    phase("changes", "Running")
    assert generation("changes") == (1, 1), generation("changes")
    KUBE("label", "pod", "changes", "a=b")
    KUBE("patch", "pod", "changes", "--patch", '{"spec": {"activeDeadlineSeconds": 1000}}')
    until("changes", "{.status.observedGeneration}", "2")
    assert generation("changes") == (2, 2), "a label is no change of what it is to be"
    condition = '{"status": {"conditions": [{"type": "example.org/mine", "status": "True"}]}}'
    KUBE("patch", "pod", "changes", "--subresource=status", "--patch", condition)
    KUBE("patch", "pod", "changes", "--patch", '{"spec": {"activeDeadlineSeconds": 1}}')
    phase("changes", "Failed")
    found = get("changes")
    assert found["status"]["reason"] == "DeadlineExceeded", found["status"]
    assert "example.org/mine" in [one["type"] for one in found["status"]["conditions"]], found["status"]
    KUBE("delete", "--raw", "/api/v1/namespaces/default/pods?labelSelector=of%3Dchanges")
    for name in ("changes", "other"):
        KUBE("wait", "--for=delete", f"pod/{name}", "--timeout=30s")


def a_class_of_runtimes_names_a_handler_and_adds_its_overhead():
    KUBE("create", "-f", "-", stdin=json.dumps({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "heavy"},
                                                "handler": "runc", "overhead": {"podFixed": {"cpu": "10m", "memory": "8Mi"}}}))
    apply(pod("classy", runtimeClassName="heavy", main={"resources": {"limits": {"cpu": "100m", "memory": "24Mi"}}}))
    phase("classy", "Running")
    found = get("classy")
    assert found["spec"]["overhead"] == {"cpu": "10m", "memory": "8Mi"}, found["spec"]
    limit = group(found["metadata"]["uid"], "memory")
    limit = (limit / "memory.max") if (limit / "memory.max").exists() else limit / "memory.limit_in_bytes"
    assert int(limit.read_text()) == 32 << 20, limit
    delete("classy")


def a_driver_of_volumes_registers_and_its_volumes_are_used():
    name, root = "fake.csi.example.org", FOLDER / "hub/kubelet"
    driver = Process(KILN.parent / "examples/csi_driver", root / "plugins_registry/fake-reg.sock", FOLDER / "driver")
    driver.expect("serving")
    KUBE("create", "-f", "-", stdin=json.dumps({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": {
        "attachRequired": True, "podInfoOnMount": True, "fsGroupPolicy": "File", "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}))
    KUBE("wait", "csinode/hub", "--for=jsonpath={.spec.drivers[0].nodeID}=machine-1", "--timeout=20s")
    create("PersistentVolume", "driven", spec={
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": {"namespace": "default", "name": "driven"},
        "storageClassName": "", "csi": {"driver": name, "volumeHandle": "handle"}})
    create("PersistentVolumeClaim", "driven", spec={"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "driven",
                                                    "resources": {"requests": {"storage": "1Gi"}}})
    lines = script("echo group=$(stat -c %g /c)", "echo kept > /c/file", "ls /i >/dev/null && echo inline=yes")
    mounts = [{"name": "c", "mountPath": "/c"}, {"name": "i", "mountPath": "/i"}]
    apply(pod("driven", restartPolicy="Never", main={**lines, "volumeMounts": mounts}, securityContext={"fsGroup": 4321},
              volumes=[{"name": "c", "persistentVolumeClaim": {"claimName": "driven"}}, {"name": "i", "csi": {"driver": name}}]))
    # In place of the driver's attacher.
    [attachment] = eventually(lambda: KUBE("get", "volumeattachments", "-o", "name").stdout.split())
    KUBE("patch", attachment, "--subresource=status", "--type=merge", "--patch", '{"status": {"attached": true}}')
    phase("driven", "Succeeded")
    assert told("driven") == {"group": "4321", "inline": "yes"}, told("driven")
    assert (FOLDER / "driver/handle/file").read_text() == "kept\n"
    node = json.loads(KUBE("get", "node", "hub", "-o", "json").stdout)
    assert json.loads(node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"]) == {name: "machine-1"}, node["metadata"]
    delete("driven")
    assert eventually(lambda: not KUBE("get", "volumeattachments", "-o", "name").stdout), "it is detached when no pod has it"
    assert eventually(lambda: not list((root / "plugins/kubernetes.io/csi" / name).glob("*"))), "nothing is staged"
    assert (FOLDER / "driver/handle/file").exists()
    devices_of_a_driver_are_used_and_its_volumes_measured(name)
    assert eventually(lambda: not KUBE("get", "volumeattachments", "-o", "name").stdout), "both are detached"
    assert eventually(lambda: not list((root / "plugins/kubernetes.io/csi/volumeDevices").glob("*/*"))), "no device is left"
    driver.kill()
    (root / "plugins_registry/fake-reg.sock").unlink()
    assert eventually(lambda: not json.loads(KUBE("get", "csinode", "hub", "-o", "json").stdout)["spec"]["drivers"])


def devices_of_a_driver_are_used_and_its_volumes_measured(driver):
    """A part of the scenario before: the driver is there."""
    create("PersistentVolume", "block", spec={
        "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "claimRef": {"namespace": "default", "name": "block"},
        "storageClassName": "", "volumeMode": "Block", "csi": {"driver": driver, "volumeHandle": "block"}})
    create("PersistentVolumeClaim", "block", spec={"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "block",
                                                   "volumeMode": "Block", "resources": {"requests": {"storage": "1Mi"}}})
    lines = script("test -b /dev/mine && echo device=yes", "echo kept | dd of=/dev/mine conv=fsync,notrunc 2>/dev/null",
                   "echo size=$(dd if=/dev/mine bs=1k 2>/dev/null | wc -c)", "echo file=$(cat /c/file)", "sleep 1000")
    apply(pod("measured", terminationGracePeriodSeconds=0, main={
        **lines, "volumeMounts": [{"name": "c", "mountPath": "/c"}], "volumeDevices": [{"name": "b", "devicePath": "/dev/mine"}]},
        volumes=[{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in (("c", "driven"), ("b", "block"))]))

    def both():
        found = KUBE("get", "volumeattachments", "-o", "name").stdout.split()
        return found if len(found) == 2 else None

    for attachment in eventually(both):
        KUBE("patch", attachment, "--subresource=status", "--type=merge", "--patch", '{"status": {"attached": true}}')
    phase("measured", "Running")
    assert eventually(lambda: told("measured") == {"device": "yes", "size": str(1 << 20), "file": "kept"}), told("measured")
    assert (FOLDER / "driver/block").read_bytes().startswith(b"kept\n"), "it is the driver's own"
    summary = json.loads(KUBE("get", "--raw", "/api/v1/nodes/hub/proxy/stats/summary").stdout)
    [found] = [one for one in summary["pods"] if one["podRef"]["name"] == "measured"]
    for volume, claim in (("c", "driven"), ("b", "block")):
        [one] = [one for one in found["volume"] if one["name"] == volume]
        assert one["pvcRef"] == {"name": claim, "namespace": "default"}, one
        assert (one["capacityBytes"], one["usedBytes"], one["inodesUsed"]) == (1 << 30, 1 << 20, 1), one
        assert one["volumeHealthStats"] == {"abnormal": False}, one
        assert sample("", "kubelet_volume_stats_used_bytes", namespace="default", persistentvolumeclaim=claim) == [1 << 20]
    delete("measured")


def samples(path):
    """The series of a node, as names, labels and values."""
    text = KUBE("get", "--raw", f"/api/v1/nodes/hub/proxy/metrics{path}").stdout
    lines = [re.match(r"([^{ ]+)(?:\{(.*)\})? ([^ ]+)", line) for line in text.splitlines() if not line.startswith("#")]
    return [(line[1], dict(re.findall(r'(\w+)="([^"]*)"', line[2] or "")), float(line[3])) for line in lines]


def sample(path, name, /, **labels):
    """The values of a series with these labels."""
    return [value for of, has, value in samples(path) if of == name and labels.items() <= has.items()]


def what_a_pod_uses_is_shown_as_dashboards_ask_for_it():
    busy = {"command": ["sh", "-c", "echo x > /file; wget -q -T 1 -O - http://$KUBERNETES_SERVICE_HOST:443/; while :; do :; done"],
            "resources": {"limits": {"cpu": "50m", "memory": "32Mi"}},
            "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}
    apply(pod("counted", terminationGracePeriodSeconds=0, main=busy))
    phase("counted", "Running")
    throttled = "container_cpu_cfs_throttled_periods_total"
    assert eventually(lambda: max(sample("/cadvisor", throttled, pod="counted", container="main"), default=0) > 3)
    found = samples("/cadvisor")

    def value(name, /, **labels):
        values = [value for of, has, value in found if of == name and labels.items() <= has.items()]
        assert len(values) == 1, (name, labels, values)
        return values[0]

    of = {"namespace": "default", "pod": "counted", "container": "main"}
    usage = value("container_cpu_usage_seconds_total", cpu="total", **of)
    # The parts are counted by the clock's ticks.
    assert usage > 0 and value("container_cpu_user_seconds_total", **of) + value("container_cpu_system_seconds_total", **of) >= 0
    assert value("container_cpu_cfs_throttled_seconds_total", **of) > 0
    assert value("container_cpu_cfs_periods_total", **of) >= value("container_cpu_cfs_throttled_periods_total", **of)
    assert value("container_spec_cpu_quota", **of) == 5000 and value("container_spec_cpu_period", **of) == 100000
    assert value("container_spec_memory_limit_bytes", **of) == 32 << 20
    assert 0 < value("container_memory_working_set_bytes", **of) <= value("container_memory_max_usage_bytes", **of)
    assert value("container_processes", **of) >= 1 and value("container_threads", **of) >= 1
    [(labels, start)] = [(has, value) for name, has, value in found if name == "container_start_time_seconds" and of.items() <= has.items()]
    assert labels["image"].endswith("busybox:latest") and labels["id"].endswith("/" + labels["name"]), labels
    assert abs(start - time.time()) < 120, start
    whole = {**of, "container": "", "name": ""}
    # The pod's group is read a moment earlier.
    assert value("container_cpu_usage_seconds_total", **whole) >= usage * 0.9
    for direction in ("receive", "transmit"):
        for what in ("bytes", "packets"):
            assert value(f"container_network_{direction}_{what}_total", interface="eth0", pod="counted") > 0
        for what in ("errors", "packets_dropped"):
            value(f"container_network_{direction}_{what}_total", interface="eth0", pod="counted")
    assert value("container_memory_usage_bytes", id="/") > value("container_memory_working_set_bytes", **of)
    assert value("container_fs_limit_bytes", id="/") > value("container_fs_usage_bytes", id="/")
    assert value("machine_cpu_cores") >= value("machine_cpu_physical_cores") >= value("machine_cpu_sockets")
    own = {name for name, _, _ in samples("")}
    for name in ("kubelet_pod_start_duration_seconds_count", "kubelet_pod_worker_duration_seconds_bucket", "kubelet_node_name",
                 "kubelet_pleg_relist_duration_seconds_bucket", "kubelet_pleg_relist_interval_seconds_bucket", "kubelet_running_pods",
                 "kubelet_cgroup_manager_duration_seconds_count", "kubelet_started_containers_total", "process_resident_memory_bytes"):
        assert name in own, name
    assert sample("", "kubelet_runtime_operations_total", operation_type="run_podsandbox")[0] > 0
    probes = {"namespace": "default", "pod": "counted", "probe_type": "Readiness"}
    assert eventually(lambda: sum(sample("/probes", "prober_probe_total", result="successful", **probes)) > 0)
    assert sample("/probes", "prober_probe_duration_seconds_count", **probes)[0] > 0
    delete("counted")


def nothing_is_left_of_pods_that_are_gone():
    uids = [pod["metadata"]["uid"] for pod in json.loads(KUBE("get", "pods", "-o", "json").stdout)["items"]]
    KUBE("delete", "pods", "--all", "--timeout=60s", timeout=90)
    root = FOLDER / "hub/kubelet/pods"

    def left():
        mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(root) in line]
        groups = [str(path) for uid in uids for path in CGROUPS.glob(f"**/kubepods*/**/pod{uid}")]
        return mounts + groups + [str(path) for path in root.glob("*")]

    assert eventually(lambda: not left()), left()


if __name__ == "__main__":
    try:
        code = main([value for name, value in list(globals().items()) if callable(value) and value.__module__ == "__main__"
                     and name.startswith(("a_", "an_", "the_", "what_", "names_", "empty_", "files_", "parts_", "host_", "processes_",
                                          "namespaces_", "resources_", "nothing_"))])
        for what, figure in pods.FIGURES.items():
            print(f"{what}: {figure:.2f}")
    finally:
        pods.clean()
    sys.exit(code)
