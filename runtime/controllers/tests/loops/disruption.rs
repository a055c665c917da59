//! PodDisruptionBudgets against the real API server and its evictions, with simulated nodes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use apps_world::{DEPLOYMENTS, PODS, World, pass, start_nodes};
use kiln_client::PatchKind;
use kiln_controllers::{deployment, disruption, replica_set, stateful_set};
use serde_json::{Value, json};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const ZK: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/zk";
const STATEFUL: &str = "/apis/apps/v1/namespaces/default/statefulsets";

async fn start() -> World {
    let world = World::paused().await;
    start_nodes(&world, 3).await;
    world.run(|informers, context| {
        let sets = replica_set::replica_sets(informers, context);
        let (deployments, budgets) = (deployment::build(informers, context), disruption::build(informers, context));
        let stateful = stateful_set::build(informers, context);
        async move { _ = tokio::join!(sets, deployments, budgets, stateful) }
    });
    world
}

fn workload(kind: &str, replicas: u32, image: &str) -> Value {
    let mut object = json!({"metadata": {"name": "zk"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "zk"}},
        "template": {"metadata": {"labels": {"app": "zk"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}});
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!("zk");
        object["spec"]["podManagementPolicy"] = json!("Parallel");
    }
    object
}

fn budget(field: &str, value: Value) -> Value {
    json!({"metadata": {"name": "zk"}, "spec": {field: value, "selector": {"matchLabels": {"app": "zk"}}}})
}

fn counts(budget: &Value) -> [i64; 4] {
    let status = &budget["status"];
    ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"].map(|f| status[f].as_i64().unwrap_or(-1))
}

async fn evict(world: &World, pod: &str) -> Result<Value, u16> {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    let done = world.client.create::<Value>(&format!("{PODS}/{pod}/eviction"), &eviction).await;
    done.map_err(|error| error.status().map_or(0, |status| status.code))
}

