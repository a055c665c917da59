#!/usr/bin/env python3
"""Three cards of three architectures, flashed before any boots, become one cluster without a hand on them.

The server is a UEFI PC; `pi` (a Raspberry Pi 4) is given the server's address, `arm` (ARMv7) finds it by mDNS on a LAN.
`arm` has a token that is good once, which leaves its card with the join. A pod on `arm`, of an image that its card brings, is
called through an Ingress of `hub`, encrypted on its way between the two. Then the Pi's card is written anew, and then put into another board.
"""
import json
import re
import shutil
import sys

import oci
import preloaded
from harness import KILN, TOOLS, Kubectl, Machine, free_port, imager, locked, main, run, say, scratch

FOLDER = scratch("cluster")
PORT = free_port()
WEB = free_port()
LAN = f"kiln-ci-{PORT}"
KUBE = Kubectl(FOLDER / "cluster" / "admin.kubeconfig", f"https://127.0.0.1:{PORT}")
VMS = {}
# Bytes of what a pod sends to another node.
LARGE = 1 << 20

NODES = {
    "hub": {
        "board": "x86_64",
        "role": "server",
        "settings": f"""
version = 1
[node]
name = "hub"
role = "server"
addresses = ["192.168.77.1"]
[server]
tls-sans = ["10.0.2.2"]
flannel-backend = "wireguard"
[[network.interface]]
match = "eth0"
method = "dhcp"
[[network.interface]]
match = "eth1"
method = "static"
address = "192.168.77.1/24"
[time]
servers = []
""",
    },
    "pi": {
        "board": "rpi4",
        "role": "agent",
        "settings": f"""
version = 1
[node]
name = "pi"
role = "agent"
[cluster]
server = "https://10.0.2.2:{PORT}"
[time]
servers = []
""",
    },
    "arm": {
        "board": "virt-armv7",
        "role": "agent",
        "settings": """
version = 1
[node]
name = "arm"
role = "agent"
[cluster]
server = "discover"
# The emulator's virtio-mmio cards come last to first.
[[network.interface]]
match = "eth0"
method = "static"
address = "192.168.77.3/24"
[[network.interface]]
match = "eth1"
method = "dhcp"
[time]
servers = []
""",
    },
}


def image(node):
    """Where the scenario keeps a node's image."""
    return FOLDER / node / f"kiln-{NODES[node]['board']}.img"


def config_partition(node):
    """The CONFIG partition, as mtools name it."""
    table = json.loads(run("sfdisk", "--json", image(node)).stdout)["partitiontable"]
    return f"{image(node)}@@{table['partitions'][0]['start'] * 512}"


def config_file(node, name):
    """A file of the CONFIG partition."""
    return run("mtype", "-i", config_partition(node), f"::{name}").stdout


def build(node):
    """Builds the image of one node, with its settings on the card."""
    settings = FOLDER / f"{node}.toml"
    settings.write_text(NODES[node]["settings"].lstrip())
    imager("build", "--board", NODES[node]["board"], "--config", settings, "--cluster", FOLDER / "cluster",
           "--out", FOLDER / node, *NODES[node].get("images", []), *locked())


def boot(node, *arguments, card=None):
    """Starts a node's machine."""
    VMS[node] = Machine(node, card or image(node), FOLDER, *arguments)
    return VMS[node]


def figures(node, vm):
    """Prints what the issue asks for per image: size, kernel start to join, used RAM."""
    joined = vm.expect(r"kiln: joined as (\S+) at ([0-9.]+) s", 240)
    memory = vm.expect(r"kiln: memory used (\d+) MiB of (\d+) MiB", 60)
    raw = sum(int(x) for x in re.findall(r"<MappedBlocksCount>\s*(\d+)", image(node).with_suffix(".bmap").read_text())) * 4096
    packed = image(node).with_suffix(".img.zst").stat().st_size
    assert joined.group(1) == node, f"joined as {joined.group(1)}"
    say(f"     {node}: board {NODES[node]['board']}, image {raw / 2**20:.1f} MiB mapped, {packed / 2**20:.1f} MiB zst, "
        f"kernel start to join {joined.group(2)} s, used RAM {memory.group(1)} of {memory.group(2)} MiB")


def kiln(*arguments):
    """`kiln` on this machine, as the cluster's admin."""
    return run(KILN, *arguments, "--kubeconfig", FOLDER / "cluster" / "admin.kubeconfig").stdout


def cards_are_flashed_before_any_board_boots():
    for node, machine, busybox in ("hub", "amd64", oci.BUSYBOX), ("arm", "arm", TOOLS / "busybox-armhf"):
        preloaded.archive(FOLDER / f"{node}.tar", machine, busybox)
        NODES[node]["images"] = ["--container-image", FOLDER / f"{node}.tar"]
    imager("cluster", "init", FOLDER / "cluster", "--server", f"https://127.0.0.1:{PORT}")
    for node in NODES:
        build(node)
        shutil.copy(image(node), FOLDER / f"{node}.pristine.img")


