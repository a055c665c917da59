#!/usr/bin/env python3
"""The Python client of PyPI, which nobody here wrote, against a server without a node: typed, dynamic, and raw in protobuf.

It runs in the folder of packages that ci/setup makes. KILN_BIN names the binary.
"""

import os
import pathlib
import sys
import threading

from harness import KILN, TOOLS, free_port, main, run, scratch
from process import lone_server

PYTHON = TOOLS / "python-client" / "bin" / "python"
if pathlib.Path(sys.prefix) != PYTHON.parents[1]:
    os.execv(PYTHON, [PYTHON, *sys.argv])

from kubernetes import client, config, dynamic, utils, watch  # noqa: E402 (only there after the switch above)
from kubernetes.client.rest import ApiException  # noqa: E402

FOLDER = scratch("python-client")
PORT = free_port()
RUNNING = {}
HERE = "python"


def core():
    """The typed client of the core group, as the administrator."""
    return client.CoreV1Api()


def the_dynamic_client():
    """The client that learns from discovery what there is."""
    return dynamic.DynamicClient(client.ApiClient())


def config_map(name, **data):
    """A ConfigMap of the tests."""
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"of": "python"}), data=data)


def deployment(image, **spec):
    """A Deployment as a manifest."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            **spec,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}},
        },
    }


def plain(answer):
    """An answer as JSON has it: some versions of the client give the Status of a deletion as a class, some as it came."""
    return client.ApiClient().sanitize_for_serialization(answer)


def refused(code, reason, call, *arguments, **named):
    """The call must fail with this code, and its Status must have this reason."""
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status == code and f'"reason":"{reason}"' in error.body, error
        return
    raise AssertionError(f"{call.__name__} succeeded")


def a_server_serves_and_tells_its_version():
    RUNNING["server"] = lone_server(FOLDER / "server", PORT)
    file = FOLDER / "kubeconfig"
    file.write_text(run(KILN, "kubeconfig", "--data-dir", FOLDER / "server").stdout)
    config.load_kube_config(str(file))
    version = client.VersionApi().get_code()
    assert (version.major, version.minor) == ("1", "36"), version
    groups = [group.name for group in client.ApisApi().get_api_versions().groups]
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= set(groups), groups
    core().create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=HERE)))


def objects_are_created_read_replaced_and_deleted():
    made = core().create_namespaced_config_map(HERE, config_map("a", colour="red"))
    assert made.metadata.uid and made.metadata.managed_fields[0].operation == "Update", made
    refused(409, "AlreadyExists", core().create_namespaced_config_map, HERE, config_map("a"))
    refused(422, "Invalid", core().create_namespaced_config_map, HERE, config_map("Not_A_Name"))
    made.data["colour"] = "blue"
    assert core().replace_namespaced_config_map("a", HERE, made).data == {"colour": "blue"}
    refused(409, "Conflict", core().replace_namespaced_config_map, "a", HERE, made)
    dry = core().create_namespaced_config_map(HERE, config_map("dry"), dry_run="All")
    assert dry.metadata.uid, dry
    refused(404, "NotFound", core().read_namespaced_config_map, "dry", HERE)
    gone = plain(core().delete_namespaced_config_map("a", HERE))
    assert gone["status"] == "Success" and gone["details"]["name"] == "a", gone


def long_lists_come_in_pages_of_one_snapshot():
    for number in range(7):
        core().create_namespaced_config_map(HERE, config_map(f"page-{number}"))
    names, token, versions = [], None, set()
    while token != "":
        page = core().list_namespaced_config_map(HERE, label_selector="of=python", limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        versions.add(page.metadata.resource_version)
        token = page.metadata._continue or ""
        core().delete_namespaced_config_map(names[-1], HERE)
    assert names == [f"page-{number}" for number in range(7)] and len(versions) == 1, (names, versions)
    core().delete_collection_namespaced_config_map(HERE, label_selector="of=python")
    assert not core().list_namespaced_config_map(HERE, label_selector="of=python").items


def a_watch_goes_on_from_a_revision():
    start = core().list_namespaced_config_map(HERE).metadata.resource_version
    core().create_namespaced_config_map(HERE, config_map("w", n="1"))
    core().patch_namespaced_config_map("w", HERE, {"data": {"n": "2"}})
    core().delete_namespaced_config_map("w", HERE)
    seen = [
        (event["type"], event["object"].data["n"])
        for event in watch.Watch().stream(
            core().list_namespaced_config_map, HERE, resource_version=start, label_selector="of=python", timeout_seconds=1
        )
    ]
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen
    live = watch.Watch()
    maker = threading.Thread(target=core().create_namespaced_config_map, args=(HERE, config_map("live")))
    maker.start()
    for event in live.stream(core().list_namespaced_config_map, HERE, label_selector="of=python", timeout_seconds=30):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "live"), event
        live.stop()
    maker.join()


def every_kind_of_patch_is_taken():
    apps = client.AppsV1Api()
    apps.create_namespaced_deployment(HERE, deployment("nginx:1", replicas=1))

    def patched(body, kind=None):
        return apps.patch_namespaced_deployment("web", HERE, body, **({"_content_type": kind} if kind else {}))

    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox"}]}}}}
    found = patched(side, "application/strategic-merge-patch+json")
    assert [c.name for c in found.spec.template.spec.containers] == ["side", "web"], found
    found = patched({"spec": {"replicas": 2, "minReadySeconds": 5}}, "application/merge-patch+json")
    assert (found.spec.replicas, found.spec.min_ready_seconds) == (2, 5), found.spec
    found = patched([{"op": "remove", "path": "/spec/template/spec/containers/0"}], "application/json-patch+json")
    assert [c.name for c in found.spec.template.spec.containers] == ["web"], found
    scale = apps.patch_namespaced_deployment_scale("web", HERE, {"spec": {"replicas": 4}})
    assert (scale.kind, scale.spec.replicas) == ("Scale", 4), scale
    status = apps.patch_namespaced_deployment_status("web", HERE, {"status": {"replicas": 4, "readyReplicas": 3}})
    assert (status.status.ready_replicas, status.spec.replicas) == (3, 4), status
    refused(422, "Invalid", patched, [{"op": "test", "path": "/spec/replicas", "value": 9}], "application/json-patch+json")


def the_dynamic_client_discovers_and_works():
    found = the_dynamic_client()
    deployments = found.resources.get(api_version="apps/v1", kind="Deployment")
    assert (deployments.name, deployments.namespaced, deployments.short_names) == ("deployments", True, ["deploy"]), (
        deployments
    )
    assert found.resources.get(api_version="v1", kind="ConfigMap").name == "configmaps"
    assert {r.group_version for r in found.resources.search(kind="HorizontalPodAutoscaler")} >= {
        "autoscaling/v1",
        "autoscaling/v2",
    }
    body = {**deployment("nginx:1"), "metadata": {"name": "dynamic"}}
    made = deployments.create(body=body, namespace=HERE)
    assert made.spec.replicas == 1 and made.spec.strategy.type == "RollingUpdate", made
    assert [d.metadata.name for d in deployments.get(namespace=HERE).items] == ["dynamic", "web"]
    changed = deployments.patch(
        name="dynamic", namespace=HERE, body={"spec": {"paused": True}}, content_type="application/merge-patch+json"
    )
    assert changed.spec.paused is True and changed.metadata.generation == 2, changed
    for event in deployments.watch(namespace=HERE, name="dynamic", timeout=5):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "dynamic"), event
        break
    assert deployments.delete(name="dynamic", namespace=HERE).status == "Success"


def apply_on_the_server_knows_owners():
    maps = the_dynamic_client().resources.get(api_version="v1", kind="ConfigMap")

    def applied(manager, force=False, **data):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned"}, "data": data}
        return maps.server_side_apply(namespace=HERE, name="owned", body=body, field_manager=manager, force_conflicts=force)

    first = applied("one", a="1", b="1")
    assert [(f.manager, f.operation) for f in first.metadata.managedFields] == [("one", "Apply")], first
    refused(409, "Conflict", applied, "two", a="2")
    forced = applied("two", force=True, a="2")
    assert forced.data.to_dict() == {"a": "2", "b": "1"}, forced
    assert applied("one").data.to_dict() == {"a": "2"}


def deletes_take_their_dependents_as_they_are_told():
    for policy in ("Foreground", "Background", "Orphan"):
        owner = core().create_namespaced_config_map(HERE, config_map("owner"))
        dependent = config_map(f"dependent-{policy.lower()}")
        dependent.metadata.owner_references = [
            client.V1OwnerReference(
                api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid, block_owner_deletion=True
            )
        ]
        start = core().create_namespaced_config_map(HERE, dependent).metadata.resource_version
        core().delete_namespaced_config_map("owner", HERE, body=client.V1DeleteOptions(propagation_policy=policy))
        end = {"Foreground": "owner", "Background": dependent.metadata.name, "Orphan": "owner"}[policy]
        ended = watch.Watch()
        for event in ended.stream(core().list_namespaced_config_map, HERE, resource_version=start, timeout_seconds=30):
            if event["type"] == "DELETED" and event["object"].metadata.name == end:
                ended.stop()
    left = [
        item.metadata.name for item in core().list_namespaced_config_map(HERE).items if item.metadata.name.startswith("dep")
    ]
    assert left == ["dependent-orphan"], left
    assert not core().read_namespaced_config_map("dependent-orphan", HERE).metadata.owner_references
    held = core().create_namespaced_config_map(HERE, config_map("held"))
    refused(
        409,
        "Conflict",
        core().delete_namespaced_config_map,
        "held",
        HERE,
        body=client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another")),
    )
    gone = plain(
        core().delete_namespaced_config_map(
            "held", HERE, body=client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=held.metadata.uid))
        )
    )
    assert gone["status"] == "Success", gone


def manifests_are_created_from_yaml():
    manifest = FOLDER / "manifest.yaml"
    manifest.write_text(f"""
