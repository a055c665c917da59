"""Every way of changing what is there: apply three ways, patches of every type, edit, replace, labels, scale, rollout."""

import json
import os

from commands import FOLDER, KUBE, Fails, Has, Like, ask, file, namespace, table
from harness import run

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\n  labels:\n    set: app\ndata:\n  colour: red\n  size: big\n"
SMALL = MAP.replace("  size: big\n", "")
OWNERS = (
    "get configmap app --show-managed-fields -o jsonpath='{range .metadata.managedFields[*]}{.manager} {.operation};{end}'"
)


def read(here, what):
    """An object as kubectl prints it."""
    return json.loads(ask(here, f"get {what} -o json").stdout)


def apply_on_the_clients_side_remembers_what_was_applied():
    here = namespace("client-side")
    table(
        here,
        ("apply -f -", "configmap/app created\n", MAP),
        ("apply -f -", "configmap/app unchanged\n", MAP),
        ("patch configmap app --type=merge -p '{\"data\":{\"other\":\"1\"}}'", "configmap/app patched\n"),
        ("diff -f -", Fails("", 1), SMALL),
        ("apply -f -", "configmap/app configured\n", SMALL),
        ("get configmap app -o jsonpath='{.data}'", '{"colour":"red","other":"1"}'),
        ("diff -f -", "", SMALL),
        (
            "apply view-last-applied configmap/app",
            "apiVersion: v1\ndata:\n  colour: red\nkind: ConfigMap\nmetadata:\n"
            "  annotations: {}\n  labels:\n    set: app\n  name: app\n  namespace: client-side\n",
        ),
        (f"apply set-last-applied -f {file('app.yaml', MAP)}", "configmap/app configured\n"),
        ("apply view-last-applied configmap/app -o json", Has('"size": "big"')),
        ("apply -f - --dry-run=server", "configmap/app configured (server dry run)\n", MAP.replace("red", "blue")),
        ("get configmap app -o jsonpath='{.data.colour}'", "red"),
        (
            "apply -f - --prune -l set=app --prune-allowlist=core/v1/ConfigMap",
            "configmap/second created\nconfigmap/app pruned\n",
            MAP.replace("name: app", "name: second"),
        ),
        ("get configmaps -l set=app -o name", "configmap/second\n"),
        (
            "apply -f - --validate=strict",
            Fails('strict decoding error: unknown field "dta"'),
            MAP.replace("\ndata", "\ndta"),
        ),
    )
    changed = ask(here, "diff -f -", MAP.replace("name: app", "name: second").replace("red", "green"))
    assert changed.returncode == 1 and "-  colour: red\n+  colour: green\n" in changed.stdout, changed


def apply_on_the_server_knows_who_owns_a_field():
    table(
        namespace("server-side"),
        ("apply --server-side -f -", "configmap/app serverside-applied\n", MAP),
        (OWNERS, "kubectl Apply;"),
        (
            "apply --server-side --field-manager=other -f -",
            Fails('error: Apply failed with 1 conflict: conflict with "kubectl": .data.colour\n'),
            MAP.replace("red", "blue"),
        ),
        (
            "apply --server-side --field-manager=other --force-conflicts -f -",
            "configmap/app serverside-applied\n",
            MAP.replace("red", "blue"),
        ),
        (OWNERS, "kubectl Apply;other Apply;"),
        ("apply --server-side -f -", "configmap/app serverside-applied\n", MAP.replace("  colour: red\n", "")),
        ("get configmap app -o jsonpath='{.data.colour} {.data.size}'", "blue big"),
        (
            "apply --server-side --field-manager=other -f -",
            "configmap/app serverside-applied\n",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\n",
        ),
        ("get configmap app -o jsonpath='{.data}'", '{"size":"big"}'),
        ("apply --server-side --dry-run=server -f -", "configmap/app serverside-applied (server dry run)\n", MAP),
        ("diff --server-side -f -", Fails("", 1), MAP),
        ("label configmap app by=hand", "configmap/app labeled\n"),
        (OWNERS, Has("kubectl Apply;", "kubectl-label Update;")),
        (
            "apply --server-side -f -",
            Fails("conflict with \"kubectl-label\" using v1: .metadata.labels.by"),
            MAP.replace("set: app", "set: app\n    by: file"),
        ),
        (
            "apply --server-side --validate=false -f -",
            Fails(
                'failed to create typed patch object (server-side/app; /v1, Kind=ConfigMap): .colour: field not declared in schema'
            ),
            MAP + "colour: red\n",
        ),
    )


