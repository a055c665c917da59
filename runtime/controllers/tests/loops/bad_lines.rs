//! Workloads over a line on which writes and answers are lost and watches end, with controllers that begin anew again and again.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use apps_world::{DEPLOYMENTS, PODS, SETS, World, pass, start_nodes};
use kiln_controllers::{daemon_set, deployment, replica_set, stateful_set};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;

const STATEFUL: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const DAEMONS: &str = "/apis/apps/v1/namespaces/default/daemonsets";

fn controllers(world: &World) -> DropGuard {
    world.run_badly(|informers, context| {
        let (deployments, sets) =
            (deployment::build(informers, context), replica_set::replica_sets(informers, context));
        let (stateful, daemons) = (stateful_set::build(informers, context), daemon_set::build(informers, context));
        async move { _ = tokio::join!(deployments, sets, stateful, daemons) }
    })
}

fn workload(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": name}}}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object["spec"]["template"] = template(name, "a");
    object
}

fn template(name: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// The images of the pods of an app that are not going.
async fn images(world: &World, app: &str) -> Vec<String> {
    let pods = world.list(PODS, &format!("app={app}")).await;
    let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    alive.map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

/// Whether the controller has seen the newest spec and says that so many pods are of it and available.
fn is_done(object: &Value, available: &str, updated: &str, count: i64) -> bool {
    let status = &object["status"];
    status["observedGeneration"] == object["metadata"]["generation"]
        && status[available] == count
        && status[updated] == count
}

#[tokio::test(start_paused = true)]
async fn rollouts_over_a_bad_line_end_with_the_pods_that_they_should_and_none_too_many() {
    let world = World::paused().await;
    start_nodes(&world, 3).await;
    let all = [
        (DEPLOYMENTS, "web", 10, "availableReplicas", "updatedReplicas"),
        (STATEFUL, "db", 4, "availableReplicas", "updatedReplicas"),
        (DAEMONS, "agent", 3, "numberAvailable", "updatedNumberScheduled"),
    ];
    world.create(DEPLOYMENTS, workload("web", json!({"replicas": 10}))).await;
    world.create(STATEFUL, workload("db", json!({"replicas": 4, "serviceName": "db"}))).await;
    world.create(DAEMONS, workload("agent", json!({}))).await;
    for (round, image) in ["a", "b", "c", "d"].into_iter().enumerate() {
        for (collection, name, ..) in all {
            let path = format!("{collection}/{name}");
            world.patch(&path, json!({"spec": {"template": template(name, image)}})).await;
        }
        // In the first rounds a rollout is overtaken by the next.
        for beginning in 0..=2 * round {
            let running = controllers(&world);
            pass(1 + beginning as u64).await;
            drop(running);
        }
    }
    let _running = controllers(&world);
    for (collection, name, count, available, updated) in all {
        world.becomes(&format!("{collection}/{name}"), |object| is_done(object, available, updated, count)).await;
    }
    pass(60).await;
    for (_, name, count, ..) in all {
        assert_eq!(images(&world, name).await, vec!["d"; usize::try_from(count).unwrap()], "{name}");
    }
    let sets = world.list(SETS, "app=web").await;
    let mut counts: Vec<_> = sets.iter().map(|set| set["spec"]["replicas"].as_i64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!((counts.pop(), counts.iter().sum::<i64>()), (Some(10), 0), "{counts:?}");
}