def three_boards_of_three_architectures_join_untouched():
    hub = boot("hub", "--forward", f"{PORT}:6443", "--forward", f"{WEB}:80", "--lan", LAN, "--memory", "1G")
    figures("hub", hub)
    NODES["arm"]["token"] = kiln("token", "create", "--single-use", "--node", "arm").strip()
    imager("config", "set", image("arm"), f"cluster.token={NODES['arm']['token']}")
    pi = boot("pi", "--serial", "10000000aaaa0001")
    arm = boot("arm", "--lan", LAN, "--memory", "512M")
    figures("pi", pi)
    figures("arm", arm)
    for node in NODES:
        KUBE.ready(node, 120)
    nodes = json.loads(KUBE("get", "nodes", "-o", "json").stdout)["items"]
    found = {n["metadata"]["name"]: n["status"]["nodeInfo"]["architecture"] for n in nodes}
    assert found == {"hub": "amd64", "pi": "arm64", "arm": "arm"}, found
    # `hub` is told which; `pi` has the emulator's network alone; `arm` is reached on the LAN that leads to the server. Never
    # fec0::/10.
    for node, address in {"hub": "192.168.77.1", "pi": "10.0.2.15", "arm": "192.168.77.3"}.items():
        path = '{.status.addresses[?(@.type=="InternalIP")].address}'
        KUBE("wait", f"--for=jsonpath={path}={address}", f"node/{node}", "--timeout=20s")
    say(KUBE("get", "nodes", "-o", "wide").stdout)


def a_preloaded_pod_runs_at_first_boot_and_is_reached_from_this_machine():
    preloaded.reached(KUBE, "hub")


