//! Nodes that fall silent and come back.

use crate::common;

use common::{World, pass};
use kiln_controllers::node_lifecycle;
use serde_json::{Value, json};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(40);
const NODE: &str = "/api/v1/nodes/a";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a";
const OTHER_LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/b";

fn start() -> World {
    let world = World::new();
    world.api.put(NODE, node("True"));
    // Were this one not there, it would rather be the server that is cut off.
    world.api.put("/api/v1/nodes/b", node("True"));
    world.api.put(OTHER_LEASE, json!({"spec": {"renewTime": "0"}}));
    let (api, shutdown) = (world.api.clone(), world.shutdown.clone());
    tokio::spawn(async move {
        while !shutdown.is_cancelled() {
            pass(10).await;
            let now = tokio::time::Instant::now();
            api.edit(OTHER_LEASE, |lease| lease["spec"]["renewTime"] = json!(format!("{now:?}")));
        }
    });
    world.api.put(LEASE, json!({"spec": {"renewTime": "0"}}));
    world.run(|informers, context| node_lifecycle::build(informers, context, GRACE));
    world
}

fn node(ready: &str) -> Value {
    let ready = json!({"type": "Ready", "status": ready, "reason": "KubeletReady", "lastHeartbeatTime": "2026-03-01T12:00:00Z"});
    let disk = json!({"type": "DiskPressure", "status": "False"});
    let foreign = json!({"type": "example.org/Fan", "status": "True"});
    json!({"spec": {}, "status": {"conditions": [ready, disk, foreign]}})
}

fn ready(node: &Value) -> &str {
    node["status"]["conditions"][0]["status"].as_str().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_is_silent_for_forty_seconds_is_unknown_and_unreachable() {
    let world = start();
    for beat in 1..=3 {
        pass(10).await;
        world.api.edit(LEASE, |lease| lease["spec"]["renewTime"] = json!(beat.to_string()));
    }
    assert_eq!(ready(&world.object(NODE)), "True");
    let after = world.until("unknown", |api| ready(&api.object(NODE).unwrap_or_default()) == "Unknown").await;
    assert!((39.0..41.0).contains(&after.as_secs_f64()), "after {after:?}");
    world.until("tainted", |api| api.object(NODE).is_some_and(|node| !node["spec"]["taints"].is_null())).await;
    let node = world.object(NODE);
    assert_eq!(node["spec"]["taints"][0]["key"], "node.kubernetes.io/unreachable");
    assert_eq!(node["spec"]["taints"][1]["effect"], "NoExecute");
    let conditions = &node["status"]["conditions"];
    assert_eq!(conditions[0]["message"], "Kubelet stopped posting node status.");
    assert_eq!(conditions[0]["lastTransitionTime"], "2026-03-01T12:01:10Z");
    assert_eq!((&conditions[1]["status"], &conditions[2]["status"]), (&json!("Unknown"), &json!("True")));
    assert_eq!(conditions.as_array().map(Vec::len), Some(5));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_come_fall_silent_and_go_are_told_of() {
    let world = start();
    world.until("tainted", |api| api.object(NODE).is_some_and(|node| !node["spec"]["taints"].is_null())).await;
    world.api.remove(NODE);
    pass(5).await;
    let told = world.events("Node").await;
    let expected = [
        ("NodeNotReady", "Node a status is now: NodeNotReady"),
        ("RegisteredNode", "Node a event: Registered Node a in Controller"),
        ("RegisteredNode", "Node b event: Registered Node b in Controller"),
        ("RemovingNode", "Node a event: Removing Node a from Controller"),
    ];
    assert_eq!(told, expected.map(|(reason, text)| (reason.to_owned(), text.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn it_is_marked_once_and_its_return_clears_the_taints() {
    let world = start();
    world.until("tainted", |api| api.object(NODE).is_some_and(|node| !node["spec"]["taints"].is_null())).await;
    world.api.requests();
    pass(3600).await;
    let writes: Vec<_> = world.api.requests().into_iter().filter(|request| !request.starts_with("GET")).collect();
    assert!(writes.is_empty(), "{writes:?}");
    world.api.edit(LEASE, |lease| lease["spec"]["renewTime"] = json!("later"));
    world.api.edit(NODE, |node| node["status"]["conditions"][0]["status"] = json!("True"));
    world.until("clear", |api| api.object(NODE).is_some_and(|node| node["spec"]["taints"].is_null())).await;
    assert_eq!(ready(&world.object(NODE)), "True");
}

#[tokio::test(start_paused = true)]
async fn a_status_from_the_kubelet_counts_as_a_sign_of_life() {
    let world = start();
    pass(30).await;
    world.api.edit(NODE, |node| node["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2026-03-01T12:00:01Z"));
    pass(30).await;
    assert_eq!(ready(&world.object(NODE)), "True");
    pass(11).await;
    assert_eq!(ready(&world.object(NODE)), "Unknown");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_it_is_not_ready_is_tainted_as_such() {
    let world = start();
    world.api.put(NODE, node("False"));
    world.until("tainted", |api| api.object(NODE).is_some_and(|node| !node["spec"]["taints"].is_null())).await;
    assert_eq!(world.object(NODE)["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
}

#[tokio::test(start_paused = true)]
async fn while_no_node_is_ready_none_is_given_up() {
    let world = start();
    world.api.put("/api/v1/nodes/b", node("False"));
    world.api.put(NODE, node("False"));
    pass(5).await;
    let effects = |path: &str| -> Vec<String> {
        let node = world.object(path);
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        taints.iter().map(|taint| taint["effect"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (effects(NODE), effects("/api/v1/nodes/b")),
        (vec!["NoSchedule".to_owned()], vec!["NoSchedule".to_owned()])
    );
    world.api.put("/api/v1/nodes/b", node("True"));
    pass(5).await;
    assert_eq!(effects(NODE), ["NoSchedule", "NoExecute"], "one that is ready shows that the server is not cut off");
}
