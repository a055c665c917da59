#!/usr/bin/env python3
"""The real kubectl against the real `kiln`: a server and an agent as ordinary processes on loopback, without root.

What is asked is what a person asks: nodes, config maps, namespaces, tokens. Then what may go wrong: tokens that are of no
use, a rogue server, another board, a node that falls silent, a server that is killed. KILN_BIN names the binary.
"""
import json
import os
import re
import signal
import sys
import time

from harness import KILN, KUBECTL, Kubectl, free_port, main, run, say, scratch
from process import APART, Process, Rogue, foreign_network

FOLDER = scratch("kubectl")
PORT = free_port()
URL = f"https://127.0.0.1:{PORT}"
CONFIG = FOLDER / "kubeconfig"
KUBE = Kubectl(CONFIG, URL)
RUNNING = {}

MAP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: app
  labels:
    tier: web
data:
  colour: red
"""


def kiln(*arguments, ok=True, role="server"):
    """Runs one of the verbs for people with the data folder of the server, or of another role."""
    return run(KILN, *arguments, "--data-dir", FOLDER / role, ok=ok)


def board(letter):
    """A board's id."""
    return letter * 64


def start_server():
    """Starts the server on its port."""
    foreign_network(FOLDER / "server")
    RUNNING["server"] = Process(KILN, "server", "--bind-address", "127.0.0.1", "--https-listen-port", PORT, *APART, "--node-name", "hub",
                                "--kube-controller-manager-arg", "node-monitor-grace-period=20s", "--data-dir", FOLDER / "server",
                                KILN_BOARD_ID=board("a"))
    RUNNING["server"].expect("serving url=")


def agent(folder, token, name="pi-1", letter="b", server=URL):
    """Starts an agent."""
    foreign_network(FOLDER / folder)
    return Process(KILN, "agent", "--server", server, "--node-name", name, "--data-dir", FOLDER / folder,
                   KILN_BOARD_ID=board(letter), KILN_TOKEN=token)


def refused(words, *arguments, stdin=None):
    """kubectl must fail, and say this."""
    done = KUBE(*arguments, ok=False, stdin=stdin)
    assert done.returncode != 0, f"kubectl {' '.join(arguments)} succeeded"
    assert words in done.stderr, f"kubectl {' '.join(arguments)} said {done.stderr!r}, not {words!r}"


def says(words, *arguments, stdin=None):
    """kubectl must succeed, and print this."""
    done = KUBE(*arguments, stdin=stdin)
    assert words in done.stdout, f"kubectl {' '.join(arguments)} printed {done.stdout!r}, not {words!r}"
    return done.stdout


def read(*arguments):
    """What kubectl prints as JSON."""
    return json.loads(KUBE(*arguments, "-o", "json").stdout)


def a_server_and_an_agent_become_two_ready_nodes():
    start_server()
    CONFIG.write_text(kiln("kubeconfig").stdout)
    (FOLDER / "token").write_text(kiln("token", "create").stdout.strip())
    RUNNING["agent"] = agent("agent", (FOLDER / "token").read_text())
    RUNNING["agent"].expect('joined node="pi-1"')
    KUBE.ready("hub", 60)
    KUBE.ready("pi-1", 60)


def get_nodes_wide_has_the_columns_that_people_know():
    head, *rows = KUBE("get", "nodes", "-o", "wide").stdout.splitlines()
    assert head.split("  ")[0].strip() == "NAME", head
    columns = "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME"
    assert head.split() == columns.split(), head
    assert [r.split()[:2] for r in rows] == [["hub", "Ready"], ["pi-1", "Ready"]], rows
    assert all(os.uname().release in row for row in rows), rows


def describe_node_tells_conditions_addresses_and_capacity():
    text = KUBE("describe", "node", "pi-1").stdout
    for part in ("Name:               pi-1", "kubernetes.io/hostname=pi-1", "HolderIdentity:  pi-1", "KubeletReady",
                 "InternalIP:", "Hostname:    pi-1", "Kernel Version:", "PodCIDR:", "pods:               110"):
        assert part in text, f"no {part!r} in\n{text}"


