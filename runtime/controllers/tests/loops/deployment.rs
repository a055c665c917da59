//! Deployments against the real API server, with simulated nodes. Rows are the documentation's where it has numbers.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use std::time::Duration;

use apps_world::{DEPLOYMENTS, PODS, SETS, World, pass, start_nodes};
use kiln_client::PatchKind;
use kiln_controllers::{deployment, replica_set};
use serde_json::{Value, json};

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

async fn start() -> World {
    let world = World::paused().await;
    start_nodes(&world, 3).await;
    world.run(|informers, context| {
        let (sets, deployments) =
            (replica_set::replica_sets(informers, context), deployment::build(informers, context));
        async move { _ = tokio::join!(sets, deployments) }
    });
    world
}

fn web(replicas: u32, image: &str, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}})
}

async fn set_image(world: &World, image: &str) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    world.client.patch::<Value>(WEB, PatchKind::Strategic, &patch).await.unwrap();
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind)).unwrap_or(&Value::Null)
}

/// What `kubectl rollout status` waits for.
fn is_done(deployment: &Value) -> bool {
    let (status, wanted) = (&deployment["status"], deployment["spec"]["replicas"].as_i64().unwrap());
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let counts = ["updatedReplicas", "replicas", "availableReplicas"];
    count("observedGeneration") >= deployment["metadata"]["generation"].as_i64().unwrap()
        && counts.iter().all(|field| count(field) == wanted)
}

/// Images of the ReplicaSets with the counts that they are to have, by image.
async fn sets(world: &World) -> Vec<(String, i64)> {
    let all = world.list(SETS, "app=web").await;
    let mut sets: Vec<_> = all
        .iter()
        .map(|set| {
            let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
            (image, set["spec"]["replicas"].as_i64().unwrap())
        })
        .collect();
    sets.sort();
    sets
}

fn counts(sets: &[(&str, i64)]) -> Vec<(String, i64)> {
    sets.iter().map(|(image, count)| ((*image).to_owned(), *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_makes_a_set_named_after_its_templates_hash_and_says_how_it_does() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(3, "nginx:1", json!({}))).await;
    let deployment = world.becomes(WEB, is_done).await;
    let set = world.list(SETS, "").await.remove(0);
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"]["matchLabels"], json!({"app": "web", "pod-template-hash": hash}));
    assert_eq!(set["spec"]["template"]["metadata"]["labels"], json!({"app": "web", "pod-template-hash": hash}));
    let noted = json!({"deployment.kubernetes.io/revision": "1", "deployment.kubernetes.io/desired-replicas": "3",
        "deployment.kubernetes.io/max-replicas": "4"});
    assert_eq!(set["metadata"]["annotations"], noted);
    assert_eq!(deployment["metadata"]["annotations"], json!({"deployment.kubernetes.io/revision": "1"}));
    let available = condition(&deployment, "Available");
    assert_eq!((&available["status"], &available["reason"]), (&json!("True"), &json!("MinimumReplicasAvailable")));
    assert_eq!(available["message"], "Deployment has minimum availability.");
    let progressing = condition(&deployment, "Progressing");
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable");
    assert_eq!(progressing["message"], format!("ReplicaSet \"web-{hash}\" has successfully progressed."));
    let mut status = deployment["status"].clone();
    status.as_object_mut().unwrap().remove("conditions");
    assert_eq!(
        status,
        json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3, "terminatingReplicas": 0})
    );
    let told = ("ScalingReplicaSet".to_owned(), format!("Scaled up replica set web-{hash} from 0 to 3"));
    assert_eq!(world.events("Deployment").await, [told]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_keeps_within_its_limits_at_every_moment() {
    // Replicas, surge, unavailable; then the most pods and the fewest available there may be.
    let rows = [
        (10, json!("25%"), json!("25%"), 13, 8),
        (3, json!("25%"), json!("25%"), 4, 3),
        (4, json!(0), json!(1), 4, 3),
        (4, json!("100%"), json!(0), 8, 4),
        (2, json!(0), json!("100%"), 2, 0),
    ];
    for (replicas, surge, unavailable, most, fewest) in rows {
        let world = start().await;
        world.create(DEPLOYMENTS, web(replicas, "slow:5", rolling(surge, unavailable))).await;
        world.becomes(WEB, is_done).await;
        set_image(&world, "slow:7").await;
        let rolled = world.becomes(WEB, is_done);
        let watch = async {
            loop {
                let pods = world.list(PODS, "app=web").await;
                let alive: Vec<_> = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
                let is_ready = |pod: &&&Value| {
                    pod["status"]["conditions"].as_array().is_some_and(|all| {
                        all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
                    })
                };
                let ready = alive.iter().filter(is_ready).count();
                assert!(alive.len() <= most, "{} pods of {replicas}", alive.len());
                assert!(ready >= fewest, "{ready} ready of {replicas}");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::select! {
            _ = rolled => {}
            () = watch => {}
        }
        assert_eq!(sets(&world).await, counts(&[("slow:5", 0), ("slow:7", replicas.into())]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_rolls_nothing_out_but_scales() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(2, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    world.patch(WEB, json!({"spec": {"paused": true}})).await;
    world.becomes(WEB, |d| condition(d, "Progressing")["reason"] == "DeploymentPaused").await;
    set_image(&world, "nginx:2").await;
    world.patch(WEB, json!({"spec": {"replicas": 4}})).await;
    pass(1_000).await;
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 4)]));
    let deployment = world.get(WEB).await;
    assert!(deployment["status"]["updatedReplicas"].is_null(), "{deployment}");
    assert_eq!(condition(&deployment, "Progressing")["status"], "Unknown");
    world.patch(WEB, json!({"spec": {"paused": false}})).await;
    let deployment = world.becomes(WEB, is_done).await;
    assert_eq!(condition(&deployment, "Progressing")["reason"], "NewReplicaSetAvailable");
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 0), ("nginx:2", 4)]));
}

