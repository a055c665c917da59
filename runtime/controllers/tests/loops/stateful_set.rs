//! StatefulSets against the real API server, with simulated nodes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::apps_world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use apps_world::{PODS, World, pass, start_nodes};
use kiln_client::PatchKind;
use kiln_controllers::{garbage, stateful_set};
use serde_json::{Value, json};

const STATEFUL: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const WEB: &str = "/apis/apps/v1/namespaces/default/statefulsets/web";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

async fn start() -> World {
    let world = World::paused().await;
    start_nodes(&world, 2).await;
    world.run(stateful_set::build);
    tokio::spawn(garbage::run(world.client.clone(), world.shutdown.clone()));
    world
}

fn web(replicas: u32, image: &str, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "serviceName": "nginx",
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn with_claims(when_deleted: &str, when_scaled: &str) -> Value {
    json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": when_scaled},
        "volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}]})
}

async fn set_image(world: &World, image: &str) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    world.client.patch::<Value>(WEB, PatchKind::Strategic, &patch).await.unwrap();
}

fn count(set: &Value, field: &str) -> i64 {
    set["status"][field].as_i64().unwrap_or(0)
}

/// What `kubectl rollout status` waits for.
fn is_done(set: &Value) -> bool {
    let wanted = set["spec"]["replicas"].as_i64().unwrap();
    count(set, "observedGeneration") >= set["metadata"]["generation"].as_i64().unwrap()
        && ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"].iter().all(|f| count(set, f) == wanted)
        && set["status"]["currentRevision"] == set["status"]["updateRevision"]
}

/// Names of the pods with their images.
async fn pods(world: &World) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = world.list(PODS, "app=web").await;
    all.iter().map(|p| (text(&p["metadata"]["name"]), text(&p["spec"]["containers"][0]["image"]))).collect()
}

fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn pods_come_one_after_the_other_with_their_names_hosts_and_claims() {
    let world = start().await;
    world.create(STATEFUL, web(3, "slow:10", with_claims("Retain", "Retain"))).await;
    pass(5).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "slow:10")]));
    pass(10).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "slow:10"), ("web-1", "slow:10")]));
    let set = world.becomes(WEB, is_done).await;
    let revision = set["status"]["currentRevision"].as_str().unwrap().to_owned();
    let status = json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3,
        "updatedReplicas": 3, "currentRevision": revision, "updateRevision": revision, "observedGeneration": 1,
        "collisionCount": 0});
    assert_eq!(set["status"], status);
    let pod = world.get(&format!("{PODS}/web-1")).await;
    let labels = json!({"app": "web", "statefulset.kubernetes.io/pod-name": "web-1",
        "apps.kubernetes.io/pod-index": "1", "controller-revision-hash": revision});
    assert_eq!(pod["metadata"]["labels"], labels);
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-1"), &json!("nginx")));
    let claim = json!({"claimName": "www-web-1"});
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"], claim);
    let claims = world.list(CLAIMS, "app=web").await;
    let names: Vec<_> = claims.iter().map(|claim| claim["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["www-web-0", "www-web-1", "www-web-2"]);
    let revisions = world.list(REVISIONS, "").await;
    assert_eq!((revisions.len(), &revisions[0]["revision"]), (1, &json!(1)));
    assert_eq!(revisions[0]["data"]["spec"]["template"]["$patch"], "replace");
    let told = world.events("StatefulSet").await;
    let made = "Create Pod web-2 in StatefulSet web successful".to_owned();
    assert!(told.contains(&("SuccessfulCreate".to_owned(), made)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_set_shrinks_from_the_end_and_one_pod_at_a_time() {
    let world = start().await;
    world.create(STATEFUL, web(3, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    world.patch(&format!("{PODS}/web-2"), json!({"metadata": {"annotations": {"test/grace": "10"}}})).await;
    world.patch(WEB, json!({"spec": {"replicas": 1}})).await;
    pass(5).await;
    let going = world.get(&format!("{PODS}/web-2")).await;
    assert!(!going["metadata"]["deletionTimestamp"].is_null());
    assert!(world.get(&format!("{PODS}/web-1")).await["metadata"]["deletionTimestamp"].is_null());
    world.becomes(WEB, is_done).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "nginx:1")]));
}

#[tokio::test(start_paused = true)]
async fn scaling_waits_for_a_pod_that_is_not_ready() {
    // As the conformance test of the predictable order: neither up nor down while a pod is not ready.
    let world = start().await;
    world.create(STATEFUL, web(3, "stuck", json!({}))).await;
    pass(100).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "stuck")]));
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True",
        "lastTransitionTime": "2026-03-01T12:00:00Z"}]}});
    let make_ready = async |pod: &str| {
        let path = format!("{PODS}/{pod}/status");
        world.client.patch::<Value>(&path, PatchKind::Strategic, &ready).await.unwrap();
        pass(5).await;
    };
    make_ready("web-0").await;
    make_ready("web-1").await;
    assert_eq!(pods(&world).await.len(), 3);
    // The last is not ready: it goes first, but not one before it that is ready.
    world.patch(WEB, json!({"spec": {"replicas": 1}})).await;
    world.becomes(WEB, |set| count(set, "replicas") == 1).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "stuck")]));
}

