//! kube-rs' `Api`: every verb and kind of patch, subresources, pages, evictions and tokens.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::{Cluster, object, refused, soon};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{
    Api, DeleteParams, EvictParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
    ValidationDirective,
};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

fn map(name: &str, data: Value) -> ConfigMap {
    object(json!({"metadata": {"name": name}, "data": data}))
}

fn datum<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a str> {
    map.data.as_ref()?.get(key).map(String::as_str)
}

fn deployment(name: &str, replicas: i32) -> Deployment {
    object(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "main", "image": "example/main:1", "ports": [{"containerPort": 80}]},
                {"name": "side", "image": "example/side:1"},
            ]}},
        },
    }))
}

fn images(deployment: &Deployment) -> Vec<(&str, &str)> {
    let containers = &deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers;
    containers.iter().map(|c| (c.name.as_str(), c.image.as_deref().unwrap_or_default())).collect()
}

#[tokio::test]
async fn objects_are_created_once_and_replaced_only_by_those_who_saw_the_last_state() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster.client);
    let post = PostParams { field_manager: Some("tests".into()), ..PostParams::default() };
    let mut made = maps.create(&post, &map("one", json!({"a": "1"}))).await.unwrap();
    assert_eq!(made.managed_fields()[0].manager.as_deref(), Some("tests"));
    let (code, reason, message) = refused(maps.create(&post, &map("one", json!({}))).await);
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(message, "configmaps \"one\" already exists");

    let seen = made.clone();
    made.data = Some([("a".to_owned(), "2".to_owned())].into());
    let replaced = maps.replace("one", &post, &made).await.unwrap();
    assert_ne!(replaced.resource_version(), seen.resource_version());
    assert_eq!(replaced.uid(), seen.uid());
    let (code, reason, message) = refused(maps.replace("one", &post, &seen).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"one\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map("never", json!({}))).await.unwrap();
    assert!(maps.get_opt("never").await.unwrap().is_none());
    let (code, reason, message) = refused(maps.get("never").await);
    assert_eq!((code, reason.as_str()), (404, "NotFound"));
    assert_eq!(message, "configmaps \"never\" not found");
    let (code, reason, _) = refused(maps.create(&post, &map("No_Name", json!({}))).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    let metadata = maps.get_metadata_with("one", &GetParams::any()).await.unwrap();
    assert_eq!(metadata.uid(), seen.uid());
}

#[tokio::test]
async fn each_kind_of_patch_does_what_it_is_for() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "default");
    deployments.create(&PostParams::default(), &deployment("web", 1)).await.unwrap();
    let params = PatchParams::default();

    let strategic =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example/main:2"}]}}}});
    let patched = deployments.patch("web", &params, &Patch::Strategic(strategic)).await.unwrap();
    assert_eq!(images(&patched), [("main", "example/main:2"), ("side", "example/side:1")]);

    let merge = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example/main:3"}]}}}});
    let patched = deployments.patch("web", &params, &Patch::Merge(merge)).await.unwrap();
    assert_eq!(images(&patched), [("main", "example/main:3")]);
    assert_eq!(patched.metadata.generation, Some(3));

    let json = |operations: Value| Patch::Json::<()>(object(operations));
    let operations = json!([
        {"op": "test", "path": "/spec/template/spec/containers/0/name", "value": "main"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example/main:4"},
        {"op": "add", "path": "/metadata/annotations", "value": {"example.com/a": "b"}},
    ]);
    let patched = deployments.patch("web", &params, &json(operations)).await.unwrap();
    assert_eq!(images(&patched), [("main", "example/main:4")]);
    assert_eq!(patched.annotations()["example.com/a"], "b");
    let failing = json!([{"op": "test", "path": "/metadata/name", "value": "other"}]);
    let (code, reason, _) = refused(deployments.patch("web", &params, &json(failing)).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));

    let (code, _, message) = refused(deployments.patch("none", &params, &Patch::Merge(json!({}))).await);
    assert_eq!((code, message.as_str()), (404, "deployments.apps \"none\" not found"));
}

#[tokio::test]
async fn who_applies_owns_and_others_must_force() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster.client);
    let config =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let first = PatchParams::apply("first");
    let made = maps.patch("m", &first, &Patch::Apply(config(json!({"a": "1", "b": "1"})))).await.unwrap();
    assert_eq!(made.managed_fields()[0].operation.as_deref(), Some("Apply"));

    let second = PatchParams::apply("second");
    let (code, reason, message) = refused(maps.patch("m", &second, &Patch::Apply(config(json!({"a": "2"})))).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"first\": .data.a");
    let forced = maps.patch("m", &second.clone().force(), &Patch::Apply(config(json!({"a": "2"})))).await.unwrap();
    assert_eq!((datum(&forced, "a"), datum(&forced, "b")), (Some("2"), Some("1")));

    // What its only owner leaves out goes.
    let left = maps.patch("m", &first, &Patch::Apply(config(json!({})))).await.unwrap();
    assert_eq!((datum(&left, "a"), datum(&left, "b")), (Some("2"), None));

    let unknown = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "dota": {}});
    let strict = PatchParams { field_validation: Some(ValidationDirective::Strict), ..first };
    let (code, ..) = refused(maps.patch("m", &strict, &Patch::Apply(unknown)).await);
    assert_eq!(code, 500);
}