apiVersion: v1
kind: Service
metadata: {{name: front, namespace: {HERE}}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {{name: tick, namespace: {HERE}}}
spec:
  schedule: "*/5 * * * *"
  jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: busybox}}]}}}}}}}}
""")
    utils.create_from_yaml(client.ApiClient(), str(manifest))
    assert core().read_namespaced_service("front", HERE).spec.cluster_ip.startswith("10.43.")
    assert client.BatchV1Api().read_namespaced_cron_job("tick", HERE).spec.concurrency_policy == "Allow"


def a_token_that_was_requested_is_the_account():
    core().create_namespaced_service_account(HERE, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot")))
    rights = client.RbacAuthorizationV1Api()
    rights.create_namespaced_role(
        HERE,
        client.V1Role(
            metadata=client.V1ObjectMeta(name="reader"),
            rules=[client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])],
        ),
    )
    rights.create_namespaced_role_binding(
        HERE,
        client.V1RoleBinding(
            metadata=client.V1ObjectMeta(name="reader"),
            role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="reader"),
            subjects=[client.RbacV1Subject(kind="ServiceAccount", name="robot", namespace=HERE)],
        ),
    )
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    token = core().create_namespaced_service_account_token("robot", HERE, request).status.token
    settings = client.Configuration.get_default_copy()
    settings.cert_file = settings.key_file = None
    settings.api_key, settings.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    robot = client.CoreV1Api(client.ApiClient(settings))
    assert robot.list_namespaced_config_map(HERE).items
    refused(403, "Forbidden", robot.list_namespaced_secret, HERE)
    review = client.AuthenticationV1Api().create_token_review(
        client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token))
    )
    assert review.status.authenticated and review.status.user.username == f"system:serviceaccount:{HERE}:robot", review
    access = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(namespace=HERE, verb="get", resource="configmaps")
        )
    )
    assert client.AuthorizationV1Api(client.ApiClient(settings)).create_self_subject_access_review(access).status.allowed
    core().delete_namespaced_service_account("robot", HERE)
    refused(401, "Unauthorized", robot.list_namespaced_config_map, HERE)


def protobuf_is_read_and_written():
    """The envelope is `k8s`, a zero, and a message `Unknown`; its bytes are written back as they came."""
    core().create_namespaced_config_map(HERE, config_map("binary", word="protobuf"))
    api = client.ApiClient()
    url = f"{api.configuration.host}/api/v1/namespaces/{HERE}/configmaps/binary"
    kind = "application/vnd.kubernetes.protobuf"
    answer = api.rest_client.pool_manager.request("GET", url, headers={"Accept": kind})
    assert answer.status == 200 and answer.headers["content-type"] == kind, (answer.status, answer.headers)
    assert answer.data[:4] == b"k8s\0" and b"ConfigMap" in answer.data and b"protobuf" in answer.data, answer.data
    changed = answer.data.replace(b"protobuf", b"changed!")
    answer = api.rest_client.pool_manager.request("PUT", url, body=changed, headers={"Accept": kind, "Content-Type": kind})
    assert answer.status == 200 and answer.data[:4] == b"k8s\0", (answer.status, answer.data)
    assert core().read_namespaced_config_map("binary", HERE).data == {"word": "changed!"}
    answer = api.rest_client.pool_manager.request("PUT", url, body=b"k8s\0\xff", headers={"Content-Type": kind})
    assert answer.status == 400, (answer.status, answer.data)


def the_server_ends_in_order():
    RUNNING.pop("server").stop()


if __name__ == "__main__":
    assert KILN.exists(), f"{KILN} must be there: cargo build -p kiln"
    try:
        sys.exit(
            main(
                [
                    a_server_serves_and_tells_its_version,
                    objects_are_created_read_replaced_and_deleted,
                    long_lists_come_in_pages_of_one_snapshot,
                    a_watch_goes_on_from_a_revision,
                    every_kind_of_patch_is_taken,
                    the_dynamic_client_discovers_and_works,
                    apply_on_the_server_knows_owners,
                    deletes_take_their_dependents_as_they_are_told,
                    manifests_are_created_from_yaml,
                    a_token_that_was_requested_is_the_account,
                    protobuf_is_read_and_written,
                    the_server_ends_in_order,
                ]
            )
        )
    finally:
        for process in RUNNING.values():
            process.kill()