#[tokio::test(start_paused = true)]
async fn an_update_goes_from_the_end_down_to_the_partition() {
    let world = start().await;
    let partitioned = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    world.create(STATEFUL, web(4, "nginx:1", partitioned)).await;
    let old = world.becomes(WEB, is_done).await["status"]["currentRevision"].clone();
    set_image(&world, "nginx:2").await;
    let set = world.becomes(WEB, |set| count(set, "updatedReplicas") == 2 && count(set, "readyReplicas") == 4).await;
    assert_eq!((count(&set, "currentReplicas"), &set["status"]["currentRevision"]), (2, &old));
    pass(100).await;
    let half = [("web-0", "nginx:1"), ("web-1", "nginx:1"), ("web-2", "nginx:2"), ("web-3", "nginx:2")];
    assert_eq!(pods(&world).await, rows(&half));
    // One below the partition comes back as it was.
    world.client.delete(&format!("{PODS}/web-0"), &Value::Null).await.unwrap();
    pass(10).await;
    assert_eq!(pods(&world).await, rows(&half));
    world.patch(WEB, json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})).await;
    world.becomes(WEB, is_done).await;
    assert!(pods(&world).await.iter().all(|(_, image)| image == "nginx:2"));
}

#[tokio::test(start_paused = true)]
async fn going_back_makes_the_earlier_revision_the_latest_and_history_is_limited() {
    let world = start().await;
    world.create(STATEFUL, web(2, "nginx:1", json!({"revisionHistoryLimit": 1}))).await;
    let first = world.becomes(WEB, is_done).await["status"]["currentRevision"].clone();
    set_image(&world, "nginx:2").await;
    world.becomes(WEB, is_done).await;
    set_image(&world, "nginx:1").await;
    let set = world.becomes(WEB, is_done).await;
    assert_eq!(set["status"]["currentRevision"], first);
    let numbers = |revisions: &[Value]| revisions.iter().map(|r| r["revision"].as_i64().unwrap()).max();
    assert_eq!(numbers(&world.list(REVISIONS, "").await), Some(3));
    for image in ["nginx:3", "nginx:4"] {
        set_image(&world, image).await;
        world.becomes(WEB, is_done).await;
    }
    pass(5).await;
    assert_eq!(world.list(REVISIONS, "").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_parallel_set_makes_all_its_pods_at_once_and_may_lack_several_in_an_update() {
    let world = start().await;
    let parallel = json!({"podManagementPolicy": "Parallel", "updateStrategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 2}}, "ordinals": {"start": 5}});
    world.create(STATEFUL, web(4, "slow:10", parallel)).await;
    pass(5).await;
    let all = [("web-5", "slow:10"), ("web-6", "slow:10"), ("web-7", "slow:10"), ("web-8", "slow:10")];
    assert_eq!(pods(&world).await, rows(&all));
    world.becomes(WEB, is_done).await;
    if world.get(WEB).await["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"].is_null() {
        // The server drops the field while its feature is off.
        return;
    }
    set_image(&world, "slow:20").await;
    pass(5).await;
    let half = [("web-5", "slow:10"), ("web-6", "slow:10"), ("web-7", "slow:20"), ("web-8", "slow:20")];
    assert_eq!(pods(&world).await, rows(&half));
    world.becomes(WEB, is_done).await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_set_updated_on_delete_are_updated_when_they_are_deleted() {
    let world = start().await;
    world.create(STATEFUL, web(2, "nginx:1", json!({"updateStrategy": {"type": "OnDelete"}}))).await;
    world.becomes(WEB, |set| count(set, "readyReplicas") == 2).await;
    set_image(&world, "nginx:2").await;
    pass(100).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "nginx:1"), ("web-1", "nginx:1")]));
    world.client.delete(&format!("{PODS}/web-0"), &Value::Null).await.unwrap();
    world.becomes(WEB, |set| count(set, "updatedReplicas") == 1 && count(set, "readyReplicas") == 2).await;
    assert_eq!(pods(&world).await, rows(&[("web-0", "nginx:2"), ("web-1", "nginx:1")]));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_failed_is_made_anew_under_its_name() {
    let world = start().await;
    world.create(STATEFUL, web(1, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    let uid = world.get(&format!("{PODS}/web-0")).await["metadata"]["uid"].clone();
    let failed = json!({"status": {"phase": "Failed", "conditions": null}});
    world.patch(&format!("{PODS}/web-0/status"), failed).await;
    world.until(PODS, "web-0", |pod| pod.is_some_and(|pod| pod["metadata"]["uid"] != uid)).await;
    world.becomes(WEB, is_done).await;
}

#[tokio::test(start_paused = true)]
async fn claims_are_owned_as_the_retention_policy_has_it() {
    // When deleted, when scaled; who owns the claims of 0 and of 1; which are left after scaling to 1 and after the end.
    let rows = [
        ("Retain", "Retain", None, vec!["www-web-0", "www-web-1"], vec!["www-web-0", "www-web-1"]),
        ("Delete", "Retain", Some("StatefulSet"), vec!["www-web-0", "www-web-1"], vec![]),
        ("Retain", "Delete", None, vec!["www-web-0"], vec!["www-web-0"]),
        ("Delete", "Delete", Some("StatefulSet"), vec!["www-web-0"], vec![]),
    ];
    for (deleted, scaled, owner, after_scaling, at_end) in rows {
        let world = start().await;
        world.create(STATEFUL, web(2, "nginx:1", with_claims(deleted, scaled))).await;
        world.becomes(WEB, is_done).await;
        pass(5).await;
        let claim = world.get(&format!("{CLAIMS}/www-web-1")).await;
        assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"].as_str(), owner, "{deleted} {scaled}");
        let names = async || -> Vec<String> {
            // Nobody protects claims here, so what is marked goes at once.
            let claims = world.list(CLAIMS, "").await;
            claims.iter().map(|claim| claim["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        free_claims(&world).await;
        world.patch(WEB, json!({"spec": {"replicas": 1}})).await;
        world.becomes(WEB, is_done).await;
        pass(30).await;
        assert_eq!(names().await, after_scaling, "{deleted} {scaled}");
        world.client.delete(WEB, &Value::Null).await.unwrap();
        pass(30).await;
        assert_eq!(names().await, at_end, "{deleted} {scaled}");
    }
}

/// Takes the finalizers off all claims: their controller is not part of this test.
async fn free_claims(world: &World) {
    for claim in world.list(CLAIMS, "").await {
        let path = format!("{CLAIMS}/{}", claim["metadata"]["name"].as_str().unwrap());
        world.patch(&path, json!({"metadata": {"finalizers": null}})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_counts_as_available_after_it_has_been_ready_for_long_enough() {
    let world = start().await;
    world.create(STATEFUL, web(2, "nginx:1", json!({"minReadySeconds": 30}))).await;
    world.becomes(WEB, |set| count(set, "readyReplicas") == 1).await;
    pass(20).await;
    assert_eq!(pods(&world).await.len(), 1);
    let began = tokio::time::Instant::now();
    world.becomes(WEB, is_done).await;
    assert!((38..45).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_at_rest_writes_nothing() {
    let world = start().await;
    let (sets, all) = (world.count_changes(STATEFUL).await, world.count_changes(PODS).await);
    world.create(STATEFUL, web(3, "nginx:1", json!({}))).await;
    world.becomes(WEB, is_done).await;
    pass(60).await;
    let before = sets.load(Ordering::Relaxed);
    assert!(before <= 9, "{before} writes for 3 pods");
    assert_eq!(all.load(Ordering::Relaxed), 9);
    pass(24 * 3_600).await;
    assert_eq!(sets.load(Ordering::Relaxed), before);
}
