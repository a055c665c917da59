#!/usr/bin/env python3
"""Pods that run, on a server that is its own node and on an agent.

Every scenario looks from inside or at what the runtime has, not only at the API. Needs what `pod_nodes.py` needs; `KILN_BIN` names the
binary.
"""
import json
import os
import pathlib
import re
import signal
import sys
import time

import oci
from harness import KILN, KUBECTL, main, run, say
from pod_nodes import (
    FIGURES, FOLDER, KUBE, LOGS, NETS, RUNNING, apply, clean, client, delete, events, get, inside, logs, network, phase, pod,
    start_agent, start_server, status, tasks, until,
)
from process import Process

SECRET = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


def a_server_and_an_agent_become_ready_with_a_runtime_of_their_own():
    network()
    for node in NETS:
        oci.busybox(FOLDER / node / "agent/images/busybox.tar")
    began = time.monotonic()
    start_server()
    (FOLDER / "kubeconfig").write_text(run(KILN, "kubeconfig", "--data-dir", FOLDER / "hub").stdout)
    KUBE.ready("hub", 60)
    FIGURES["start to Ready, seconds"] = time.monotonic() - began
    (FOLDER / "token").write_text(run(*inside("hub"), KILN, "token", "create", "--data-dir", FOLDER / "hub").stdout.strip())
    start_agent()
    KUBE.ready("pi", 60)
    node = json.loads(KUBE("get", "node", "pi", "-o", "json").stdout)
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://"), node["status"]["nodeInfo"]