#[tokio::test(start_paused = true)]
async fn going_back_to_an_earlier_template_uses_its_set_again_under_a_new_revision() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(2, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    for image in ["nginx:2", "nginx:1"] {
        set_image(&world, image).await;
        world.becomes(WEB, is_done).await;
    }
    let deployment = world.get(WEB).await;
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    let all = world.list(SETS, "").await;
    assert_eq!(all.len(), 2);
    let back = all.iter().find(|set| set["spec"]["replicas"] == 2).unwrap();
    assert_eq!(back["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(back["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    // Asked for by the annotation: the revision before the last.
    world.patch(WEB, json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": "0"}}})).await;
    world
        .becomes(WEB, |d| d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "4" && is_done(d))
        .await;
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 0), ("nginx:2", 2)]));
    let told = world.events("Deployment").await;
    let rolled = ("DeploymentRollback".to_owned(), "Rolled back deployment \"web\" to revision 2".to_owned());
    assert!(told.contains(&rolled), "{told:?}");
    for (to, reason) in [("9", "DeploymentRollbackRevisionNotFound"), ("4", "DeploymentRollbackTemplateUnchanged")] {
        world.patch(WEB, json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": to}}})).await;
        world.becomes(WEB, |d| d["metadata"]["annotations"]["deprecated.deployment.rollback.to"].is_null()).await;
        pass(1).await;
        let told = world.events("Deployment").await;
        assert!(told.iter().any(|(told, _)| told == reason), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_stands_still_for_too_long_is_said_to_and_recovers() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(2, "nginx:1", json!({"progressDeadlineSeconds": 60}))).await;
    world.becomes(WEB, is_done).await;
    set_image(&world, "stuck").await;
    let began = tokio::time::Instant::now();
    let late = |d: &Value| condition(d, "Progressing")["reason"] == "ProgressDeadlineExceeded";
    let deployment = world.becomes(WEB, late).await;
    assert!((59..65).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let progressing = condition(&deployment, "Progressing");
    assert_eq!(progressing["status"], "False");
    assert!(progressing["message"].as_str().unwrap().ends_with("has timed out progressing."), "{progressing}");
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 2), ("stuck", 1)]));
    set_image(&world, "nginx:1").await;
    let deployment = world.becomes(WEB, is_done).await;
    assert_eq!(condition(&deployment, "Progressing")["reason"], "NewReplicaSetAvailable");
}

#[tokio::test(start_paused = true)]
async fn a_count_that_changes_in_the_middle_of_a_rollout_is_shared_out() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(10, "nginx:1", rolling(json!(3), json!(2)))).await;
    world.becomes(WEB, is_done).await;
    set_image(&world, "stuck").await;
    world.becomes(WEB, |d| d["status"]["updatedReplicas"] == 5).await;
    pass(5).await;
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 8), ("stuck", 5)]));
    world.patch(WEB, json!({"spec": {"replicas": 15}})).await;
    world.becomes(WEB, |d| d["status"]["replicas"] == 18).await;
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 11), ("stuck", 7)]));
}

