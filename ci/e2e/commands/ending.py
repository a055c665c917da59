"""Nodes that are tainted, cordoned and drained, and every way of deleting."""

import json

from commands import Fails, Has, Like, ask, namespace, table

NODE = '{"apiVersion":"v1","kind":"Node","metadata":{"name":"board","labels":{"kubernetes.io/hostname":"board"}}}'


def owned(name, uid, **more):
    """A ConfigMap that the one named `owner` owns."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, **more}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]}})


def nodes_are_tainted_cordoned_and_drained():
    here = namespace("nodes")
    pod = (
        '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s"},"spec":{"nodeName":"board","containers":'
        '[{"name":"c","image":"busybox"}]}}'
    )
    table(
        here,
        ("create -f -", "node/board created\n", NODE),
        ("taint nodes board dedicated=shop:NoSchedule", "node/board tainted\n"),
        (
            "taint nodes board dedicated=other:NoSchedule",
            Fails("error: node board already has dedicated taint(s) with same effect(s) and --overwrite is false"),
        ),
        ("taint nodes board dedicated=other:NoSchedule --overwrite", "node/board modified\n"),
        (
            "get node board -o jsonpath='{.spec.taints[?(@.key==\"dedicated\")]}'",
            '{"effect":"NoSchedule","key":"dedicated","value":"other"}',
        ),
        ("taint nodes board dedicated-", "node/board untainted\n"),
        ("taint nodes board bad=x:Sometimes", Fails("invalid taint effect: Sometimes, unsupported taint effect")),
        ("cordon board", "node/board cordoned\n"),
        ("cordon board", "node/board already cordoned\n"),
        ("get node board", Like(r"NAME +STATUS +ROLES +AGE +VERSION\nboard +\S+,SchedulingDisabled +<none> +\d+s +\n")),
        ("uncordon board", "node/board uncordoned\n"),
        ("create -f -", "pod/bare created\n", pod % "bare"),
        (
            "drain board --dry-run=server",
            Fails("cannot delete cannot delete Pods that declare no controller (use --force to override): nodes/bare"),
        ),
        (
            "drain board --force --dry-run=server",
            Has(
                "node/board cordoned (server dry run)",
                "evicting pod nodes/bare (server dry run)",
                "node/board drained (server dry run)",
            ),
        ),
        ("get pod bare -o wide --no-headers", Like(r"bare +0/1 +Pending +0 +\d+s +<none> +board +<none> +<none>\n")),
        ("label node board node-role.kubernetes.io/worker=", "node/board labeled\n"),
        ("get node board --no-headers", Like(r"board +\S+ +worker +.*")),
        (
            "describe node board",
            Has("Name:               board", "Roles:              worker", "Non-terminated Pods:          (1 in total)"),
        ),
        ("create -f -", Fails('metadata.name: Invalid value: "Bad"'), NODE.replace('"board"', '"Bad"', 1)),
        ("delete pod bare --grace-period=0 --force", 'pod "bare" force deleted\n'),
        ("delete node board", 'node "board" deleted\n'),
        ("get node board", Fails('nodes "board" not found')),
    )


def deletes_say_what_goes_and_wait_for_it():
    table(
        namespace("deletes"),
        *((f"create configmap {name}", f"configmap/{name} created\n") for name in "abcdefg"),
        ("label configmap a b x=1", "configmap/a labeled\nconfigmap/b labeled\n"),
        ("delete configmap c --dry-run=server", 'configmap "c" deleted (server dry run)\n'),
        ("get configmap c -o name", "configmap/c\n"),
        ("delete configmap c -o name", "configmap/c\n"),
        ("delete configmap -l x=1", 'configmap "a" deleted\nconfigmap "b" deleted\n'),
        ("delete configmap c", Fails('Error from server (NotFound): configmaps "c" not found')),
        ("delete configmap c --ignore-not-found", ""),
        ("delete configmap d --now", 'configmap "d" deleted\n'),
        ("delete configmap --field-selector metadata.name=e", 'configmap "e" deleted\n'),
        ("delete -f -", 'configmap "f" deleted\n', '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"f"}}'),
        ("delete --raw /api/v1/namespaces/deletes/configmaps/g", Has('"status":"Success"', '"name":"g"')),
        ("run slow --image=busybox", "pod/slow created\n"),
        ("delete pod slow --grace-period=-1 --wait=false", 'pod "slow" deleted\n'),
        ("wait --for=delete pod/slow --timeout=30s", ""),
        ("create configmap held", "configmap/held created\n"),
        (
            "patch configmap held --type=merge -p '{\"metadata\":{\"finalizers\":[\"shop.example/hold\"]}}'",
            "configmap/held patched\n",
        ),
        ("delete configmap held --wait=false", 'configmap "held" deleted\n'),
        (
            "get configmap held -o jsonpath='{.metadata.finalizers} {.metadata.deletionGracePeriodSeconds}'",
            '["shop.example/hold"] 0',
        ),
        ("delete configmap held --timeout=1s", Fails("error: timed out waiting for the condition on configmaps/held")),
        (
            "patch configmap held --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/finalizers\"}]'",
            "configmap/held patched\n",
        ),
        ("get configmap held", Fails('configmaps "held" not found')),
        ("delete configmaps --all", 'configmap "kube-root-ca.crt" deleted\n'),
        ("wait --for=create configmap/kube-root-ca.crt --timeout=30s", "configmap/kube-root-ca.crt condition met\n"),
        ("delete namespace deletes", 'namespace "deletes" deleted\n'),
        ("get namespace deletes", Fails('namespaces "deletes" not found')),
        ("delete namespace default", Fails('namespaces "default" is forbidden: this namespace may not be deleted')),
    )


def dependents_follow_as_the_cascade_says():
    here = namespace("cascades")
    for how in ("background", "foreground", "orphan"):
        table(here, ("create configmap owner", "configmap/owner created\n"))
        uid = ask(here, "get configmap owner -o jsonpath='{.metadata.uid}'").stdout
        table(
            here,
            ("create -f -", f"configmap/{how} created\n", owned(how, uid, blockOwnerDeletion=True)),
            (f"delete configmap owner --cascade={how}", 'configmap "owner" deleted\n'),
            ("get configmap owner", Fails('configmaps "owner" not found')),
        )
    table(
        here,
        ("wait --for=delete configmap/background --timeout=30s", ""),
        ("get configmap foreground", Fails('configmaps "foreground" not found')),
        ("get configmap orphan -o jsonpath='{.metadata.ownerReferences}'", ""),
        (
            "delete configmap orphan --cascade=sideways",
            Fails('invalid cascade value (sideways). Must be "background", "foreground", or "orphan"'),
        ),
    )


TESTS = [
    nodes_are_tainted_cordoned_and_drained,
    deletes_say_what_goes_and_wait_for_it,
    dependents_follow_as_the_cascade_says,
]