def a_pod_with_a_cached_image_runs_within_a_second_and_its_status_is_whole():
    KUBE("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    apply(pod("first"))
    phase("first", "Running")
    delete("first")
    began = time.monotonic()
    apply(pod("web"))
    phase("web", "Running")
    FIGURES["apply to Running, seconds, kubectl's starts included"] = time.monotonic() - began
    found = get("web")
    state = found["status"]
    assert state["podIP"] and state["podIPs"] == [{"ip": state["podIP"]}], state
    assert state["hostIP"] == NETS["hub"] and state["startTime"], state
    conditions = {one["type"]: one["status"] for one in state["conditions"]}
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    assert conditions == {kind: "True" for kind in kinds}, conditions
    main_status = status("web")
    assert main_status["ready"] and main_status["started"] and main_status["restartCount"] == 0, main_status
    assert main_status["containerID"].startswith("containerd://") and main_status["image"].endswith("busybox:latest"), main_status
    reasons = [reason for reason, _ in events("web")]
    assert reasons == ["Pulled", "Created", "Started"], reasons
    assert "up" in logs("web")


def a_deleted_pod_ends_by_its_signal_and_leaves_nothing():
    before, uid = tasks("hub"), get("web")["metadata"]["uid"]
    began = time.monotonic()
    delete("web")
    assert time.monotonic() - began < 4, "it ends by itself on SIGTERM"
    assert tasks("hub") == before - 2, "its container and its sandbox"
    assert ("Killing", "Stopping container main") in events("web")
    # The API forgets a pod when its containers are gone; its files follow.
    deadline = time.monotonic() + 10
    while (left := list(LOGS.glob(f"default_web_{uid}"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, left


def a_container_that_ends_is_restarted_by_the_pods_policy():
    fails = {"command": ["sh", "-c", "echo try; exit 3"]}
    apply(pod("never", restartPolicy="Never", main=fails), pod("done", restartPolicy="OnFailure", main={"command": ["true"]}),
          pod("always", main=fails))
    phase("never", "Failed")
    phase("done", "Succeeded")
    ended = status("never")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error"), ended
    assert status("done")["state"]["terminated"]["reason"] == "Completed"
    until("always", "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff")
    waits = status("always")
    assert waits["restartCount"] == 1 and waits["lastState"]["terminated"]["exitCode"] == 3, waits
    assert re.match(r"back-off 10s restarting failed container=main pod=always_default\(", waits["state"]["waiting"]["message"])
    assert "BackOff" in [reason for reason, _ in events("always")]
    until("always", "{.status.containerStatuses[0].restartCount}", "2", 30)
    for name in ("never", "done", "always"):
        delete(name)


def a_pod_whose_time_is_over_fails():
    apply(pod("limited", activeDeadlineSeconds=2, terminationGracePeriodSeconds=1))
    phase("limited", "Failed")
    found = get("limited")["status"]
    assert found["reason"] == "DeadlineExceeded", found
    assert found["message"] == "Pod was active on the node longer than the specified deadline", found
    delete("limited")


def init_containers_run_in_order_and_sidecars_stay():
    init = [{"name": "one", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", "sleep 1"]},
            {"name": "side", "image": "busybox", "imagePullPolicy": "Never", "restartPolicy": "Always",
             "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]},
            {"name": "two", "image": "busybox", "imagePullPolicy": "Never", "command": ["true"]}]
    apply(pod("init", initContainers=init, restartPolicy="Never", main={"command": ["sh", "-c", "sleep 2"]}))
    phase("init", "Running")
    one, side, two = (status("init", name, "initContainerStatuses") for name in ("one", "side", "two"))
    assert one["state"]["terminated"]["exitCode"] == 0 and one["ready"], one
    assert side["state"]["running"] and side["started"] and side["ready"], side
    assert one["state"]["terminated"]["finishedAt"] <= two["state"]["terminated"]["startedAt"], (one, two)
    # The sidecar does not keep the pod alive.
    phase("init", "Succeeded")
    delete("init")


def probes_tell_what_is_ready_and_restart_what_does_not_live():
    serve = {"command": ["sh", "-c", "echo hi > /www/index.html; httpd -p 8080 -h /www; sleep 2; touch /tmp/up; sleep 1000"],
             "ports": [{"name": "web", "containerPort": 8080}],
             "startupProbe": {"httpGet": {"path": "/index.html", "port": "web"}, "periodSeconds": 1, "failureThreshold": 30},
             "readinessProbe": {"exec": {"command": ["test", "-f", "/tmp/up"]}, "periodSeconds": 1},
             "livenessProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1}}
    sick = {"livenessProbe": {"exec": {"command": ["false"]}, "initialDelaySeconds": 3, "periodSeconds": 1,
                                  "failureThreshold": 1}}
    apply(pod("probed", main=serve), pod("sick", terminationGracePeriodSeconds=1, main=sick))
    phase("probed", "Running")
    assert not status("probed")["ready"], "its readiness probe has not succeeded yet"
    KUBE("wait", "pod/probed", "--for=condition=Ready", "--timeout=30s")
    assert status("probed")["restartCount"] == 0
    until("sick", "{.status.containerStatuses[0].restartCount}", "1", 30)
    told = events("sick")
    assert any(reason == "Unhealthy" and text.startswith("Liveness probe failed: ") for reason, text in told), told
    assert ("Killing", "Container main failed liveness probe, will be restarted") in told, told
    delete("probed")
    delete("sick")


def hooks_run_after_the_start_and_before_the_end():
    hooked = {"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo begun > /proc/1/fd/1"]}},
                            "preStop": {"exec": {"command": ["sh", "-c", "echo ending > /proc/1/fd/1; sleep 1"]}}}}
    apply(pod("hooked", main=hooked))
    phase("hooked", "Running")
    assert "begun" in logs("hooked")
    with open(LOGS / f"default_hooked_{get('hooked')['metadata']['uid']}" / "main/0.log") as lines:
        delete("hooked")
        assert "ending" in lines.read()
    bad = {"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}
    apply(pod("badhook", terminationGracePeriodSeconds=1, main=bad))
    until("badhook", "{.status.containerStatuses[0].state.waiting.reason}", "PostStartHookError")
    assert ("FailedPostStartHook", "PostStartHook failed") in events("badhook")
    delete("badhook")


def a_pod_that_ends_is_shown_unready_as_soon_as_its_probe_says_so():
    ends = {"command": ["sh", "-c", "touch /tmp/up; trap 'exit 0' TERM; while :; do sleep 1; done"],
            "readinessProbe": {"exec": {"command": ["test", "-f", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1},
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "rm /tmp/up; sleep 300"]}}}}
    apply(pod("leaving", terminationGracePeriodSeconds=300, main=ends))
    KUBE("wait", "pod/leaving", "--for=condition=Ready", "--timeout=30s")
    KUBE("delete", "pod", "leaving", "--wait=false")
    KUBE("wait", "pod/leaving", "--for=condition=Ready=false", "--timeout=30s")
    assert not status("leaving")["ready"] and status("leaving")["state"]["running"], get("leaving")["status"]
    KUBE("delete", "pod", "leaving", "--grace-period=1", "--timeout=30s")


def an_image_that_is_not_there_is_told_and_waited_for():
    apply(pod("nopull", main={"image": "nowhere.invalid/x:1", "imagePullPolicy": "Never"}),
          pod("noname", main={"image": "Not/A:Name:1"}), pod("pull", main={"image": "127.0.0.1:1/x:1"}))
    until("nopull", "{.status.containerStatuses[0].state.waiting.reason}", "ErrImageNeverPull")
    until("noname", "{.status.containerStatuses[0].state.waiting.reason}", "InvalidImageName")
    until("pull", "{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff")
    message = status("pull")["state"]["waiting"]["message"]
    assert message.startswith('Back-off pulling image "127.0.0.1:1/x:1": ErrImagePull: rpc error: code = '), message
    for name in ("nopull", "noname", "pull"):
        delete(name)


def an_image_is_pulled_from_a_registry_with_the_pods_secret():
    host = f"{NETS['hub']}:5000"
    # bcrypt of `secret`.
    (FOLDER / "users").write_text(f"me:{SECRET}\n")
    (FOLDER / "registry.yml").write_text(json.dumps({
        "version": 0.1, "storage": {"filesystem": {"rootdirectory": str(FOLDER / "registry")}}, "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "test", "path": str(FOLDER / "users")}}}))
    RUNNING["registry"] = Process(*inside("hub"), "docker-registry", "serve", FOLDER / "registry.yml")
    RUNNING["registry"].expect("listening on")
    run(*inside("hub"), *client("hub"), "images", "tag", "docker.io/library/busybox:latest", f"{host}/app:1")
    run(*inside("hub"), *client("hub"), "images", "push", "--plain-http", "--user", "me:secret", f"{host}/app:1")
    for node in NETS:
        folder = FOLDER / node / "agent/registries.d" / host
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'[host."http://{host}"]\ncapabilities = ["pull", "resolve"]\n')
    KUBE("create", "secret", "docker-registry", "mine", f"--docker-server={host}", "--docker-username=me", "--docker-password=secret")
    image = {"image": f"{host}/app:1", "imagePullPolicy": "Always"}
    apply(pod("pulls", node="pi", main=image, imagePullSecrets=[{"name": "mine"}]), pod("stranger", node="pi", main=image))
    phase("pulls", "Running", 20)
    told = dict(events("pulls"))
    assert told["Pulling"] == f'Pulling image "{host}/app:1"', told
    assert re.match(rf'Successfully pulled image "{host}/app:1" in [0-9.ms]+ \([0-9.ms]+ including waiting\)\. Image size: \d+ bytes\.',
                    told["Pulled"]), told
    assert status("pulls")["imageID"].startswith(f"{host}/app@sha256:"), status("pulls")
    until("stranger", "{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff")
    assert "401" in status("stranger")["state"]["waiting"]["message"] or "authorization failed" in str(events("stranger"))
    delete("pulls")
    delete("stranger")


def a_mirror_is_used_with_its_authority_and_credentials_from_the_next_pull_on():
    """K3s' registries.yaml: a registry that does not answer, whose images a mirror has under a prefix."""
    host, plain = f"{NETS['hub']}:5001", f"{NETS['hub']}:5000"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=mirror",
        "-addext", f"subjectAltName=IP:{NETS['hub']}", "-keyout", FOLDER / "mirror.key", "-out", FOLDER / "mirror.crt")
    settings = json.loads((FOLDER / "registry.yml").read_text())
    settings["http"] = {"addr": host, "tls": {"certificate": str(FOLDER / "mirror.crt"), "key": str(FOLDER / "mirror.key")}}
    (FOLDER / "mirror.yml").write_text(json.dumps(settings))
    RUNNING["mirror"] = Process(*inside("hub"), "docker-registry", "serve", FOLDER / "mirror.yml")
    RUNNING["mirror"].expect("listening on")
    run(*inside("hub"), *client("hub"), "images", "tag", "docker.io/library/busybox:latest", f"{plain}/shop/app:1")
    run(*inside("hub"), *client("hub"), "images", "push", "--plain-http", "--user", "me:secret", f"{plain}/shop/app:1")
    apply(pod("bystander", node="pi"))
    phase("bystander", "Running")
    image = {"image": "127.0.0.1:2/app:1", "imagePullPolicy": "Always"}
    file = FOLDER / "pi/agent/registries.yaml"
    rules = {"mirrors": {"127.0.0.1:2": {"endpoint": [f"https://{host}"], "rewrite": {"^(.*)$": "shop/$1"}}},
             "configs": {host: {"tls": {"ca_file": str(FOLDER / "mirror.crt")}}}}
    file.write_text(json.dumps(rules))
    apply(pod("unknown", node="pi", main=image))
    until("unknown", "{.status.containerStatuses[0].state.waiting.reason}", "ImagePullBackOff")
    rules["configs"][host]["auth"] = {"username": "me", "password": "secret"}
    file.write_text(json.dumps(rules))
    apply(pod("known", node="pi", main=image))
    phase("known", "Running", 30)
    assert 'Successfully pulled image "127.0.0.1:2/app:1"' in dict(events("known"))["Pulled"], events("known")
    assert status("bystander")["restartCount"] == 0 and "running" in status("bystander")["state"], status("bystander")
    config = FOLDER / "pi/containerd-state/config.toml"
    assert config.stat().st_mode & 0o777 == 0o600, oct(config.stat().st_mode)
    file.write_text("mirrors:\n  \"127.0.0.1:2\":\n    endpiont: []\n")
    apply(pod("again", node="pi", main=image))
    RUNNING["pi"].expect(r"registries\.yaml:3: .*endpiont")
    phase("again", "Running", 30)
    KUBE("delete", "pods", "unknown", "known", "again", "bystander", "--timeout=30s")


def a_forced_deletion_forgets_at_once_and_the_node_cleans_up():
    stubborn = {"command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}
    before = tasks("hub")
    apply(pod("stubborn", terminationGracePeriodSeconds=60, main=stubborn))
    phase("stubborn", "Running")
    began = time.monotonic()
    KUBE("delete", "pod", "stubborn", "--force", "--grace-period=0")
    assert time.monotonic() - began < 5
    deadline = time.monotonic() + 20
    while tasks("hub") > before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert tasks("hub") == before


def an_agent_runs_pods_as_the_server_does():
    apply(pod("far", node="pi"))
    phase("far", "Running")
    assert status("far")["ready"] and get("far")["status"]["hostIP"] == NETS["pi"]


def pods_go_on_when_kiln_is_killed_and_are_known_again():
    apply(pod("survivor", node="pi"))
    phase("survivor", "Running")
    before = status("survivor")["containerID"]
    gone = pod("leaves", node="pi")
    apply(gone)
    phase("leaves", "Running")
    running, uid = tasks("pi"), get("leaves")["metadata"]["uid"]
    RUNNING["pi"].kill()
    assert tasks("pi") == running, "the containers do not end with kiln"
    KUBE("delete", "pod", "leaves", "--force", "--grace-period=0")
    start_agent()
    KUBE.ready("pi", 60)
    deadline = time.monotonic() + 20
    while tasks("pi") > running - 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert tasks("pi") == running - 2, "what was deleted meanwhile is ended"
    after = status("survivor")
    assert after["containerID"] == before and after["restartCount"] == 0 and after["ready"], after
    delete("survivor")
    assert not list(LOGS.glob(f"default_leaves_{uid}")), "its logs go too"


def pods_go_on_when_containerd_is_killed():
    apply(pod("steady", node="pi"))
    phase("steady", "Running")
    before = status("steady")["containerID"]
    os.kill(int((FOLDER / "pi/containerd-state/containerd.pid").read_text()), signal.SIGKILL)
    apply(pod("next", node="pi"))
    phase("next", "Running")
    after = status("steady")
    assert after["containerID"] == before and after["restartCount"] == 0, after
    delete("steady")
    delete("next")


def a_static_pod_follows_its_file():
    manifests = FOLDER / "pi/agent/pod-manifests"
    fixed = pod("fixed", node="pi")
    del fixed["spec"]["nodeName"]
    (manifests / "fixed.yaml").write_text(json.dumps(fixed))
    KUBE("wait", "--for=create", "pod/fixed-pi", "--timeout=30s")
    phase("fixed-pi", "Running")
    mirror = get("fixed-pi")
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.source"] == "file", mirror["metadata"]
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node", mirror["metadata"]
    running = tasks("pi")
    # A kubectl that waits may miss the moment without one: it looks, then lists, then waits for a deletion.
    uid = mirror["metadata"]["uid"]
    watch = Process(*KUBE.base, "get", "pod", "fixed-pi", "--watch", "-o", "jsonpath={.metadata.uid}{'\\n'}")
    watch.expect(uid)
    KUBE("delete", "pod", "fixed-pi", "--wait=false")
    watch.expect(f"^(?!{uid}).+")
    watch.kill()
    assert tasks("pi") == running, "a mirror is only a picture"
    (manifests / "fixed.yaml").unlink()
    KUBE("wait", "--for=delete", "pod/fixed-pi", "--timeout=30s")


def idle_costs_next_to_nothing():
    def resident(process, what="VmRSS"):
        return int(re.search(rf"{what}:\s+(\d+)", pathlib.Path(f"/proc/{process}/status").read_text())[1]) / 1024

    def used(process):
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    apply(*[pod(f"idle-{number}", node="pi") for number in range(5)])
    for number in range(5):
        phase(f"idle-{number}", "Running")
    kiln = {node: RUNNING[node].process.pid for node in NETS}
    before = {node: used(process) for node, process in kiln.items()}
    time.sleep(10)
    for node, process in kiln.items():
        FIGURES[f"{node}: processor, percent of a core, idle"] = (used(process) - before[node]) * 10
        FIGURES[f"{node}: resident, MiB"] = resident(process)
        FIGURES[f"{node}: of it not of the program's file, MiB"] = resident(process, "RssAnon")
        daemon = int((FOLDER / node / "containerd-state/containerd.pid").read_text())
        FIGURES[f"{node}: containerd, resident, MiB"] = resident(daemon)
    for number in range(5):
        delete(f"idle-{number}")


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    try:
        code = main([
            a_server_and_an_agent_become_ready_with_a_runtime_of_their_own,
            a_pod_with_a_cached_image_runs_within_a_second_and_its_status_is_whole,
            a_deleted_pod_ends_by_its_signal_and_leaves_nothing,
            a_container_that_ends_is_restarted_by_the_pods_policy,
            a_pod_whose_time_is_over_fails,
            init_containers_run_in_order_and_sidecars_stay,
            probes_tell_what_is_ready_and_restart_what_does_not_live,
            hooks_run_after_the_start_and_before_the_end,
            a_pod_that_ends_is_shown_unready_as_soon_as_its_probe_says_so,
            an_image_that_is_not_there_is_told_and_waited_for,
            an_image_is_pulled_from_a_registry_with_the_pods_secret,
            a_mirror_is_used_with_its_authority_and_credentials_from_the_next_pull_on,
            a_forced_deletion_forgets_at_once_and_the_node_cleans_up,
            an_agent_runs_pods_as_the_server_does,
            pods_go_on_when_kiln_is_killed_and_are_known_again,
            pods_go_on_when_containerd_is_killed,
            a_static_pod_follows_its_file,
            idle_costs_next_to_nothing,
        ])
        for what, figure in FIGURES.items():
            say(f"{what}: {figure:.2f}")
    finally:
        clean()
    sys.exit(code)
