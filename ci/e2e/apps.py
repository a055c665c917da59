#!/usr/bin/env python3
"""Workloads by the real kubectl: Deployments, StatefulSets, DaemonSets and budgets on `kiln server`, with simulated nodes.

The nodes are `runtime/controllers/examples/simulated_nodes.rs`: they say what kubelets would. Then the server is killed again
and again in the middle of a rollout: KILN_CI_KILLS says how often, KILN_CI_SEED repeats a run. KILN_BIN names the binary.
"""
import json
import os
import random
import subprocess
import sys
import time

from harness import KILN, Kubectl, free_port, main, run, say, scratch
from process import Process

FOLDER = scratch("apps")
PORT = free_port()
CONFIG = FOLDER / "data" / "server" / "admin.kubeconfig"
KUBE = Kubectl(CONFIG, f"https://127.0.0.1:{PORT}")
NODES = ["n1", "n2", "n3"]
SIMULATED = KILN.parent / "examples" / "simulated_nodes"
RUNNING = {}

STATEFUL = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
"""
DAEMONS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: "agent:1"}]}
"""


def start_server():
    """Starts the server on its port."""
    RUNNING["server"] = Process(KILN, "server", "--bind-address", "127.0.0.1", "--https-listen-port", PORT, "--disable", "mdns",
                                "--disable-agent", "--data-dir", FOLDER / "data")
    RUNNING["server"].expect("serving url=")


def says(words, *arguments, stdin=None):
    """kubectl must succeed, and print this."""
    done = KUBE(*arguments, stdin=stdin)
    assert words in done.stdout, f"kubectl {' '.join(arguments)} printed {done.stdout!r}, not {words!r}"
    return done.stdout


def read(*arguments):
    """What kubectl prints as JSON."""
    return json.loads(KUBE(*arguments, "-o", "json").stdout)


def alive(selector):
    """Pods that are not being deleted, as (name, image, node)."""
    return [(p["metadata"]["name"], p["spec"]["containers"][0]["image"], p["spec"].get("nodeName"))
            for p in read("get", "pods", "-l", selector)["items"] if "deletionTimestamp" not in p["metadata"]]


def rolled_out(what):
    """Waits for a rollout as a person does."""
    return says("successfully rolled out" if not what.startswith("statefulset") else "", "rollout", "status", what,
                "--timeout=60s")