def pod(name, node, command, **labels):
    """A pod on a node, of the image that its card brought."""
    container = {"name": "main", "image": preloaded.NAME, "imagePullPolicy": "Never", "command": ["sh", "-c", command]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": node, "restartPolicy": "Never", "containers": [container]}}


def a_pod_of_another_architecture_is_called_from_outside():
    """From this machine by an Ingress on `hub`, whose Service's only pod is on `arm`."""
    serve = f"busybox uname -m > /www/index.html; dd if=/dev/zero of=/www/large bs={LARGE} count=1; exec httpd -f -p 8080 -h /www"
    web = pod("web", "arm", serve, app="web")
    web["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
               "spec": {"rules": [{"host": "web.kiln.test",
                                   "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}
    for thing in (web, service, ingress):
        KUBE("apply", "-f", "-", stdin=json.dumps(thing))
    KUBE("wait", "--for=condition=Ready", "pod/web", "--timeout=180s", timeout=200)
    # It is served by the time at which its address is published.
    KUBE("wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "ingress/web", "--timeout=60s")
    called = from_outside("/").stdout.strip()
    assert called.startswith("armv7"), called


def from_outside(path, *arguments):
    """Calls the Ingress on `hub` from this machine."""
    return run("curl", "-sS", "--max-time", "60", "-H", "Host: web.kiln.test", *arguments, f"http://127.0.0.1:{WEB}{path}")


def what_pods_of_two_nodes_send_each_other_goes_encrypted():
    """By WireGuard's interfaces, which `hub` asks for and `arm` learns of: what comes out of one's goes into the other's."""
    watchers = {"hub": "rx", "arm": "tx"}
    for node in watchers:
        watcher = pod(f"watcher-{node}", node, "trap 'exit 0' TERM; while :; do sleep 1; done")
        watcher["spec"]["hostNetwork"] = True
        KUBE("apply", "-f", "-", stdin=json.dumps(watcher))
    KUBE("wait", "--for=condition=Ready", *[f"pod/watcher-{node}" for node in watchers], "--timeout=120s", timeout=140)

    def seen(node, *command):
        return KUBE("exec", f"watcher-{node}", "--", "busybox", *command).stdout

    def counted():
        return {node: int(seen(node, "cat", f"/sys/class/net/kiln-wg/statistics/{way}_bytes")) for node, way in watchers.items()}

    before = counted()
    size = from_outside("/large", "-o", "/dev/null", "-w", "%{size_download}").stdout
    assert int(size) == LARGE, size
    more = {node: after - before[node] for node, after in counted().items()}
    say(f"     of {LARGE} bytes {more} went through the nodes' ends of WireGuard")
    assert all(LARGE <= bytes < 2 * LARGE for bytes in more.values()), more
    for node in watchers:
        names = seen(node, "ls", "/sys/class/net").split()
        assert "kiln.1" not in names, names
    KUBE("delete", "pod", *[f"watcher-{node}" for node in watchers], "--wait=false")


def a_pod_of_another_architecture_is_called_by_its_service_s_name():
    """From a pod on `hub`. By `nc`: the static busybox's `wget` needs libraries of the host's own to look up a name."""
    call = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 web 80 | tail -n 1"
    KUBE("apply", "-f", "-", stdin=json.dumps(pod("caller", "hub", call)))
    KUBE("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/caller", "--timeout=60s", timeout=80)
    called = KUBE("logs", "caller").stdout.strip()
    assert called.startswith("armv7"), called
    KUBE("delete", "pod", "web", "caller", "--wait=false")


def a_single_use_token_leaves_its_card_and_the_node_stays_joined():
    arm = VMS.pop("arm")
    arm.told(r"kiln: the single-use token was removed from CONFIG", 60)
    arm.process.terminate()
    arm.wait(90)
    arm.stop()
    secret = NODES["arm"]["token"].rsplit(":", 1)[1]
    settings = config_file("arm", "node.toml")
    assert "token =" not in settings and "was used and removed" in settings, settings
    part = json.loads(run("sfdisk", "--json", image("arm")).stdout)["partitiontable"]["partitions"][0]
    with open(image("arm"), "rb") as card:
        card.seek(part["start"] * 512)
        assert secret.encode() not in card.read(part["size"] * 512), "the secret is still on CONFIG"
    before = json.loads(KUBE("get", "node", "arm", "-o", "json").stdout)
    arm = boot("arm", "--lan", LAN, "--memory", "512M")
    arm.expect(r"kiln: joined as arm at", 240)
    KUBE.ready("arm", 60)
    after = json.loads(KUBE("get", "node", "arm", "-o", "json").stdout)
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "the Node was replaced"


def a_card_holds_no_secret_that_it_needs_no_longer():
    """The CA's key leaves the server's card for STATE; what the settings print never shows a token's secret."""
    listing = run("mdir", "-b", "-i", config_partition("hub"), "::cluster").stdout
    assert "ca.crt" in listing and "ca.key" not in listing and "bootstrap-tokens" not in listing, listing
    secret = (FOLDER / "cluster" / "token").read_text().strip().rsplit(":", 1)[1]
    assert secret not in imager("config", "show", image("pi")).stdout
    assert secret not in imager("inspect", image("pi")).stdout


def a_silent_node_is_not_ready_within_forty_seconds():
    VMS.pop("pi").stop()
    KUBE("wait", "--for=condition=Ready=Unknown", "node/pi", "--timeout=70s")


def a_reflashed_board_rejoins_under_its_name():
    before = json.loads(KUBE("get", "node", "pi", "-o", "json").stdout)
    run("cp", FOLDER / "pi.pristine.img", image("pi"))
    pi = boot("pi", "--serial", "10000000aaaa0001")
    pi.expect(r"kiln: joined as pi at", 240)
    KUBE.ready("pi", 120)
    after = json.loads(KUBE("get", "node", "pi", "-o", "json").stdout)
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "the Node was replaced"
    assert after["status"]["nodeInfo"]["bootID"] != before["status"]["nodeInfo"]["bootID"]
    VMS.pop("pi").stop()


def another_board_does_not_get_the_name():
    run("cp", FOLDER / "pi.pristine.img", image("pi"))
    pi = boot("pi", "--serial", "10000000bbbb0002")
    why = pi.expect(r"kiln: join failed: (.*)", 240).group(1)
    assert "another board" in why, why
    pi.expect(r"kiln: join-status\.txt on CONFIG tells this too", 60)
    VMS.pop("pi").stop()
    told = config_file("pi", "join-status.txt")
    assert "another board" in told, told


def the_power_button_shuts_a_node_down_in_order():
    hub = VMS.pop("hub")
    hub.process.terminate()
    hub.expect(r"kiln: .*power", 60)
    hub.wait(60)
    hub.stop()


def the_machines_are_gone():
    for vm in VMS.values():
        vm.stop()
    state = FOLDER / "hub.state"
    hub = image("hub")
    table = json.loads(run("sfdisk", "--json", hub).stdout)["partitiontable"]
    part = table["partitions"][3]
    run("dd", f"if={hub}", f"of={state}", "bs=512", f"skip={part['start']}", f"count={part['size']}", "conv=sparse")
    run("e2fsck", "-fn", state)


if __name__ == "__main__":
    sys.exit(main([
        cards_are_flashed_before_any_board_boots,
        three_boards_of_three_architectures_join_untouched,
        a_preloaded_pod_runs_at_first_boot_and_is_reached_from_this_machine,
        a_pod_of_another_architecture_is_called_from_outside,
        what_pods_of_two_nodes_send_each_other_goes_encrypted,
        a_pod_of_another_architecture_is_called_by_its_service_s_name,
        a_card_holds_no_secret_that_it_needs_no_longer,
        a_single_use_token_leaves_its_card_and_the_node_stays_joined,
        a_silent_node_is_not_ready_within_forty_seconds,
        a_reflashed_board_rejoins_under_its_name,
        another_board_does_not_get_the_name,
        the_power_button_shuts_a_node_down_in_order,
        the_machines_are_gone,
    ]))
