"""Volumes of pods, seen from inside of pods that run; `pod_features.py` runs these scenarios."""
import base64
import json
import pathlib
import time

from harness import KILN
from pod_nodes import (
    FIGURES, FOLDER, KUBE, apply, create, delete, events, eventually, get, logs, once, phase, pod, sample, script, status,
    told, until,
)
from process import Process


def a_pod_that_takes_more_disk_than_it_may_is_ended():
    apply(pod("greedy", main={"command": ["sh", "-c", "dd if=/dev/zero of=/d/f bs=1M count=8; sleep 1000"],
                              "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
              volumes=[{"name": "d", "emptyDir": {"sizeLimit": "4Mi"}}]))
    phase("greedy", "Failed", 60)
    state = get("greedy")["status"]
    assert state["reason"] == "Evicted", state
    assert state["message"] == 'Usage of EmptyDir volume "d" exceeds the limit "4Mi". ', state
    assert ("Evicted", 'Usage of EmptyDir volume "d" exceeds the limit "4Mi". ') in events("greedy")


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
    FIGURES["a change of a ConfigMap seen in a pod, seconds"] = time.monotonic() - began
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


SCENARIOS = [
    empty_folders_are_shared_and_have_their_medium,
    files_of_config_maps_secrets_and_projections_follow_their_sources,
    what_is_optional_may_come_and_go,
    a_volume_that_is_missing_is_told_and_waited_for,
    parts_of_volumes_are_mounted_and_none_leads_out,
    host_paths_are_checked_and_local_volumes_are_claimed,
    a_claim_of_the_nodes_disk_gets_a_folder_that_goes_with_it,
    a_pod_that_takes_more_disk_than_it_may_is_ended,
    an_image_is_a_volume_that_is_read_only,
    a_driver_of_volumes_registers_and_its_volumes_are_used,
]
