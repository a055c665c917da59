#!/usr/bin/env python3
"""What a pod's spec asks for, seen from inside of pods that run: environment, names, volumes, rights, resources.

Uses the server, the network and the images of `pod_nodes.py`, which see; what it needs is needed here. `KILN_BIN` names the binary.
"""
import base64
import json
import pathlib
import sys
import time

import oci
import pod_devices
import pod_volumes
from harness import KILN, main, run, say
from pod_nodes import (
    CGROUPS, FIGURES, FOLDER, KUBE, apply, clean, create, ctr, delete, events, eventually, get, group, logs, network, once,
    phase, pod, sample, samples, script, start_server, status, told, until,
)


def a_server_runs_pods():
    network()
    oci.busybox(FOLDER / "hub" / "agent/images/busybox.tar")
    start_server()
    (FOLDER / "kubeconfig").write_text(run(KILN, "kubeconfig", "--data-dir", FOLDER / "hub").stdout)
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
        [process] = [line.split()[1] for line in ctr("hub", "tasks", "list").splitlines()
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
    # containerd begins to listen for a want of memory after it has started the container, and does not hear of earlier ones.
    waits = script("until [ -e /go ]; do sleep 0.1; done", "exec dd if=/dev/zero of=/dev/null bs=100M count=1")
    apply(pod("hog", restartPolicy="Never", main={**waits, "resources": {"limits": {"memory": "16Mi"}}}))
    phase("hog", "Running")
    KUBE("exec", "hog", "--", "touch", "/go")
    phase("hog", "Failed")
    assert status("hog")["state"]["terminated"]["reason"] == "OOMKilled", status("hog")


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
    sysctl = {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "99"}]}}
    apply(pod("unsafe", **sysctl))
    phase("unsafe", "Failed")
    state = get("unsafe")["status"]
    why = 'Pod was rejected: forbidden sysctl: "net.core.somaxconn" not allowlisted'
    assert (state["reason"], state["message"]) == ("SysctlForbidden", why), state


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
        code = main([
            a_server_runs_pods,
            the_environment_comes_from_all_its_sources,
            what_the_environment_misses_is_told_until_it_is_there,
            names_are_those_of_the_spec,
            *pod_volumes.SCENARIOS,
            processes_have_the_rights_that_they_are_given_and_no_more,
            namespaces_are_shared_as_the_spec_says,
            resources_reach_the_kernel,
            resources_change_while_a_pod_runs,
            what_containers_leave_behind_is_their_message,
            a_pod_that_does_not_fit_is_refused,
            *pod_devices.SCENARIOS,
            a_container_may_have_all_of_its_pod_run_anew,
            a_pod_changes_as_far_as_it_may_and_its_changes_are_counted,
            a_class_of_runtimes_names_a_handler_and_adds_its_overhead,
            what_a_pod_uses_is_shown_as_dashboards_ask_for_it,
            nothing_is_left_of_pods_that_are_gone,
        ])
        for what, figure in FIGURES.items():
            say(f"{what}: {figure:.2f}")
    finally:
        clean()
    sys.exit(code)