def a_server_with_simulated_nodes():
    start_server()
    # Its standard input stays open as long as this scenario runs.
    nodes = subprocess.Popen([str(SIMULATED), str(CONFIG), *NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    RUNNING["nodes"] = nodes
    assert nodes.stdout.readline() == f"{len(NODES)} nodes\n"
    for node in NODES:
        KUBE.ready(node, 30)


def a_deployment_scales_and_rolls_out_and_back():
    says("deployment.apps/web created", "create", "deployment", "web", "--image=nginx:1", "--replicas=3")
    rolled_out("deployment/web")
    says("deployment.apps/web scaled", "scale", "deployment/web", "--replicas=5")
    rolled_out("deployment/web")
    assert len(alive("app=web")) == 5
    says("image updated", "set", "image", "deployment/web", "nginx=nginx:2")
    rolled_out("deployment/web")
    history = says("REVISION  CHANGE-CAUSE", "rollout", "history", "deployment/web").splitlines()
    assert [line.split()[0] for line in history[2:] if line.strip()] == ["1", "2"], history
    says("nginx:1", "rollout", "history", "deployment/web", "--revision=1")
    says("deployment.apps/web rolled back", "rollout", "undo", "deployment/web")
    rolled_out("deployment/web")
    assert {image for _, image, _ in alive("app=web")} == {"nginx:1"}
    history = says("REVISION", "rollout", "history", "deployment/web").splitlines()
    assert [line.split()[0] for line in history[2:] if line.strip()] == ["2", "3"], history
    says("deployment.apps/web paused", "rollout", "pause", "deployment/web")
    KUBE("set", "image", "deployment/web", "nginx=nginx:3")
    KUBE("set", "env", "deployment/web", "COLOUR=red")
    KUBE("set", "resources", "deployment/web", "--limits=cpu=200m")
    assert {image for _, image, _ in alive("app=web")} == {"nginx:1"}
    says("deployment.apps/web resumed", "rollout", "resume", "deployment/web")
    rolled_out("deployment/web")
    assert {image for _, image, _ in alive("app=web")} == {"nginx:3"}
    before = {name for name, _, _ in alive("app=web")}
    says("deployment.apps/web restarted", "rollout", "restart", "deployment/web")
    rolled_out("deployment/web")
    assert not before & {name for name, _, _ in alive("app=web")}
    says("service/web exposed", "expose", "deployment/web", "--port=80")
    text = KUBE("describe", "deployment", "web").stdout
    for part in ("5 desired | 5 updated | 5 total | 5 available | 0 unavailable", "MinimumReplicasAvailable",
                 "NewReplicaSetAvailable", "ScalingReplicaSet", "from 0 to"):
        assert part in text, f"no {part!r} in\n{text}"


def an_autoscaler_keeps_a_deployment_within_its_bounds():
    says("autoscaled", "autoscale", "deployment/web", "--min=2", "--max=6", "--cpu-percent=50")
    KUBE("wait", "--for=condition=AbleToScale", "horizontalpodautoscaler/web", "--timeout=60s")
    KUBE("scale", "deployment/web", "--replicas=1")
    KUBE("wait", "--for=jsonpath={.spec.replicas}=2", "deployment/web", "--timeout=60s")
    says("Current number of replicas below Spec.MinReplicas", "describe", "horizontalpodautoscaler", "web")
    KUBE("delete", "horizontalpodautoscaler", "web")
    KUBE("scale", "deployment/web", "--replicas=5")
    rolled_out("deployment/web")


def a_stateful_set_keeps_its_names_and_rolls_back():
    says("statefulset.apps/db created", "apply", "-f", "-", stdin=STATEFUL)
    KUBE("rollout", "status", "statefulset/db", "--timeout=60s")
    assert [name for name, _, _ in alive("app=db")] == ["db-0", "db-1", "db-2"]
    KUBE("set", "image", "statefulset/db", "db=db:2")
    KUBE("rollout", "status", "statefulset/db", "--timeout=60s")
    assert {image for _, image, _ in alive("app=db")} == {"db:2"}
    says("statefulset.apps/db rolled back", "rollout", "undo", "statefulset/db")
    KUBE("rollout", "status", "statefulset/db", "--timeout=60s")
    assert {image for _, image, _ in alive("app=db")} == {"db:1"}
    says("statefulset.apps/db scaled", "scale", "statefulset/db", "--replicas=1")
    KUBE("wait", "--for=delete", "pod/db-1", "--timeout=30s")
    assert [name for name, _, _ in alive("app=db")] == ["db-0"]


def a_daemon_set_runs_on_every_node_and_restarts():
    says("daemonset.apps/agent created", "apply", "-f", "-", stdin=DAEMONS)
    rolled_out("daemonset/agent")
    assert sorted(node for _, _, node in alive("app=agent")) == NODES
    KUBE("set", "image", "daemonset/agent", "agent=agent:2")
    rolled_out("daemonset/agent")
    says("daemonset.apps/agent rolled back", "rollout", "undo", "daemonset/agent")
    rolled_out("daemonset/agent")
    assert {image for _, image, _ in alive("app=agent")} == {"agent:1"}


def a_drain_moves_pods_as_their_budget_allows():
    says("poddisruptionbudget.policy/web created", "create", "poddisruptionbudget", "web", "--selector=app=web",
         "--max-unavailable=1")
    KUBE("wait", "--for=condition=DisruptionAllowed", "poddisruptionbudget/web", "--timeout=30s")
    says("drained", "drain", "n1", "--ignore-daemonsets", "--timeout=60s")
    rolled_out("deployment/web")
    on_n1 = [name for name, _, node in alive("app=web") if node == "n1"]
    assert len(alive("app=web")) == 5 and not on_n1, on_n1
    assert [node for _, _, node in alive("app=agent") if node == "n1"], "the daemon's pod stays"
    says("node/n1 uncordoned", "uncordon", "n1")


def a_server_killed_in_the_middle_of_a_rollout_ends_it_with_no_pod_too_many():
    seed = int(os.environ.get("KILN_CI_SEED", time.time_ns() % 1_000_000))
    dice, kills = random.Random(seed), int(os.environ.get("KILN_CI_KILLS", 3))
    say(f"     {kills} kills, KILN_CI_SEED={seed}")
    KUBE("create", "deployment", "many", "--image=nginx:1", "--replicas=60")
    rolled_out("deployment/many")
    for n in range(kills):
        KUBE("set", "image", "deployment/many", f"nginx=nginx:{n + 2}")
        # The kill is to fall anywhere in the rollout.
        time.sleep(dice.uniform(0, 1.5))
        RUNNING["server"].kill()
        start_server()
    rolled_out("deployment/many")
    pods = alive("app=many")
    assert len(pods) == 60 and {image for _, image, _ in pods} == {f"nginx:{kills + 1}"}, pods
    KUBE("wait", "--for=jsonpath={.status.replicas}=60", "deployment/many", "--timeout=60s")
    sets = read("get", "replicasets", "-l", "app=many")["items"]
    assert sorted(s["spec"]["replicas"] for s in sets) == [0] * (len(sets) - 1) + [60], sets


def the_server_and_the_nodes_end_in_order():
    RUNNING["nodes"].stdin.close()
    assert RUNNING["nodes"].wait(30) == 0
    RUNNING["server"].stop()


if __name__ == "__main__":
    assert SIMULATED.exists() and KILN.exists(), f"{SIMULATED} and {KILN} must be there: cargo test --workspace builds both"
    sys.exit(main([
        a_server_with_simulated_nodes,
        a_deployment_scales_and_rolls_out_and_back,
        an_autoscaler_keeps_a_deployment_within_its_bounds,
        a_stateful_set_keeps_its_names_and_rolls_back,
        a_daemon_set_runs_on_every_node_and_restarts,
        a_drain_moves_pods_as_their_budget_allows,
        a_server_killed_in_the_middle_of_a_rollout_ends_it_with_no_pod_too_many,
        the_server_and_the_nodes_end_in_order,
    ]))
