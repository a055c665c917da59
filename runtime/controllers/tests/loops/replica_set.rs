//! ReplicaSets and ReplicationControllers against the real API server, with simulated nodes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use std::sync::atomic::Ordering;

use apps_world::{PODS, SETS, World, pass, start_nodes};
use kiln_controllers::replica_set;
use serde_json::{Value, json};

const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn set(name: &str, replicas: u32, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": name}}, "template": template(name, image)}})
}

async fn start(nodes: usize) -> World {
    let world = World::paused().await;
    start_nodes(&world, nodes).await;
    world.run(replica_set::replica_sets);
    world.run(replica_set::replication_controllers);
    world
}

fn has(field: &'static str, count: i64) -> impl Fn(&Value) -> bool {
    move |object| object["status"][field].as_i64().unwrap_or(0) == count
}

#[tokio::test(start_paused = true)]
async fn a_set_makes_its_pods_and_counts_them() {
    let world = start(2).await;
    world.create(SETS, set("web", 3, "nginx")).await;
    let set = world.becomes(&format!("{SETS}/web"), has("availableReplicas", 3)).await;
    let status = json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
        "observedGeneration": 1, "terminatingReplicas": 0});
    assert_eq!(set["status"], status);
    let pods = world.list(PODS, "app=web").await;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        assert!(pod["metadata"]["name"].as_str().unwrap().starts_with("web-"));
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
            "uid": set["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]);
        assert_eq!(pod["metadata"]["ownerReferences"], owner);
    }
    let mut names: Vec<_> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let told: Vec<_> = names.iter().map(|n| ("SuccessfulCreate".to_owned(), format!("Created pod: {n}"))).collect();
    assert_eq!(world.events("ReplicaSet").await, told);
}

#[tokio::test(start_paused = true)]
async fn a_set_follows_its_count_and_replaces_pods_that_go_or_fail() {
    let world = start(2).await;
    let path = format!("{SETS}/web");
    world.create(SETS, set("web", 2, "nginx")).await;
    world.becomes(&path, has("availableReplicas", 2)).await;
    world.patch(&path, json!({"spec": {"replicas": 5}})).await;
    world.becomes(&path, has("availableReplicas", 5)).await;
    world.patch(&path, json!({"spec": {"replicas": 1}})).await;
    world.becomes(&path, |set| has("replicas", 1)(set) && has("terminatingReplicas", 0)(set)).await;
    assert_eq!(world.list(PODS, "app=web").await.len(), 1);
    let last = world.list(PODS, "app=web").await.remove(0);
    let name = last["metadata"]["name"].as_str().unwrap();
    world.client.delete(&format!("{PODS}/{name}"), &Value::Null).await.unwrap();
    world.until(PODS, name, |pod| pod.is_none()).await;
    world.becomes(&path, has("availableReplicas", 1)).await;
    let next = world.list(PODS, "app=web").await.remove(0);
    assert_ne!(next["metadata"]["uid"], last["metadata"]["uid"]);
    let status = json!({"status": {"phase": "Failed", "conditions": null}});
    let failed = next["metadata"]["name"].as_str().unwrap();
    world.patch(&format!("{PODS}/{failed}/status"), status).await;
    world.becomes(&path, has("availableReplicas", 0)).await;
    world.becomes(&path, has("availableReplicas", 1)).await;
    assert_eq!(world.list(PODS, "app=web").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pods_of_the_labels_are_adopted_and_released_when_their_labels_change() {
    let world = start(1).await;
    let mut orphan = template("web", "nginx");
    orphan["metadata"]["name"] = json!("orphan");
    world.create(PODS, orphan).await;
    world.create(SETS, set("web", 2, "nginx")).await;
    world.becomes(&format!("{SETS}/web"), has("availableReplicas", 2)).await;
    let orphan = world.becomes(&format!("{PODS}/orphan"), |pod| !pod["metadata"]["ownerReferences"].is_null()).await;
    assert_eq!(orphan["metadata"]["ownerReferences"][0]["name"], "web");
    world.patch(&format!("{PODS}/orphan"), json!({"metadata": {"labels": {"app": "debug"}}})).await;
    world.becomes(&format!("{PODS}/orphan"), |pod| pod["metadata"]["ownerReferences"].is_null()).await;
    world.until(PODS, "orphan", |pod| pod.is_some()).await;
    world.becomes(&format!("{SETS}/web"), has("availableReplicas", 2)).await;
    assert_eq!(world.list(PODS, "app=web").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_may_not_make_its_pods_says_so_until_it_can() {
    let world = start(1).await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}},
        "status": {"hard": {"pods": "2"}, "used": {"pods": "0"}}});
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    world.create(quotas, quota.clone()).await;
    world.patch(&format!("{quotas}/few/status"), json!({"status": quota["status"]})).await;
    world.create(SETS, set("web", 3, "nginx")).await;
    let set = world.becomes(&format!("{SETS}/web"), |set| !set["status"]["conditions"].is_null()).await;
    let condition = &set["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("ReplicaFailure"), &json!("True")));
    assert_eq!(condition["reason"], "FailedCreate");
    assert!(condition["message"].as_str().unwrap().contains("exceeded quota: few"), "{condition}");
    world.client.delete(&format!("{quotas}/few"), &Value::Null).await.unwrap();
    world
        .becomes(&format!("{SETS}/web"), |set| {
            has("availableReplicas", 3)(set) && set["status"]["conditions"].is_null()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_available_after_it_has_been_ready_for_long_enough() {
    let world = start(1).await;
    let mut slow = set("web", 2, "nginx");
    slow["spec"]["minReadySeconds"] = json!(60);
    world.create(SETS, slow).await;
    world.becomes(&format!("{SETS}/web"), has("readyReplicas", 2)).await;
    pass(50).await;
    assert!(has("availableReplicas", 0)(&world.get(&format!("{SETS}/web")).await));
    pass(12).await;
    assert!(has("availableReplicas", 2)(&world.get(&format!("{SETS}/web")).await));
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_does_as_a_set_does() {
    let world = start(1).await;
    let controller = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"app": "web"}, "template": template("web", "nginx")}});
    world.create(CONTROLLERS, controller).await;
    let path = format!("{CONTROLLERS}/web");
    let made = world.becomes(&path, has("availableReplicas", 2)).await;
    let status = json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "observedGeneration": 1});
    assert_eq!(made["status"], status);
    let pod = world.list(PODS, "app=web").await.remove(0);
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicationController");
    world.patch(&path, json!({"spec": {"replicas": 0}})).await;
    world.becomes(&path, has("replicas", 0)).await;
}

#[tokio::test(start_paused = true)]
async fn many_pods_are_made_once_and_counted_in_few_writes() {
    let world = start(3).await;
    let (pods, sets) = (world.count_changes(PODS).await, world.count_changes(SETS).await);
    world.create(SETS, set("web", 100, "nginx")).await;
    world.becomes(&format!("{SETS}/web"), has("availableReplicas", 100)).await;
    pass(600).await;
    assert_eq!(world.list(PODS, "app=web").await.len(), 100);
    // Made, bound, running.
    assert_eq!(pods.load(Ordering::Relaxed), 300);
    let writes = sets.load(Ordering::Relaxed);
    assert!(writes <= 110, "{writes} writes of the set's status");
}