#[tokio::test]
async fn deletions_heed_preconditions() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster.client);
    let made = maps.create(&PostParams::default(), &map("one", json!({}))).await.unwrap();
    let on = |uid: Option<String>, resource_version: Option<String>| {
        DeleteParams::default().preconditions(Preconditions { uid, resource_version })
    };
    let other = "00000000-0000-0000-0000-000000000000".to_owned();
    let (code, reason, message) = refused(maps.delete("one", &on(Some(other), None)).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("the UID in the precondition (00000000-"), "{message}");
    let (code, ..) = refused(maps.delete("one", &on(None, Some("1".into()))).await);
    assert_eq!(code, 409);
    assert!(maps.delete("one", &DeleteParams::default().dry_run()).await.is_ok());
    let gone = maps.delete("one", &on(made.uid(), made.resource_version())).await.unwrap();
    let status = gone.right().expect("a Status, for it is gone at once");
    assert_eq!(status.details.unwrap().uid, made.uid().unwrap());
    assert!(maps.get_opt("one").await.unwrap().is_none());
}

#[tokio::test]
async fn dependents_are_collected_or_orphaned_as_the_deletion_says() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster.client);
    let owned = async |owner: &str, child: &str| {
        let owner = maps.create(&PostParams::default(), &map(owner, json!({}))).await.unwrap();
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid(),
            "blockOwnerDeletion": true});
        let child = json!({"metadata": {"name": child, "ownerReferences": [reference]}});
        maps.create(&PostParams::default(), &object(child)).await.unwrap()
    };
    let gone = async |name: &str, uid: String| {
        let waiting = await_condition(maps.clone(), name, conditions::is_deleted(&uid));
        soon(name, waiting).await.unwrap();
    };
    let child = owned("behind", "behind-child").await;
    maps.delete("behind", &DeleteParams::background()).await.unwrap();
    gone("behind-child", child.uid().unwrap()).await;

    let child = owned("before", "before-child").await;
    let deleted = maps.delete("before", &DeleteParams::foreground()).await.unwrap();
    let owner = deleted.left().expect("it waits for its dependents");
    assert_eq!(owner.finalizers(), ["foregroundDeletion"]);
    gone("before", owner.uid().unwrap()).await;
    assert_ne!(maps.get_opt("before-child").await.unwrap().and_then(|c| c.uid()), child.uid());

    owned("kept", "kept-child").await;
    let owner = maps.delete("kept", &DeleteParams::orphan()).await.unwrap().left().unwrap();
    gone("kept", owner.uid().unwrap()).await;
    assert!(maps.get("kept-child").await.unwrap().owner_references().is_empty());
}

#[tokio::test]
async fn status_and_scale_are_doors_of_their_own() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "default");
    let mut web = deployments.create(&PostParams::default(), &deployment("web", 2)).await.unwrap();
    web.spec.as_mut().unwrap().replicas = Some(9);
    web.status = Some(object(json!({"replicas": 2, "readyReplicas": 1})));
    let seen = deployments.replace_status("web", &PostParams::default(), &web).await.unwrap();
    assert_eq!(seen.spec.as_ref().unwrap().replicas, Some(2));
    assert_eq!(seen.status.as_ref().unwrap().ready_replicas, Some(1));
    assert_eq!(seen.metadata.generation, Some(1));
    let ready = Patch::Merge(json!({"status": {"readyReplicas": 2}}));
    let seen = deployments.patch_status("web", &PatchParams::default(), &ready).await.unwrap();
    assert_eq!(seen.status.unwrap().ready_replicas, Some(2));

    let scale = deployments.get_scale("web").await.unwrap();
    assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().replicas), (Some(2), 2));
    let wider = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &wider).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    assert_eq!(deployments.get("web").await.unwrap().spec.unwrap().replicas, Some(3));
    let (code, reason, _) = refused(
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": -1}}))).await,
    );
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
}