def an_object_goes_over_from_one_apply_to_the_other():
    table(
        namespace("upgrade"),
        ("apply -f -", "configmap/app created\n", MAP),
        (OWNERS, "kubectl-client-side-apply Update;"),
        ("apply --server-side -f -", "configmap/app serverside-applied\n", SMALL),
        # kubectl keeps what it applied on its own side up to date, under a name of its own.
        (OWNERS, Like("(kubectl Apply;kubectl-last-applied Apply;|kubectl-last-applied Apply;kubectl Apply;)")),
        ("get configmap app -o jsonpath='{.data}'", '{"colour":"red"}'),
    )


def every_type_of_patch_changes_what_it_says():
    containers = '{"spec":{"template":{"spec":{"containers":[{"name":"%s","image":"%s"}]}}}}'
    status = '{"status":{"replicas":3,"observedGeneration":1}}'
    table(
        namespace("patches"),
        ("create deployment web --image=nginx:1", "deployment.apps/web created\n"),
        (f"patch deployment web -p '{containers % ('side', 'busybox')}'", "deployment.apps/web patched\n"),
        ("get deployment web -o jsonpath='{.spec.template.spec.containers[*].name} {.metadata.generation}'", "side nginx 2"),
        ("patch deployment web --type=merge -p '{\"spec\":{\"paused\":true}}'", "deployment.apps/web patched\n"),
        ("patch deployment web --type=merge -p '{\"spec\":{\"paused\":null}}'", "deployment.apps/web patched\n"),
        (
            "patch deployment web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]'",
            "deployment.apps/web patched\n",
        ),
        ("get deployment web -o jsonpath='{.spec.replicas} {.spec.paused} {.metadata.generation}'", "2  5"),
        ("patch deployment web -p '{\"spec\":{\"replicas\":2}}'", "deployment.apps/web patched (no change)\n"),
        (
            "patch deployment web --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":9}]'",
            Fails("The request is invalid"),
        ),
        (
            "patch deployment web --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/nothing\"}]'",
            Fails("the server rejected our request due to an error in our request"),
        ),
        (
            "patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"side\",\"$patch\":\"delete\"}]}}}}'",
            "deployment.apps/web patched\n",
        ),
        ("get deployment web -o jsonpath='{.spec.template.spec.containers[*].name}'", "nginx"),
        (f"patch deployment web --subresource=status --type=merge -p '{status}'", "deployment.apps/web patched\n"),
        ("get deployment web --subresource=status -o jsonpath='{.status.replicas} {.metadata.generation}'", "3 6"),
        (f"patch deployment web --type=merge -p '{status.replace('3', '4')}'", "deployment.apps/web patched (no change)\n"),
        (
            "patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":5}}'",
            "scale.autoscaling/web patched\n",
        ),
        (
            "get deployment web --subresource=scale -o jsonpath='{.kind} {.spec.replicas} {.status.selector}'",
            "Scale 5 app=web",
        ),
        ("patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"x\"}}}}'", Fails("is invalid")),
        (
            "patch deployment web -p '{\"spec\":{\"replicas\":-1}}'",
            Fails("spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ),
        (
            "patch deployment web -p '{\"spec\":{\"replicas\":\"two\"}}'",
            Fails('The request is invalid: patch: Invalid value: "map[spec:map[replicas:two]]": unrecognized type: int32'),
        ),
        ("patch deployment gone -p '{}'", Fails('deployments.apps "gone" not found')),
        ("run still --image=busybox", "pod/still created\n"),
        (
            "patch pod still --dry-run=server -p '{\"spec\":{\"containers\":[{\"name\":\"still\",\"image\":\"busybox:2\"}]}}'",
            "pod/still patched\n",
        ),
        ("get pod still -o jsonpath='{.spec.containers[0].image}'", "busybox"),
        (
            "patch pod still -p '{\"spec\":{\"containers\":[{\"name\":\"still\",\"command\":[\"a\"]}]}}'",
            Fails("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"),
        ),
        (
            "patch pod still --subresource=resize -p '{\"spec\":{\"containers\":[{\"name\":\"still\",\"resources\":"
            "{\"requests\":{\"cpu\":\"1\"}}}]}}'",
            Fails("is invalid"),
        ),
    )


def edit_and_replace_write_the_whole_object():
    here = namespace("edits")
    editor = FOLDER / "editor"
    editor.write_text('#!/bin/sh\nexec sed -i "$CHANGE" "$1"\n')
    editor.chmod(0o755)

    def edit(change, *arguments):
        return run(
            *KUBE.base,
            "-n",
            here,
            "edit",
            "configmap",
            "app",
            *arguments,
            ok=False,
            env={**os.environ, "KUBE_EDITOR": str(editor), "CHANGE": change},
        )

    table(here, ("apply -f -", "configmap/app created\n", MAP))
    assert edit("s/red/green/").stdout == "configmap/app edited\n"
    unchanged = edit("s/nothing/new/")
    assert unchanged.stderr == "Edit cancelled, no changes made.\n", unchanged
    table(
        here,
        ("get configmap app -o jsonpath='{.data.colour}'", "green"),
        ("replace -f -", "configmap/app replaced\n", SMALL),
        ("get configmap app -o jsonpath='{.data}'", '{"colour":"red"}'),
        ("replace -f -", Fails('configmaps "absent" not found'), MAP.replace("name: app", "name: absent")),
    )
    before = read(here, "configmap app")
    stale = {**before, "data": {"colour": "mauve"}, "metadata": {**before["metadata"], "resourceVersion": "1"}}
    table(
        here,
        (
            "replace -f -",
            Fails(
                'Error from server (Conflict): error when replacing "STDIN": Operation cannot be fulfilled on '
                'configmaps "app": the object has been modified; please apply your changes to the latest version '
                "and try again"
            ),
            json.dumps(stale),
        ),
        ("replace --force -f -", 'configmap "app" deleted\nconfigmap/app replaced\n', MAP),
    )
    assert read(here, "configmap app")["metadata"]["uid"] != before["metadata"]["uid"]


def labels_and_annotations_are_set_moved_and_removed():
    table(
        namespace("labels"),
        ("create configmap a", "configmap/a created\n"),
        ("create configmap b", "configmap/b created\n"),
        ("label configmap a tier=web", "configmap/a labeled\n"),
        ("label configmap a tier=db", Fails("error: 'tier' already has a value (web), and --overwrite is false")),
        ("label configmap a tier=db --overwrite", "configmap/a labeled\n"),
        ("label configmap a tier=db --overwrite", "configmap/a not labeled\n"),
        ("label configmap a --list", "tier=db\n"),
        ("label configmap -l tier=db seen=yes", "configmap/a labeled\n"),
        ("label configmap a b all=1", "configmap/a labeled\nconfigmap/b labeled\n"),
        ("label configmap a tier-", "configmap/a unlabeled\n"),
        (
            "label configmap a --resource-version=1 x=y",
            Fails("Operation cannot be fulfilled on configmaps \"a\": the object has been modified"),
        ),
        ("label configmap a -- -bad=1", Fails("name part must consist of alphanumeric characters")),
        ("annotate configmap a note='two words'", "configmap/a annotated\n"),
        (
            "annotate configmap a note=other",
            Fails(
                "error: --overwrite is false but found the following declared annotation(s): 'note' "
                "already has a value (two words)"
            ),
        ),
        ("annotate configmap a --list", "note=two words\n"),
        (
            "annotate configmap --all done=yes",
            "configmap/a annotated\nconfigmap/b annotated\nconfigmap/kube-root-ca.crt annotated\n",
        ),
        ("annotate configmap a note-", "configmap/a annotated\n"),
        (
            "get configmap a -o jsonpath='{.metadata.labels} {.metadata.annotations}'",
            '{"all":"1","seen":"yes"} {"done":"yes"}',
        ),
    )


def set_changes_one_thing_of_a_template():
    resources = "jsonpath='{.spec.template.spec.containers[0].resources}'"
    table(
        namespace("sets"),
        ("create deployment web --image=nginx:1", "deployment.apps/web created\n"),
        ("create serviceaccount robot", "serviceaccount/robot created\n"),
        ("set image deployment/web nginx=nginx:2", "deployment.apps/web image updated\n"),
        ("set env deployment/web A=1 B=2", "deployment.apps/web env updated\n"),
        ("set env deployment/web A-", "deployment.apps/web env updated\n"),
        ("set env deployment/web --list", "# Deployment web, container nginx\nB=2\n"),
        (
            "set resources deployment web --limits=cpu=1000m,memory=0.5Gi --requests=cpu=100m",
            "deployment.apps/web resource requirements updated\n",
        ),
        (f"get deployment web -o {resources}", '{"limits":{"cpu":"1","memory":"512Mi"},"requests":{"cpu":"100m"}}'),
        (
            "set resources deployment web --requests=cpu=2",
            Fails(
                "spec.template.spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"
            ),
        ),
        ("set serviceaccount deployment web robot", "deployment.apps/web serviceaccount updated\n"),
        (
            "get deployment web -o jsonpath='{.spec.template.spec.serviceAccountName} {.spec.template.spec.serviceAccount}'",
            "robot robot",
        ),
        ("create service clusterip web --tcp=80", "service/web created\n"),
        ("set selector service web tier=front", "service/web selector updated\n"),
        ("get service web -o jsonpath='{.spec.selector}'", '{"tier":"front"}'),
        ("create rolebinding read --clusterrole=view --user=anna", "rolebinding.rbac.authorization.k8s.io/read created\n"),
        (
            "set subject rolebinding read --group=shop --serviceaccount=sets:robot",
            "rolebinding.rbac.authorization.k8s.io/read subjects updated\n",
        ),
        ("get rolebinding read -o jsonpath='{.subjects[*].name}'", "anna shop robot"),
    )


def scale_and_autoscale_change_the_replicas():
    table(
        namespace("scales"),
        ("create deployment web --image=nginx", "deployment.apps/web created\n"),
        ("scale deployment web --replicas=3", "deployment.apps/web scaled\n"),
        ("scale deployment web --current-replicas=5 --replicas=1", Fails("error: Expected replicas to be 5, was 3")),
        (
            "scale --replicas=4 -f -",
            "deployment.apps/web scaled\n",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n",
        ),
        (
            "wait deployment web --for=jsonpath='{.status.updatedReplicas}'=4 --timeout=30s",
            "deployment.apps/web condition met\n",
        ),
        ("get deployment web", Like(r"NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +0/4 +4 +0 +\d+s\n")),
        (
            "autoscale deployment web --min=2 --max=9 --cpu-percent=70",
            "horizontalpodautoscaler.autoscaling/web autoscaled\n",
        ),
        (
            "wait hpa web --for=jsonpath='{.status.currentReplicas}'=4 --timeout=30s",
            "horizontalpodautoscaler.autoscaling/web condition met\n",
        ),
        (
            "get hpa web",
            Like(
                r"NAME +REFERENCE +TARGETS +MINPODS +MAXPODS +REPLICAS +AGE\n"
                r"web +Deployment/web +cpu: <unknown>/70% +2 +9 +4 +\d+s\n"
            ),
        ),
        (
            "get horizontalpodautoscalers.v1.autoscaling web -o jsonpath='{.apiVersion} {.spec.targetCPUUtilizationPercentage}'",
            "autoscaling/v1 70",
        ),
        (
            "autoscale deployment web --name=odd --min=5 --max=2",
            Fails("--max=MAXPODS must be larger or equal to --min=MINPODS"),
        ),
    )


def rollouts_are_told_paused_restarted_and_undone():
    revision = "wait deployment web --for=jsonpath='{{.metadata.annotations.deployment\\.kubernetes\\.io/revision}}'={} --timeout=30s"
    met = "deployment.apps/web condition met\n"
    here = namespace("rollouts")
    table(
        here,
        ("create deployment web --image=nginx:1", "deployment.apps/web created\n"),
        (revision.format(1), met),
        ("annotate deployment web kubernetes.io/change-cause='to 1'", "deployment.apps/web annotated\n"),
        ("rollout pause deployment/web", "deployment.apps/web paused\n"),
        ("rollout pause deployment/web", Fails("error: deployments.apps \"web\" is already paused")),
        ("rollout restart deployment/web", Fails("can't restart paused deployment (run rollout resume first)")),
        ("set image deployment/web nginx=nginx:2", "deployment.apps/web image updated\n"),
        ("rollout history deployment/web", "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         to 1\n\n"),
        ("annotate deployment web --overwrite kubernetes.io/change-cause='to 2'", "deployment.apps/web annotated\n"),
        ("rollout resume deployment/web", "deployment.apps/web resumed\n"),
        (revision.format(2), met),
        (
            "rollout history deployment/web",
            "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         to 1\n2         to 2\n\n",
        ),
        ("rollout history deployment/web --revision=1", Has("with revision #1", "Image:\tnginx:1")),
        ("rollout undo deployment/web --to-revision=1", "deployment.apps/web rolled back\n"),
        ("get deployment web -o jsonpath='{.spec.template.spec.containers[0].image}'", "nginx:1"),
        (revision.format(3), met),
        ("rollout undo deployment/web --to-revision=7", Fails("unable to find specified revision 7 in history")),
        ("rollout status deployment/web --watch=false", Has("Waiting for deployment \"web\" rollout to finish")),
        ("rollout restart deployment/web", "deployment.apps/web restarted\n"),
        (
            "get deployment web -o jsonpath='{.spec.template.metadata.annotations}'",
            Like(r'{"kubectl\.kubernetes\.io/restartedAt":"[^"]+"}'),
        ),
        (revision.format(4), met),
        # Without a node no pod is ever ready: a rollout of none ends at once.
        ("scale deployment web --replicas=0", "deployment.apps/web scaled\n"),
        ("rollout status deployment/web --timeout=30s", Has('deployment "web" successfully rolled out\n')),
    )


TESTS = [
    apply_on_the_clients_side_remembers_what_was_applied,
    apply_on_the_server_knows_who_owns_a_field,
    an_object_goes_over_from_one_apply_to_the_other,
    every_type_of_patch_changes_what_it_says,
    edit_and_replace_write_the_whole_object,
    labels_and_annotations_are_set_moved_and_removed,
    set_changes_one_thing_of_a_template,
    scale_and_autoscale_change_the_replicas,
    rollouts_are_told_paused_restarted_and_undone,
]