def a_watch_shows_a_change():
    watch = Process(*KUBE.base, "get", "node", "pi-1", "--watch")
    watch.expect(r"^pi-1 +Ready ")
    says("node/pi-1 cordoned", "cordon", "pi-1")
    watch.expect(r"^pi-1 +Ready,SchedulingDisabled ")
    says("node/pi-1 uncordoned", "uncordon", "pi-1")
    watch.expect(r"^pi-1 +Ready ")
    watch.kill()


def a_config_map_is_created_applied_edited_labelled_patched_and_deleted():
    says("configmap/plain created", "create", "configmap", "plain", "--from-literal=a=1")
    refused('configmaps "plain" already exists', "create", "configmap", "plain")
    for manifest, outcome in ((MAP, "created"), (MAP, "unchanged"), (MAP.replace("red", "blue"), "configured")):
        says(f"configmap/app {outcome}", "apply", "-f", "-", stdin=manifest)
    editor = FOLDER / "editor"
    editor.write_text("#!/bin/sh\nexec sed -i s/blue/green/ \"$1\"\n")
    editor.chmod(0o755)
    done = run(*KUBE.base, "edit", "configmap", "app", env={**os.environ, "KUBE_EDITOR": str(editor)})
    assert "configmap/app edited" in done.stdout, done.stdout
    says("configmap/app labeled", "label", "configmap", "app", "shop=north")
    refused("'shop' already has a value (north)", "label", "configmap", "app", "shop=south")
    says("configmap/app unlabeled", "label", "configmap", "app", "shop-")
    says("configmap/app annotated", "annotate", "configmap", "app", "note=seen")
    patches = {
        "merge": '{"data":{"merge":"1"}}',
        "strategic": '{"data":{"strategic":"1"}}',
        "json": '[{"op":"add","path":"/data/json","value":"1"}]',
    }
    for kind, patch in patches.items():
        says("configmap/app patched", "patch", "configmap", "app", f"--type={kind}", "-p", patch)
    says("patched (no change)", "patch", "configmap", "app", "--type=merge", "-p", patches["merge"])
    found = read("get", "configmap", "app")
    assert found["data"] == {"colour": "green", "json": "1", "merge": "1", "strategic": "1"}, found
    assert found["metadata"]["labels"] == {"tier": "web"}, found
    assert found["metadata"]["annotations"]["note"] == "seen", found
    says("configmap/app replaced", "replace", "-f", "-", stdin=MAP)
    says('configmap "plain" deleted', "delete", "configmap", "plain")
    refused('(NotFound): configmaps "plain" not found', "delete", "configmap", "plain")


def every_form_of_output_is_printed():
    assert read("get", "configmap", "app")["kind"] == "ConfigMap"
    assert says("  colour: red", "get", "configmap", "app", "-o", "yaml").startswith("apiVersion: v1\n")
    assert KUBE("get", "configmaps", "-o", "name").stdout == "configmap/app\nconfigmap/kube-root-ca.crt\n"
    assert KUBE("get", "node", "hub", "-o", "jsonpath={.status.nodeInfo.operatingSystem}").stdout == "linux"
    assert read("get", "configmaps")["kind"] == "List"


def a_dry_run_on_the_server_changes_nothing():
    before = read("get", "configmap", "app")
    says("configmap/app configured (server dry run)", "apply", "--dry-run=server", "-f", "-", stdin=MAP.replace("red", "pink"))
    says("created (server dry run)", "create", "configmap", "ghost", "--dry-run=server")
    refused('configmaps "ghost" not found', "get", "configmap", "ghost")
    says('deleted (server dry run)', "delete", "configmap", "app", "--dry-run=server")
    assert read("get", "configmap", "app") == before


