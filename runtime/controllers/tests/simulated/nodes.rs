//! What becomes of Pods when their node is tainted, dies or goes.

use kiln_controllers::{node_pods, pod_gc, taint_eviction};
use serde_json::{Value, json};

use crate::world::{World, pass, pod_path};

async fn start() -> World {
    let world = World::new().await;
    world.run(|informers, context| {
        let gc = pod_gc::build(informers, context, 12_500);
        let (pods, taints) = (node_pods::build(informers, context), taint_eviction::build(informers, context));
        async move { _ = tokio::join!(gc, pods, taints) }
    });
    world.node("a", "za").await;
    world.node("b", "zb").await;
    world
}

async fn pod(world: &World, name: &str, node: &str, tolerations: Value) {
    let containers = json!([{"name": "c", "image": "i"}]);
    let spec = json!({"nodeName": node, "containers": containers, "tolerations": tolerations});
    world.create("/api/v1/namespaces/default/pods", json!({"metadata": {"name": name}, "spec": spec})).await;
    world.run_pod(name, &["10.42.0.9"], true).await;
}

async fn is_going(world: &World, name: &str) -> bool {
    let pod = world.find(&pod_path(name, "")).await;
    pod.is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
}

async fn taint(world: &World, node: &str, taints: Value) {
    world.patch(&format!("/api/v1/nodes/{node}"), json!({"spec": {"taints": taints}})).await;
    pass(1).await;
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

#[tokio::test(start_paused = true)]
async fn pods_leave_a_tainted_node_when_their_toleration_ends() {
    let world = start().await;
    pod(&world, "none", "a", json!([])).await;
    pod(
        &world,
        "minute",
        "a",
        json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]),
    )
    .await;
    pod(&world, "ever", "a", json!([{"key": "k", "operator": "Exists"}])).await;
    pod(&world, "elsewhere", "b", json!([])).await;
    taint(&world, "a", json!([{"key": "k", "effect": "NoSchedule"}])).await;
    assert!(!is_going(&world, "none").await);
    taint(&world, "a", json!([{"key": "k", "effect": "NoExecute"}])).await;
    let evicted = world.get(&pod_path("none", "")).await;
    let why = condition(&evicted, "DisruptionTarget");
    assert_eq!(
        (&why["reason"], &why["message"]),
        (&json!("DeletionByTaintManager"), &json!("Taint manager: deleting due to NoExecute taint"))
    );
    pass(57).await;
    assert!(is_going(&world, "none").await && !is_going(&world, "minute").await);
    pass(3).await;
    assert!(is_going(&world, "minute").await);
    pass(6000).await;
    assert!(!is_going(&world, "ever").await && !is_going(&world, "elsewhere").await);
    let events = world.list("/api/v1/namespaces/default/events").await;
    assert!(events.iter().any(|event| event["message"] == "Marking for deletion Pod default/minute"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_goes_in_time_spares_the_pod() {
    let world = start().await;
    pod(
        &world,
        "minute",
        "a",
        json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]),
    )
    .await;
    taint(&world, "a", json!([{"key": "k", "effect": "NoExecute"}])).await;
    pass(50).await;
    taint(&world, "a", Value::Null).await;
    pass(600).await;
    assert!(!is_going(&world, "minute").await);
    taint(&world, "a", json!([{"key": "k", "effect": "NoExecute"}])).await;
    pass(50).await;
    assert!(!is_going(&world, "minute").await, "its time begins anew");
    pass(12).await;
    assert!(is_going(&world, "minute").await);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_fell_silent_are_not_ready() {
    let world = start().await;
    pod(&world, "p", "a", json!([{"operator": "Exists"}])).await;
    pod(&world, "q", "b", json!([])).await;
    world
        .patch("/api/v1/nodes/a/status", json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}))
        .await;
    pass(1).await;
    assert_eq!(condition(&world.get(&pod_path("p", "")).await, "Ready")["status"], "False");
    assert_eq!(condition(&world.get(&pod_path("q", "")).await, "Ready")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_fail_and_go_after_a_while() {
    let world = start().await;
    pod(&world, "p", "a", json!([])).await;
    world.patch(&pod_path("p", ""), json!({"metadata": {"finalizers": ["example.com/look"]}})).await;
    world.delete("/api/v1/nodes/a").await;
    pass(38).await;
    assert!(!is_going(&world, "p").await);
    pass(4).await;
    let failed = world.get(&pod_path("p", "")).await;
    assert!(is_going(&world, "p").await);
    assert_eq!(
        (&failed["status"]["phase"], &condition(&failed, "DisruptionTarget")["reason"]),
        (&json!("Failed"), &json!("DeletionByPodGC"))
    );
    // One that comes back meanwhile keeps its Pods.
    pod(&world, "q", "b", json!([])).await;
    world.delete("/api/v1/nodes/b").await;
    pass(20).await;
    world.node("b", "zb").await;
    pass(60).await;
    assert!(!is_going(&world, "q").await);
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_to_go_leave_a_node_that_is_out_of_service() {
    let world = start().await;
    pod(&world, "p", "a", json!([{"operator": "Exists"}])).await;
    pod(&world, "stays", "a", json!([{"operator": "Exists"}])).await;
    world.delete(&pod_path("p", "")).await;
    taint(
        &world,
        "a",
        json!([{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]),
    )
    .await;
    assert!(world.find(&pod_path("p", "")).await.is_some(), "the node is ready: its kubelet will do it");
    world
        .patch("/api/v1/nodes/a/status", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}))
        .await;
    pass(1).await;
    assert!(world.find(&pod_path("p", "")).await.is_none());
    assert!(!is_going(&world, "stays").await);
    world.delete(&pod_path("stays", "")).await;
    pass(1).await;
    assert!(world.find(&pod_path("stays", "")).await.is_none());
}
