//! More important pods make room for themselves, against the real API server: the conformance suite's SchedulerPreemption.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod real;

use real::{PODS, World, condition};
use serde_json::{Value, json};

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// A world with a node and classes of priority.
async fn world() -> World {
    let world = World::new().await;
    for (name, value) in [("low", 1), ("medium", 100), ("high", 1000)] {
        world.make(CLASSES, json!({"metadata": {"name": name}, "value": value})).await;
    }
    world
}

fn of_class(class: &str) -> Value {
    // Nobody runs these pods: with no grace they are gone when they are deleted.
    json!({"priorityClassName": class, "terminationGracePeriodSeconds": 0})
}

#[tokio::test]
async fn a_more_important_pod_takes_the_place_of_the_least_important() {
    let world = world().await;
    world.four("a").await;
    world.four("b").await;
    world.pod("low", json!({"cpu": "3"}), of_class("low")).await;
    let node = world.node_of("low").await;
    world.pod("medium", json!({"cpu": "3"}), of_class("medium")).await;
    world.node_of("medium").await;
    world.pod("high", json!({"cpu": "2"}), of_class("high")).await;
    world.until(PODS, "low", |pod| pod.is_none()).await;
    assert_eq!(world.node_of("high").await, node);
    let event = world.event("low", "Preempted").await;
    let high: Value = world.client.get(&format!("{PODS}/high")).await.unwrap();
    let words = format!("Preempted by pod {} on node {node}", high["metadata"]["uid"].as_str().unwrap());
    assert_eq!((&event["note"], &event["action"]), (&json!(words), &json!("Preempting")));
    assert_eq!(event["related"]["name"], "high");
    world.node_of("medium").await;
}

#[tokio::test]
async fn a_critical_pod_takes_the_place_of_one_that_is_not() {
    let world = world().await;
    world.four("a").await;
    world.pod("low", json!({"cpu": "3"}), of_class("low")).await;
    world.node_of("low").await;
    let critical = real::pod("critical", json!({"cpu": "3"}), of_class("system-cluster-critical"));
    let pods = "/api/v1/namespaces/kube-system/pods";
    world.make(pods, critical).await;
    world.until(PODS, "low", |pod| pod.is_none()).await;
    world.until(pods, "critical", |pod| pod.is_some_and(|pod| pod["spec"]["nodeName"] == "a")).await;
}

#[tokio::test]
async fn one_that_makes_room_says_so_in_its_condition_while_its_grace_lasts() {
    let world = world().await;
    world.four("a").await;
    // A finalizer holds it, as the conformance suite does it.
    let mut victim = real::pod("victim", json!({"cpu": "3"}), of_class("low"));
    victim["metadata"]["finalizers"] = json!(["example.com/test-finalizer"]);
    world.make(PODS, victim).await;
    world.node_of("victim").await;
    world.pod("high", json!({"cpu": "3"}), of_class("high")).await;
    let leaves = |pod: Option<&Value>| pod.is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
    let victim = world.until(PODS, "victim", leaves).await.unwrap();
    let condition = condition(&victim, "DisruptionTarget");
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("PreemptionByScheduler")));
    let words = "default-scheduler: preempting to accommodate a higher priority pod";
    assert_eq!(condition["message"], words);
    let promised = |pod: Option<&Value>| pod.is_some_and(|pod| pod["status"]["nominatedNodeName"] == "a");
    world.until(PODS, "high", promised).await;
    world.change(&format!("{PODS}/victim"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(world.node_of("high").await, "a");
}

#[tokio::test]
async fn a_pod_that_never_preempts_waits() {
    let world = world().await;
    world.four("a").await;
    let polite = json!({"metadata": {"name": "polite"}, "value": 2000, "preemptionPolicy": "Never"});
    world.make(CLASSES, polite).await;
    world.pod("low", json!({"cpu": "3"}), of_class("low")).await;
    world.node_of("low").await;
    world.pod("polite", json!({"cpu": "3"}), of_class("polite")).await;
    let words = "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.";
    world.refused_with("polite", words).await;
    let low: Value = world.client.get(&format!("{PODS}/low")).await.unwrap();
    assert!(low["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn pods_that_a_budget_protects_leave_last() {
    let world = world().await;
    world.four("a").await;
    world.four("b").await;
    let labelled = |name: &str| {
        let mut pod = real::pod(name, json!({"cpu": "3"}), of_class("low"));
        pod["metadata"]["labels"] = json!({"app": name});
        pod
    };
    world.make(PODS, labelled("protected")).await;
    world.node_of("protected").await;
    world.make(PODS, labelled("free")).await;
    let free = world.node_of("free").await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "protected"}}}});
    world.make("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget).await;
    world.pod("high", json!({"cpu": "3"}), of_class("high")).await;
    assert_eq!(world.node_of("high").await, free);
    world.node_of("protected").await;
}

#[tokio::test]
async fn no_more_pods_leave_than_must() {
    let world = world().await;
    world.four("a").await;
    for (name, cpu) in [("big", "2"), ("small-1", "1"), ("small-2", "1")] {
        world.pod(name, json!({"cpu": cpu}), of_class("low")).await;
        world.node_of(name).await;
    }
    world.pod("high", json!({"cpu": "1"}), of_class("high")).await;
    world.node_of("high").await;
    let left = world.client.list::<Value>(PODS, &kiln_client::ListParams::default()).await.unwrap().items;
    let names: Vec<_> = left.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"big"));
}