def selectors_choose_by_labels_and_fields():
    for selector in ("tier=web", "tier in (web, db)", "tier", "tier,tier!=db", "tier,!absent"):
        assert KUBE("get", "configmaps", "-l", selector, "-o", "name").stdout == "configmap/app\n", selector
    assert KUBE("get", "configmaps", "-l", "tier notin (web)", "-o", "name").stdout == "configmap/kube-root-ca.crt\n"
    assert KUBE("get", "nodes", "--field-selector", "metadata.name=pi-1", "-o", "name").stdout == "node/pi-1\n"
    tokens = KUBE("get", "secrets", "-A", "--field-selector", "type=bootstrap.kubernetes.io/token", "-o", "name").stdout
    assert tokens.startswith("secret/bootstrap-token-"), tokens
    refused('"spec.colour" is not a known field selector: only "metadata.name", "metadata.namespace"',
            "get", "configmaps", "--field-selector", "spec.colour=red")


def what_is_wrong_is_told_as_upstream_tells_it():
    wrong_type = MAP.replace("red", "3")
    number = ('(BadRequest): error when creating "STDIN": ConfigMap in version "v1" cannot be handled as a ConfigMap: '
              "json: cannot unmarshal number into Go struct field ConfigMap.data of type string")
    refused(number, "create", "-f", "-", stdin=wrong_type)
    refused(number, "create", "--validate=false", "-f", "-", stdin=wrong_type)
    refused("json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
            "create", "-f", "-", stdin=MAP.replace("web", "true"))
    refused("json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool",
            "patch", "configmap", "app", "--type=merge", "-p", '{"immutable":"yes"}')
    refused('strict decoding error: unknown field "dta"', "create", "-f", "-", stdin=MAP.replace("data", "dta"))
    refused('ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must',
            "create", "configmap", "Bad_Name")
    refused("the server doesn't have a resource type \"widgets\"", "get", "widgets")
    refused("The request is invalid", "patch", "configmap", "app", "--type=json", "-p",
            '[{"op":"test","path":"/data/colour","value":"mauve"}]')
    stale = {**read("get", "configmap", "app"), "data": {"colour": "black"}}
    stale["metadata"]["resourceVersion"] = "1"
    refused('Operation cannot be fulfilled on configmaps "app": the object has been modified', "replace", "-f", "-",
            stdin=json.dumps(stale))


def a_namespace_goes_with_all_that_is_in_it():
    says("namespace/shop created", "create", "namespace", "shop")
    says("configmap/goods created", "-n", "shop", "create", "configmap", "goods")
    says("secret/key created", "-n", "shop", "create", "secret", "generic", "key", "--from-literal=p=q")
    says('namespace "shop" deleted', "delete", "namespace", "shop", "--timeout=60s")
    refused('namespaces "shop" not found', "get", "namespace", "shop")
    refused('namespaces "shop" not found', "-n", "shop", "create", "configmap", "goods")
    says("namespace/shop created", "create", "namespace", "shop")
    KUBE("-n", "shop", "wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=60s")
    assert KUBE("-n", "shop", "get", "configmaps,secrets", "-o", "name").stdout == "configmap/kube-root-ca.crt\n"
    KUBE("delete", "namespace", "shop", "--wait=false")
    KUBE("wait", "--for=delete", "namespace/shop", "--timeout=60s")


def kubectl_learns_what_is_served():
    resources = KUBE("api-resources", "--no-headers").stdout
    for row in (r"configmaps +cm +v1 +true +ConfigMap", r"nodes +no +v1 +false +Node",
                r"leases +coordination.k8s.io/v1 +true +Lease", r"certificatesigningrequests +csr +certificates.k8s.io/v1 +false"):
        assert re.search(row, resources), f"no {row!r} in\n{resources}"
    versions = KUBE("api-versions").stdout.split()
    assert {"v1", "apps/v1", "coordination.k8s.io/v1", "rbac.authorization.k8s.io/v1"} <= set(versions), versions
    server = read("version")["serverVersion"]
    assert (server["major"], server["minor"]) == ("1", "36") and "+kiln" in server["gitVersion"], server