#[tokio::test(start_paused = true)]
async fn a_budget_counts_what_its_controllers_are_to_have() {
    // The documentation's forms of a budget; what it expects, wants healthy, has healthy and allows.
    let rows = [
        ("Deployment", 3, "nginx", budget("minAvailable", json!(2)), [3, 2, 3, 1]),
        ("Deployment", 3, "nginx", budget("maxUnavailable", json!(1)), [3, 2, 3, 1]),
        ("Deployment", 7, "nginx", budget("minAvailable", json!("50%")), [7, 4, 7, 3]),
        ("Deployment", 7, "nginx", budget("maxUnavailable", json!("30%")), [7, 4, 7, 3]),
        ("Deployment", 2, "nginx", budget("minAvailable", json!("100%")), [2, 2, 2, 0]),
        ("Deployment", 2, "stuck", budget("maxUnavailable", json!(1)), [2, 1, 0, 0]),
        ("StatefulSet", 3, "nginx", budget("maxUnavailable", json!(1)), [3, 2, 3, 1]),
        ("Deployment", 0, "nginx", budget("maxUnavailable", json!(1)), [0, 0, 0, 0]),
    ];
    for (kind, replicas, image, budget, expected) in rows {
        let world = start().await;
        let collection = if kind == "Deployment" { DEPLOYMENTS } else { STATEFUL };
        world.create(collection, workload(kind, replicas, image)).await;
        pass(10).await;
        let spec = budget["spec"].clone();
        world.create(BUDGETS, budget).await;
        let counted = world.becomes(ZK, |budget| budget["status"]["observedGeneration"] == 1).await;
        assert_eq!(counts(&counted), expected, "{kind} of {replicas}: {spec}");
        let condition = &counted["status"]["conditions"][0];
        let (status, reason) = if expected[3] > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        assert_eq!((&condition["type"], &condition["status"]), (&json!("DisruptionAllowed"), &json!(status)));
        assert_eq!((&condition["reason"], &condition["observedGeneration"]), (&json!(reason), &json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn evictions_are_let_through_one_by_one_as_others_become_ready() {
    let world = start().await;
    world.create(DEPLOYMENTS, workload("Deployment", 3, "slow:20")).await;
    world.create(BUDGETS, budget("maxUnavailable", json!(1))).await;
    world.becomes(ZK, |budget| counts(budget) == [3, 2, 3, 1]).await;
    let pods = world.list(PODS, "app=zk").await;
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(evict(&world, &name(&pods[0])).await.is_ok());
    assert_eq!(evict(&world, &name(&pods[1])).await, Err(429));
    world.becomes(ZK, |budget| counts(budget) == [3, 2, 2, 0]).await;
    let ready = world.becomes(ZK, |budget| counts(budget) == [3, 2, 3, 1]).await;
    assert!(ready["status"]["disruptedPods"].is_null(), "{ready}");
    assert!(evict(&world, &name(&pods[1])).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_controller_count_only_against_a_number() {
    let world = start().await;
    for n in 0..2 {
        let mut pod = workload("Deployment", 1, "nginx")["spec"]["template"].clone();
        pod["metadata"]["name"] = json!(format!("bare-{n}"));
        world.create(PODS, pod).await;
    }
    pass(5).await;
    world.create(BUDGETS, budget("minAvailable", json!(1))).await;
    world.becomes(ZK, |budget| counts(budget) == [2, 1, 2, 1]).await;
    world.patch(ZK, json!({"spec": {"minAvailable": "50%"}})).await;
    world.becomes(ZK, |budget| counts(budget) == [0, 0, 2, 0]).await;
    let told = world.events("PodDisruptionBudget").await;
    assert!(told.iter().any(|(reason, _)| reason == "UnmanagedPods"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_pods_whose_controller_does_not_scale_allows_nothing() {
    let world = start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let mut job = workload("Deployment", 1, "nginx")["spec"]["template"].clone();
    job["spec"]["restartPolicy"] = json!("Never");
    let job = world.create(jobs, json!({"metadata": {"name": "j"}, "spec": {"template": job}})).await;
    let mut pod = workload("Deployment", 1, "nginx")["spec"]["template"].clone();
    pod["metadata"]["name"] = json!("of-job");
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j",
        "uid": job["metadata"]["uid"], "controller": true}]);
    world.create(PODS, pod).await;
    world.create(BUDGETS, budget("maxUnavailable", json!(1))).await;
    let failed = world.becomes(ZK, |budget| budget["status"]["conditions"][0]["reason"] == "SyncFailed").await;
    let message = &failed["status"]["conditions"][0]["message"];
    assert_eq!(message, "jobs.batch does not implement the scale subresource");
    assert_eq!(failed["status"]["disruptionsAllowed"], 0);
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_an_eviction_that_never_came_to_pass_is_taken_off() {
    let world = start().await;
    world.create(DEPLOYMENTS, workload("Deployment", 1, "nginx")).await;
    pass(10).await;
    let pod = world.list(PODS, "app=zk").await.remove(0);
    let path = format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap());
    let now = kiln_apimachinery::time::rfc3339(world.clock.now());
    let mark = json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "EvictionByEvictionAPI", "lastTransitionTime": now}]}});
    world.client.patch::<Value>(&format!("{path}/status"), PatchKind::Strategic, &mark).await.unwrap();
    let began = tokio::time::Instant::now();
    let is_off = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|c| c["type"] == "DisruptionTarget" && c["status"] == "False")
    };
    world.becomes(&path, is_off).await;
    assert!((119..123).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_budget_at_rest_is_not_written() {
    let world = start().await;
    let writes = world.count_changes(BUDGETS).await;
    world.create(DEPLOYMENTS, workload("Deployment", 3, "nginx")).await;
    world.create(BUDGETS, budget("minAvailable", json!(1))).await;
    world.becomes(ZK, |budget| counts(budget) == [3, 1, 3, 2]).await;
    pass(60).await;
    let before = writes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(before <= 7, "{before}");
    pass(24 * 3_600).await;
    assert_eq!(writes.load(std::sync::atomic::Ordering::Relaxed), before);
}
