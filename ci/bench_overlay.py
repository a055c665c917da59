"""What pods of two nodes send each other, beside the bare veth that connects the nodes: iperf3 in the same run."""
import json
import subprocess

from harness import run
from nodes import Nodes

SECONDS = 4
ROUNDS = 3


def rate(server, client, address):
    """Gbit/s of one TCP connection. `server` and `client` are prefixes of commands."""
    listener = subprocess.Popen([*server, "iperf3", "-s", "-1", "-B", address, "--forceflush"], stdout=subprocess.PIPE, text=True)
    try:
        for line in listener.stdout:
            if "listening" in line:
                break
        done = run(*client, "iperf3", "-c", address, "-t", SECONDS, "-J")
        return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9
    finally:
        listener.terminate()
        listener.wait()


def net_overlay():
    """The figures, and how much of the veth's rate is left."""
    nodes = Nodes("bench-overlay", {"hub": "10.99.12.1", "pi": "10.99.12.2"})
    try:
        nodes.start_all()
        nodes.apply(*[nodes.pod(f"end-{node}", node) for node in nodes.addresses])
        nodes.ready(*[f"end-{node}" for node in nodes.addresses])
        within = {node: nodes.pod_network(node) for node in nodes.addresses}
        bare, overlay = [], []
        # In turns, so that whatever else the machine does meets both.
        for _ in range(ROUNDS):
            bare.append(rate(nodes.inside("pi"), nodes.inside("hub"), nodes.addresses["pi"]))
            overlay.append(rate(within["pi"], within["hub"], nodes.address("end-pi")))
        bare, overlay = sorted(bare)[ROUNDS // 2], sorted(overlay)[ROUNDS // 2]
        return {"veth, Gbit/s": round(bare, 2), "pod to pod by VXLAN, Gbit/s": round(overlay, 2), "share": round(overlay / bare, 2)}
    finally:
        nodes.close()


if __name__ == "__main__":
    print(json.dumps(net_overlay(), indent=1))