def kubectl_asks_who_it_is_and_what_it_may():
    assert KUBE("auth", "can-i", "create", "configmaps").stdout == "yes\n"
    denied = KUBE("auth", "can-i", "get", "secrets", "--as=somebody", ok=False)
    assert (denied.returncode, denied.stdout) == (1, "no\n"), denied
    who = read("auth", "whoami")["status"]["userInfo"]
    assert (who["username"], who["groups"]) == ("kubernetes-admin", ["system:masters", "system:authenticated"]), who
    refused('configmaps is forbidden: User "somebody" cannot list resource "configmaps" in API group "" in the namespace "default"',
            "get", "configmaps", "--as=somebody")


def health_is_told_in_one_word_and_in_detail():
    assert KUBE("get", "--raw", "/healthz").stdout == "ok"
    assert KUBE("get", "--raw", "/readyz").stdout == "ok"
    detail = KUBE("get", "--raw", "/livez?verbose").stdout
    assert "[+]ping ok\n" in detail and detail.endswith("livez check passed\n"), detail


def the_verbs_for_people_speak_json():
    made = json.loads(kiln("token", "create", "--ttl", "1h", "--node", "pi-9", "--description", "the lab", "-o", "json").stdout)
    secret = made["token"].rsplit(":", 1)[1]
    listing = kiln("token", "list", "-o", "json").stdout
    found = next(t for t in json.loads(listing) if t["id"] == made["id"])
    assert (found["node"], found["description"], found["expires"]) == ("pi-9", "the lab", made["expires"]), found
    assert secret not in listing and secret not in KUBE("get", "secrets", "-A", "-o", "yaml").stdout
    assert json.loads(kiln("token", "delete", made["id"], "-o", "json").stdout) == {"deleted": 1}
    assert made["id"] not in kiln("token", "list").stdout
    assert kiln("token", "delete", made["id"], ok=False).returncode != 0
    status = json.loads(kiln("status", "-o", "json").stdout)
    assert (status["node"], status["role"], status["state"], status["server"]) == ("hub", "server", "joined", URL), status
    status = json.loads(kiln("status", "-o", "json", role="agent").stdout)
    assert (status["node"], status["role"], status["server"]) == ("pi-1", "agent", URL) and status["joinedSince"], status
    other = FOLDER / "other.kubeconfig"
    other.write_text(kiln("kubeconfig", "--server", "https://192.0.2.7:6443", "--name", "home").stdout)
    view = json.loads(run(KUBECTL, "--kubeconfig", other, "config", "view", "-o", "json").stdout)
    assert view["clusters"][0]["cluster"]["server"] == "https://192.0.2.7:6443" and view["current-context"] == "home", view


def an_expired_token_is_refused_with_what_to_do():
    token = kiln("token", "create", "--ttl", "1s").stdout.strip()
    name = token.rsplit("::", 1)[1].split(":")[0]
    # It goes at its time: whether it is told as unknown or as expired, it is of no more use.
    KUBE("-n", "kube-system", "wait", "--for=delete", f"secret/bootstrap-token-{name}", "--timeout=60s")
    late = agent("late", token, name="pi-late", letter="d")
    why = late.expect(r"join failed.*").group(0)
    late.stop()
    assert "the token is unknown or expired" in why and "kiln token create" in why, why
    refused('nodes "pi-late" not found', "get", "node", "pi-late")


def a_token_of_another_ca_keeps_its_secret():
    token = kiln("token", "create").stdout.strip()
    secret = token.rsplit(":", 1)[1]
    other = f"K10{'0' * 64}::{token.rsplit('::', 1)[1]}"
    own = FOLDER / "server" / "server"
    with Rogue(own / "tls.crt", own / "tls.key", KUBE("get", "--raw", "/cacerts").stdout) as rogue:
        process = agent("fooled", other, name="pi-2", letter="e", server=rogue.url)
        why = process.expect(r"join failed.*").group(0)
        process.stop()
        assert "the secret was not sent" in why, why
        assert rogue.asked and not any(secret in told for _, told in rogue.asked), rogue.asked
        assert {line.split()[1] for line, _ in rogue.asked} == {"/cacerts"}, rogue.asked
        # That the rogue would have noted it: with the right CA the secret is sent.
        process = agent("trusting", token, name="pi-2", letter="e", server=rogue.url)
        process.expect(r"join failed")
        process.stop()
        assert any(secret in told for _, told in rogue.asked), rogue.asked
        rogue.shutdown()