#[tokio::test]
async fn pages_show_one_state_while_the_collection_changes() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster.client);
    for i in 0..25 {
        let labelled = json!({"metadata": {"name": format!("m{i:02}"), "labels": {"of": "these"}}});
        maps.create(&PostParams::default(), &object(labelled)).await.unwrap();
    }
    let mut params = ListParams::default().labels("of=these").limit(10);
    let first = maps.list(&params).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (10, None));
    maps.delete("m20", &DeleteParams::default()).await.unwrap();
    let mut names: Vec<String> = first.iter().map(ResourceExt::name_any).collect();
    let mut token = first.metadata.continue_.clone();
    while let Some(next) = token.take().filter(|t| !t.is_empty()) {
        params = params.continue_token(&next);
        let page = maps.list(&params).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        names.extend(page.iter().map(ResourceExt::name_any));
        token = page.metadata.continue_;
    }
    assert_eq!(names, (0..25).map(|i| format!("m{i:02}")).collect::<Vec<_>>());
    let one = ListParams::default().fields("metadata.name=m07");
    assert_eq!(maps.list_metadata(&one).await.unwrap().items.len(), 1);
    let (code, ..) = refused(maps.list(&ListParams::default().labels("a in (")).await);
    assert_eq!(code, 400);
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("of=these")).await.unwrap();
    assert_eq!(maps.list(&ListParams::default().labels("of=these")).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn an_eviction_waits_for_the_disruption_budget() {
    let cluster = Cluster::start().await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(cluster.client.clone(), "default");
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "default");
    let there = |account: Option<&ServiceAccount>| account.is_some();
    soon("the default account", await_condition(accounts, "default", there)).await.unwrap();
    let pod = json!({"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "main", "image": "example/main"}]}});
    pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status("web", &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    let budget =
        json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    budgets.create(&PostParams::default(), &object(budget)).await.unwrap();

    let (code, reason, message) = refused(pods.evict("web", &EvictParams::default()).await);
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let allowed = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    budgets.patch_status("web", &PatchParams::default(), &Patch::Merge(allowed)).await.unwrap();
    assert!(pods.evict("web", &EvictParams::default()).await.unwrap().is_success());
    assert!(pods.get_opt("web").await.unwrap().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()));
    let spent = budgets.get("web").await.unwrap().status.unwrap();
    assert_eq!(spent.disruptions_allowed, Some(0));
    assert!(spent.disrupted_pods.unwrap().contains_key("web"));
}

#[tokio::test]
async fn a_token_makes_its_bearer_the_account_with_its_rights() {
    let cluster = Cluster::start().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "default");
    let robot = object(json!({"metadata": {"name": "robot"}}));
    accounts.create(&PostParams::default(), &robot).await.unwrap();
    let asked: TokenRequest = object(json!({"spec": {"audiences": [], "expirationSeconds": 600}, "metadata": {}}));
    let issued = accounts.create_token_request("robot", &PostParams::default(), &asked).await.unwrap();
    let robot = cluster.bearer(&issued.status.unwrap().token.unwrap());

    let reviews: Api<SelfSubjectReview> = Api::all(robot.clone());
    let me = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let me = me.status.unwrap().user_info.unwrap();
    assert_eq!(me.username.as_deref(), Some("system:serviceaccount:default:robot"));
    let (code, reason, message) = refused(maps(&robot).list(&ListParams::default()).await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "configmaps is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );

    let roles: Api<Role> = Api::namespaced(cluster.client.clone(), "default");
    let reader = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]});
    roles.create(&PostParams::default(), &object(reader)).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client.clone(), "default");
    let binding = json!({"metadata": {"name": "robot"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role", "name": "reader"}, "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    bindings.create(&PostParams::default(), &object(binding)).await.unwrap();
    maps(&robot).list(&ListParams::default()).await.unwrap();
    let (code, ..) = refused(maps(&robot).get("one").await);
    assert_eq!(code, 403);

    let (code, reason, _) = refused(maps(&cluster.bearer("no.such.token")).list(&ListParams::default()).await);
    assert_eq!((code, reason.as_str()), (401, "Unauthorized"));
    let (code, ..) = refused(maps(&cluster.plain()).list(&ListParams::default()).await);
    assert_eq!(code, 403);
    // With its account goes the token.
    accounts.delete("robot", &DeleteParams::default()).await.unwrap();
    let (code, ..) = refused(maps(&robot).list(&ListParams::default()).await);
    assert_eq!(code, 401);
}

#[tokio::test]
async fn a_namespace_goes_with_what_is_in_it() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let made = namespaces.create(&PostParams::default(), &object(json!({"metadata": {"name": "team"}}))).await.unwrap();
    let inside: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "team");
    inside.create(&PostParams::default(), &map("one", json!({}))).await.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    let uid = made.uid().unwrap();
    soon("the namespace is gone", await_condition(namespaces, "team", conditions::is_deleted(&uid))).await.unwrap();
    assert!(inside.get_opt("one").await.unwrap().is_none());
    let (code, ..) = refused(inside.create(&PostParams::default(), &map("two", json!({}))).await);
    assert_eq!(code, 404);
}
