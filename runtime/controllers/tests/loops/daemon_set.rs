//! DaemonSets against the real API server, with simulated nodes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use apps_world::{PODS, World, add_node, pass, start_nodes};
use kiln_client::PatchKind;
use kiln_controllers::daemon_set;
use serde_json::{Value, json};

const DAEMONS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const AGENT: &str = "/apis/apps/v1/namespaces/default/daemonsets/agent";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

async fn start(nodes: usize) -> World {
    let world = World::paused().await;
    start_nodes(&world, nodes).await;
    world.run(daemon_set::build);
    world
}

fn agent(image: &str, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

async fn set_image(world: &World, image: &str) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    world.client.patch::<Value>(AGENT, PatchKind::Strategic, &patch).await.unwrap();
}

fn count(set: &Value, field: &str) -> i64 {
    set["status"][field].as_i64().unwrap_or(0)
}

/// What `kubectl rollout status` waits for.
fn is_done(set: &Value) -> bool {
    let desired = count(set, "desiredNumberScheduled");
    count(set, "observedGeneration") >= set["metadata"]["generation"].as_i64().unwrap()
        && desired > 0
        && ["currentNumberScheduled", "updatedNumberScheduled", "numberAvailable", "numberReady"]
            .iter()
            .all(|field| count(set, field) == desired)
}

/// Images of the pods on each node that are not being deleted.
async fn on_nodes(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut nodes = BTreeMap::<String, Vec<String>>::new();
    for pod in world.list(PODS, "app=agent").await {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
            let image = pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
            nodes.entry(node).or_default().push(image);
        }
    }
    nodes
}

async fn nodes_with_pods(world: &World) -> BTreeSet<String> {
    on_nodes(world).await.into_keys().collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn label(world: &World, node: &str, labels: Value) {
    world.patch(&format!("/api/v1/nodes/{node}"), json!({"metadata": {"labels": labels}})).await;
}

#[tokio::test(start_paused = true)]
async fn every_node_has_one_pod_that_tolerates_its_troubles_and_is_bound_by_its_name() {
    let world = start(3).await;
    world.create(DAEMONS, agent("agent:1", json!({}))).await;
    let set = world.becomes(AGENT, is_done).await;
    let status = json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0,
        "numberReady": 3, "updatedNumberScheduled": 3, "numberAvailable": 3, "observedGeneration": 1});
    assert_eq!(set["status"], status);
    assert_eq!(nodes_with_pods(&world).await, names(&["n1", "n2", "n3"]));
    let pod = world.list(PODS, "").await.remove(0);
    let revision = world.list(REVISIONS, "").await.remove(0);
    let hash = revision["metadata"]["labels"]["controller-revision-hash"].clone();
    assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], hash);
    assert_eq!(revision["metadata"]["name"], format!("agent-{}", hash.as_str().unwrap()));
    let tolerated: BTreeSet<_> = pod["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| format!("{} {}", t["key"].as_str().unwrap().trim_start_matches("node.kubernetes.io/"), t["effect"]))
        .collect();
    let expected = [
        "disk-pressure \"NoSchedule\"",
        "memory-pressure \"NoSchedule\"",
        "not-ready \"NoExecute\"",
        "pid-pressure \"NoSchedule\"",
        "unreachable \"NoExecute\"",
        "unschedulable \"NoSchedule\"",
    ];
    assert_eq!(tolerated, names(&expected));
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [pod["spec"]["nodeName"]]}]}]}}});
    assert_eq!(pod["spec"]["affinity"], affinity);
}