#[tokio::test(start_paused = true)]
async fn recreate_lets_all_old_pods_go_before_new_ones_come() {
    let world = start().await;
    let mut object = web(3, "nginx:1", json!({"strategy": {"type": "Recreate"}}));
    object["spec"]["template"]["metadata"]["annotations"] = json!({"test/grace": "20"});
    world.create(DEPLOYMENTS, object).await;
    world.becomes(WEB, is_done).await;
    set_image(&world, "nginx:2").await;
    let rolled = world.becomes(WEB, is_done);
    let watch = async {
        loop {
            let pods = world.list(PODS, "app=web").await;
            let images: std::collections::BTreeSet<_> =
                pods.iter().map(|pod| pod["spec"]["containers"][0]["image"].to_string()).collect();
            assert!(images.len() <= 1, "{images:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let began = tokio::time::Instant::now();
    tokio::select! {
        _ = rolled => {}
        () = watch => {}
    }
    assert!(began.elapsed() >= Duration::from_secs(19), "{:?}", began.elapsed());
    assert_eq!(sets(&world).await, counts(&[("nginx:1", 0), ("nginx:2", 3)]));
}

#[tokio::test(start_paused = true)]
async fn old_sets_beyond_the_history_go() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(1, "nginx:0", json!({"revisionHistoryLimit": 2}))).await;
    world.becomes(WEB, is_done).await;
    for image in ["nginx:1", "nginx:2", "nginx:3", "nginx:4"] {
        set_image(&world, image).await;
        world.becomes(WEB, is_done).await;
        pass(5).await;
    }
    assert_eq!(sets(&world).await, counts(&[("nginx:2", 0), ("nginx:3", 0), ("nginx:4", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_set_of_the_template_is_adopted_and_one_no_longer_selected_is_released() {
    let world = start().await;
    let template = web(1, "nginx:1", json!({}))["spec"]["template"].clone();
    let set = json!({"metadata": {"name": "old", "labels": {"app": "web"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    world.create(SETS, set).await;
    world.create(DEPLOYMENTS, web(1, "nginx:1", json!({}))).await;
    let deployment = world.becomes(WEB, is_done).await;
    let set = world.get(&format!("{SETS}/old")).await;
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], deployment["metadata"]["uid"]);
    assert_eq!(world.list(SETS, "").await.len(), 1);
    world.patch(&format!("{SETS}/old"), json!({"metadata": {"labels": {"app": "other"}}})).await;
    world.becomes(&format!("{SETS}/old"), |set| set["metadata"]["ownerReferences"].is_null()).await;
    world.becomes(WEB, is_done).await;
    assert_eq!(world.list(SETS, "app=web").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_set_of_another_template_under_the_name_is_stepped_around() {
    let world = start().await;
    world.create(DEPLOYMENTS, web(1, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    let mut set = world.list(SETS, "").await.remove(0);
    let name = set["metadata"]["name"].as_str().unwrap().to_owned();
    world.client.delete(WEB, &json!({"propagationPolicy": "Orphan"})).await.unwrap();
    world.client.delete(&format!("{SETS}/{name}"), &Value::Null).await.unwrap();
    set["metadata"] = json!({"name": name, "labels": {"app": "stranger"}});
    set["spec"]["selector"] = json!({"matchLabels": {"app": "stranger"}});
    set["spec"]["template"]["metadata"]["labels"] = json!({"app": "stranger"});
    set.as_object_mut().unwrap().remove("status");
    world.create(SETS, set).await;
    world.patch(&format!("{DEPLOYMENTS}/web"), json!({"metadata": {"finalizers": null}})).await;
    world.until(DEPLOYMENTS, "web", |object| object.is_none()).await;
    world.create(DEPLOYMENTS, web(1, "nginx:1", json!({}))).await;
    let deployment = world.becomes(WEB, is_done).await;
    assert_eq!(deployment["status"]["collisionCount"], 1);
    assert_ne!(world.list(SETS, "app=web").await.remove(0)["metadata"]["name"], name);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_at_rest_writes_nothing() {
    let world = start().await;
    let writes = world.count_changes(DEPLOYMENTS).await;
    world.create(DEPLOYMENTS, web(3, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    pass(60).await;
    let before = writes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(before <= 8, "{before} writes for 3 pods");
    pass(24 * 3_600).await;
    assert_eq!(writes.load(std::sync::atomic::Ordering::Relaxed), before);
}
