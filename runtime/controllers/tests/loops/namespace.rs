//! Namespaces that are deleted.

use crate::common;

use common::{World, pass};
use kiln_apimachinery::Status;
use kiln_controllers::namespace;
use serde_json::json;

const NAMESPACE: &str = "/api/v1/namespaces/shop";

fn start() -> World {
    let world = World::new();
    let resource =
        |name: &str, namespaced: bool, verbs: &[&str]| json!({"name": name, "namespaced": namespaced, "verbs": verbs});
    let all = ["get", "list", "delete", "deletecollection"];
    let core = [
        resource("configmaps", true, &all),
        resource("pods", true, &all),
        resource("services", true, &["get", "list", "delete"]),
        resource("nodes", false, &all),
        resource("pods/log", true, &["get"]),
        resource("bindings", true, &["create"]),
    ];
    world.api.document("/api/v1", json!({"resources": core}));
    let apps = json!({"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}});
    world.api.document("/apis", json!({"groups": [apps]}));
    world.api.document("/apis/apps/v1", json!({"resources": [resource("deployments", true, &all)]}));
    world.api.put(NAMESPACE, json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}));
    world.api.put("/api/v1/namespaces/other/configmaps/kept", json!({}));
    world.api.put("/api/v1/nodes/kept", json!({}));
    world.run(namespace::build);
    world
}

async fn delete(world: &World) {
    world.api.client().delete(NAMESPACE, &serde_json::Value::Null).await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn all_that_is_in_a_namespace_goes_before_it_does() {
    let world = start();
    let inside = ["configmaps/a", "configmaps/b", "services/s"].map(|name| format!("{NAMESPACE}/{name}"));
    let deployment = "/apis/apps/v1/namespaces/shop/deployments/d";
    inside.iter().for_each(|path| world.api.put(path, json!({})));
    world.api.put(deployment, json!({}));
    pass(10).await;
    assert!(world.api.object(deployment).is_some(), "an active namespace was touched");
    delete(&world).await;
    world.until("gone", |api| api.object(NAMESPACE).is_none()).await;
    assert!(inside.iter().all(|path| world.api.object(path).is_none()));
    assert!(world.api.object(deployment).is_none());
    assert!(world.api.object("/api/v1/namespaces/other/configmaps/kept").is_some());
    assert!(world.api.object("/api/v1/nodes/kept").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_inside_holds_the_namespace_and_is_named_in_its_conditions() {
    let world = start();
    let held = format!("{NAMESPACE}/configmaps/held");
    world.api.put(&held, json!({"metadata": {"finalizers": ["example.org/hold"]}}));
    delete(&world).await;
    world.until("told", |api| api.object(NAMESPACE).is_some_and(|n| !n["status"]["conditions"].is_null())).await;
    let conditions = world.object(NAMESPACE)["status"]["conditions"].clone();
    let rows = [
        ("NamespaceDeletionDiscoveryFailure", "False", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "All legacy kube types successfully parsed"),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", "True", "Some resources are remaining: configmaps. has 1 resource instances"),
        (
            "NamespaceFinalizersRemaining",
            "True",
            "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances",
        ),
    ];
    for (index, (kind, status, message)) in rows.into_iter().enumerate() {
        let condition = &conditions[index];
        assert_eq!((&condition["type"], &condition["status"]), (&json!(kind), &json!(status)));
        assert_eq!(condition["message"], message);
    }
    pass(3600).await;
    world.api.remove(&held);
    world.until("gone", |api| api.object(NAMESPACE).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn pods_go_before_what_they_may_need() {
    let world = start();
    let (pod, needed) = (format!("{NAMESPACE}/pods/slow"), format!("{NAMESPACE}/configmaps/needed"));
    world.api.put(&pod, json!({"metadata": {"finalizers": ["example.org/hold"]}}));
    world.api.put(&needed, json!({}));
    delete(&world).await;
    world.until("told", |api| api.object(NAMESPACE).is_some_and(|n| !n["status"]["conditions"].is_null())).await;
    pass(600).await;
    assert!(world.api.object(&needed).is_some(), "a pod may still need it");
    world.api.remove(&pod);
    pass(1).await;
    assert!(world.api.object(&needed).is_none(), "the last pod's end is not waited for by the clock");
    world.until("gone", |api| api.object(NAMESPACE).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_asked_holds_the_namespace_until_it_can() {
    let world = start();
    for _ in 0..3 {
        world.api.refuse_next("GET /apis/apps/v1", Status::internal("down"));
    }
    delete(&world).await;
    world.until("told", |api| api.object(NAMESPACE).is_some_and(|n| !n["status"]["conditions"].is_null())).await;
    assert_eq!(world.object(NAMESPACE)["status"]["conditions"][0]["status"], "True");
    world.until("gone", |api| api.object(NAMESPACE).is_none()).await;
}