#[tokio::test(start_paused = true)]
async fn pods_follow_nodes_their_labels_and_their_taints() {
    let world = start(2).await;
    let selected = json!({"template": {"metadata": {"labels": {"app": "agent"}}, "spec": {
        "nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "agent:1"}]}}});
    world.create(DAEMONS, agent("", selected)).await;
    world.becomes(AGENT, |set| count(set, "observedGeneration") == 1).await;
    assert_eq!(nodes_with_pods(&world).await, names(&[]));
    label(&world, "n1", json!({"disk": "ssd"})).await;
    world.becomes(AGENT, |set| is_done(set) && count(set, "numberReady") == 1).await;
    add_node(&world, "n3").await;
    label(&world, "n3", json!({"disk": "ssd"})).await;
    world.becomes(AGENT, |set| is_done(set) && count(set, "numberReady") == 2).await;
    assert_eq!(nodes_with_pods(&world).await, names(&["n1", "n3"]));
    label(&world, "n1", json!({"disk": null})).await;
    world.becomes(AGENT, |set| is_done(set) && count(set, "desiredNumberScheduled") == 1).await;
    assert_eq!(nodes_with_pods(&world).await, names(&["n3"]));
    // A pod stays on a node that takes no new ones, and counts as misplaced; one that may not run there goes.
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "example.org/x", "effect": effect}]}});
    world.patch("/api/v1/nodes/n3", taint("NoSchedule")).await;
    world.becomes(AGENT, |set| count(set, "numberMisscheduled") == 1).await;
    pass(60).await;
    assert_eq!(nodes_with_pods(&world).await, names(&["n3"]));
    world.patch("/api/v1/nodes/n3", taint("NoExecute")).await;
    world.becomes(AGENT, |set| count(set, "numberMisscheduled") == 0).await;
    assert_eq!(nodes_with_pods(&world).await, names(&[]));
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_replaces_as_many_pods_at_a_time_as_may_lack() {
    for (unavailable, fewest) in [(json!(1), 4), (json!("50%"), 2), (json!(5), 0)] {
        let world = start(5).await;
        let strategy = json!({"updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": unavailable}}});
        world.create(DAEMONS, agent("slow:5", strategy)).await;
        world.becomes(AGENT, is_done).await;
        set_image(&world, "slow:6").await;
        let watch = async {
            loop {
                let set = world.get(AGENT).await;
                let ready = count(&set, "numberReady");
                assert!(ready >= fewest, "{ready} ready while {unavailable} may lack");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            _ = world.becomes(AGENT, is_done) => {}
            () = watch => {}
        }
        assert!(on_nodes(&world).await.values().all(|images| *images == ["slow:6"]));
        assert_eq!(world.list(REVISIONS, "").await.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_surging_update_keeps_each_old_pod_until_the_new_one_is_available() {
    let world = start(3).await;
    let strategy = json!({"updateStrategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    world.create(DAEMONS, agent("slow:5", strategy)).await;
    world.becomes(AGENT, is_done).await;
    set_image(&world, "slow:6").await;
    let watch = async {
        loop {
            let nodes = on_nodes(&world).await;
            let doubled = nodes.values().filter(|images| images.len() > 1).count();
            assert!(doubled <= 1 && nodes.len() >= 3, "{nodes:?}");
            assert_eq!(count(&world.get(AGENT).await, "numberReady"), 3);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        _ = world.becomes(AGENT, |set| is_done(set) && count(set, "observedGeneration") == 2) => {}
        () = watch => {}
    }
    world.becomes(AGENT, is_done).await;
    pass(5).await;
    assert!(on_nodes(&world).await.values().all(|images| *images == ["slow:6"]));
}

#[tokio::test(start_paused = true)]
async fn a_set_updated_on_delete_leaves_its_pods_alone() {
    let world = start(2).await;
    world.create(DAEMONS, agent("agent:1", json!({"updateStrategy": {"type": "OnDelete"}}))).await;
    world.becomes(AGENT, is_done).await;
    set_image(&world, "agent:2").await;
    world.becomes(AGENT, |set| count(set, "observedGeneration") == 2).await;
    pass(60).await;
    assert!(on_nodes(&world).await.values().all(|images| *images == ["agent:1"]));
    assert_eq!(count(&world.get(AGENT).await, "updatedNumberScheduled"), 0);
    let pod = world.list(PODS, "").await.remove(0);
    world.client.delete(&format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap()), &Value::Null).await.unwrap();
    world.becomes(AGENT, |set| count(set, "updatedNumberScheduled") == 1 && count(set, "numberReady") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn going_back_makes_the_earlier_revision_the_latest_and_history_is_limited() {
    let world = start(1).await;
    world.create(DAEMONS, agent("agent:1", json!({"revisionHistoryLimit": 1}))).await;
    world.becomes(AGENT, is_done).await;
    for image in ["agent:2", "agent:1", "agent:3"] {
        set_image(&world, image).await;
        world.becomes(AGENT, is_done).await;
        pass(5).await;
    }
    let mut numbers: Vec<_> =
        world.list(REVISIONS, "").await.iter().map(|revision| revision["revision"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_removed_is_made_again_and_one_that_is_added_is_let_be() {
    let world = start(1).await;
    world.create(DAEMONS, agent("agent:1", json!({"updateStrategy": {"type": "OnDelete"}}))).await;
    world.becomes(AGENT, is_done).await;
    let first = world.list(REVISIONS, "").await.remove(0);
    let mut twin = first.clone();
    twin["metadata"] = json!({"name": "agent-twin", "labels": first["metadata"]["labels"],
        "ownerReferences": first["metadata"]["ownerReferences"]});
    twin["metadata"]["labels"]["controller-revision-hash"] = json!("twin");
    twin["revision"] = json!(2);
    world.create(REVISIONS, twin).await;
    pass(60).await;
    assert_eq!(world.list(REVISIONS, "").await.len(), 2);
    let delete = async |name: &str| {
        world.client.delete(&format!("{REVISIONS}/{name}"), &Value::Null).await.unwrap();
        pass(5).await;
    };
    delete(first["metadata"]["name"].as_str().unwrap()).await;
    assert_eq!(world.list(REVISIONS, "").await.len(), 1);
    delete("agent-twin").await;
    assert_eq!(world.list(REVISIONS, "").await.remove(0)["revision"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_pod_is_made_anew_less_and_less_often() {
    let world = start(1).await;
    let pods = world.count_changes(PODS).await;
    world.create(DAEMONS, agent("crash", json!({}))).await;
    pass(60).await;
    let early = pods.load(Ordering::Relaxed);
    pass(60).await;
    let late = pods.load(Ordering::Relaxed) - early;
    assert!(late > 0 || early > 10, "{early} {late}");
    assert!(late < early, "{early} {late}");
    let told = world.events("DaemonSet").await;
    assert!(told.iter().any(|(reason, _)| reason == "FailedDaemonPod"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_of_the_labels_are_adopted_and_a_second_one_on_a_node_goes() {
    let world = start(1).await;
    for name in ["a", "b"] {
        let mut pod = agent("agent:0", json!({}))["spec"]["template"].clone();
        pod["metadata"]["name"] = json!(name);
        world.create(PODS, pod).await;
    }
    pass(5).await;
    world.create(DAEMONS, agent("agent:1", json!({"updateStrategy": {"type": "OnDelete"}}))).await;
    world.becomes(AGENT, |set| count(set, "numberReady") == 1).await;
    pass(5).await;
    let pods = world.list(PODS, "app=agent").await;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["metadata"]["ownerReferences"][0]["kind"], "DaemonSet");
}

#[tokio::test(start_paused = true)]
async fn a_set_at_rest_writes_nothing() {
    let world = start(3).await;
    let (sets, pods) = (world.count_changes(DAEMONS).await, world.count_changes(PODS).await);
    world.create(DAEMONS, agent("agent:1", json!({}))).await;
    world.becomes(AGENT, is_done).await;
    pass(60).await;
    let before = sets.load(Ordering::Relaxed);
    assert!(before <= 7, "{before} writes for 3 pods");
    assert_eq!(pods.load(Ordering::Relaxed), 9);
    pass(24 * 3_600).await;
    assert_eq!(sets.load(Ordering::Relaxed), before);
}