def a_reflashed_board_keeps_its_name_and_another_board_is_refused():
    before = read("get", "node", "pi-1")["metadata"]["uid"]
    token = (FOLDER / "token").read_text()
    RUNNING.pop("agent").stop()
    RUNNING["agent"] = agent("reflashed", token)
    RUNNING["agent"].expect('joined node="pi-1"')
    assert read("get", "node", "pi-1")["metadata"]["uid"] == before, "the Node was replaced"
    stranger = agent("stranger", token, letter="c")
    why = stranger.expect(r"join failed.*").group(0)
    stranger.stop()
    assert 'node name "pi-1" belongs to another board' in why.replace("\\", ""), why
    assert "pi-1.node-identity.kiln" in why, why


def a_silent_node_is_not_ready_and_is_ready_again():
    began = time.monotonic()
    RUNNING["agent"].signal(signal.SIGSTOP)
    try:
        KUBE("wait", "--for=condition=Ready=Unknown", "node/pi-1", "--timeout=45s")
        say(f"     not ready after {time.monotonic() - began:.1f} s")
        taints = read("get", "node", "pi-1")["spec"].get("taints", [])
        assert "node.kubernetes.io/unreachable" in {t["key"] for t in taints}, taints
    finally:
        RUNNING["agent"].signal(signal.SIGCONT)
    KUBE.ready("pi-1", 60)
    watch = Process(*KUBE.base, "get", "node", "pi-1", "--watch", "-o", 'jsonpath=taints {.spec.taints}{"\\n"}')
    watch.expect("^taints (?!.*unreachable)")
    watch.kill()


def a_killed_server_comes_back_with_all_that_was_written():
    says("configmap/kept created", "create", "configmap", "kept", "--from-literal=a=1")
    before = read("get", "configmaps,nodes,secrets", "-A")
    RUNNING.pop("server").kill()
    start_server()
    after = read("get", "configmaps,secrets", "-A")
    kinds = ("ConfigMap", "Secret")
    assert after["items"] == [i for i in before["items"] if i["kind"] in kinds], "what was written has changed"
    # Leases are in memory only: that pi-1's is there again is its heartbeat.
    KUBE("-n", "kube-node-lease", "wait", "--for=create", "lease/pi-1", "--timeout=60s")
    KUBE.ready("pi-1", 60)


def all_end_in_order():
    for name in ("agent", "server"):
        RUNNING.pop(name).stop()


if __name__ == "__main__":
    assert KILN.exists() and KUBECTL.exists(), f"{KILN} and {KUBECTL} must be there: cargo build -p kiln, ci/setup"
    try:
        sys.exit(main([
            a_server_and_an_agent_become_two_ready_nodes,
            get_nodes_wide_has_the_columns_that_people_know,
            describe_node_tells_conditions_addresses_and_capacity,
            a_watch_shows_a_change,
            a_config_map_is_created_applied_edited_labelled_patched_and_deleted,
            every_form_of_output_is_printed,
            a_dry_run_on_the_server_changes_nothing,
            selectors_choose_by_labels_and_fields,
            what_is_wrong_is_told_as_upstream_tells_it,
            a_namespace_goes_with_all_that_is_in_it,
            kubectl_learns_what_is_served,
            kubectl_asks_who_it_is_and_what_it_may,
            health_is_told_in_one_word_and_in_detail,
            the_verbs_for_people_speak_json,
            an_expired_token_is_refused_with_what_to_do,
            a_token_of_another_ca_keeps_its_secret,
            a_reflashed_board_keeps_its_name_and_another_board_is_refused,
            a_silent_node_is_not_ready_and_is_ready_again,
            a_killed_server_comes_back_with_all_that_was_written,
            all_end_in_order,
        ]))
    finally:
        for process in RUNNING.values():
            process.kill()
