"""Devices that plugins offer, seen from inside of pods that have them. `pod_features.py` runs these."""
from harness import KILN
from pod_nodes import FOLDER, KUBE, RUNNING, apply, delete, get, phase, pod, start_server, until
from process import Process


def devices_of_a_plugin_are_given_to_pods():
    plugin = Process(KILN.parent / "examples/device_plugin", FOLDER / "hub/kubelet/device-plugins", "example.org/stick", "a", "b")
    offered = ["wait", "node/hub", "--for=jsonpath={.status.allocatable.example\\.org/stick}=2", "--timeout=30s"]

    def sticks(name):
        return KUBE("exec", name, "--", "sh", "-c", "test -c /dev/stick && test -d /sticks/bin && echo $STICKS").stdout.strip()

    try:
        plugin.expect("^registered")
        KUBE(*offered)
        one = {"resources": {"limits": {"example.org/stick": "1"}}}
        apply(pod("first", main=one), pod("second", main=one))
        phase("first", "Running")
        phase("second", "Running")
        assert {sticks("first"), sticks("second")} == {"a", "b"}
        apply(pod("third", main=one), pod("fourth", main=one, node=None))
        phase("third", "Failed")
        why = "requested number of devices unavailable for example.org/stick. Requested: 1, Available: 0"
        state = get("third")["status"]
        assert state["message"] == f"Pod was rejected: Allocate failed due to {why}, which is unexpected", state
        until("fourth", '{.status.conditions[?(@.type=="PodScheduled")].reason}', "Unschedulable")
        had = sticks("first")
        RUNNING["hub"].stop()
        start_server()
        plugin.expect("^registered")
        KUBE.ready("hub", 60)
        KUBE(*offered)
        delete("first")
        phase("fourth", "Running")
        assert sticks("fourth") == had and sticks("second") != had
    finally:
        plugin.kill()
    for name in ("second", "third", "fourth"):
        delete(name)


SCENARIOS = [devices_of_a_plugin_are_given_to_pods]
