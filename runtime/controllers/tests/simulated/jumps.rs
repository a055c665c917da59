//! A clock that jumps an hour, forward or back: what lasts a while lasts as long as it should, and what is due at a time of day is
//! done once.

use std::time::Duration;

use kiln_controllers::{cron_job, job, node_lifecycle, node_pods, taint_eviction, ttl_after_finished, volumes};
use serde_json::{Value, json};

use crate::world::{World, pass, pod_path};

const HOUR: i64 = 3600;
const GRACE: Duration = Duration::from_secs(40);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CRONS: &str = "/apis/batch/v1/namespaces/default/cronjobs";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

/// Has nodes renew their leases for a while, by the clock as it is.
async fn beat(world: &World, nodes: &[&str], seconds: u64) {
    for _ in 0..seconds / 10 {
        for node in nodes {
            let now = world.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            world.patch(&format!("{LEASES}/{node}"), json!({"spec": {"renewTime": now}})).await;
        }
        pass(10).await;
    }
}

async fn taints(world: &World, node: &str) -> Value {
    world.get(&format!("/api/v1/nodes/{node}")).await["spec"]["taints"].clone()
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_heard_keep_their_pods_and_one_that_is_not_loses_them_in_time() {
    for jump in [HOUR, -HOUR] {
        let world = World::new().await;
        world.run(|informers, context| {
            let nodes = node_lifecycle::build(informers, context, GRACE);
            let (pods, taints) = (node_pods::build(informers, context), taint_eviction::build(informers, context));
            async move { _ = tokio::join!(nodes, pods, taints) }
        });
        for node in ["a", "b"] {
            world.node(node, "z").await;
            let lease = json!({"metadata": {"name": node}, "spec": {"holderIdentity": node}});
            world.create(LEASES, lease).await;
        }
        beat(&world, &["a", "b"], 60).await;
        for node in ["a", "b"] {
            world.pod(&format!("on-{node}"), node, json!({}), &["10.42.0.9"], true).await;
        }
        world.jumps.jump(jump);
        beat(&world, &["a", "b"], 600).await;
        for node in ["a", "b"] {
            assert_eq!(taints(&world, node).await, Value::Null, "{node} {jump}");
        }
        // Silence: forty seconds, and five minutes that Pods tolerate. Between them the clock jumps back.
        beat(&world, &["a"], 50).await;
        assert_eq!(taints(&world, "b").await[0]["key"], "node.kubernetes.io/unreachable", "{jump}");
        world.jumps.jump(-jump);
        beat(&world, &["a"], 270).await;
        let going = async |name| !world.get(&pod_path(name, "")).await["metadata"]["deletionTimestamp"].is_null();
        assert!(!going("on-b").await, "{jump}");
        beat(&world, &["a"], 60).await;
        assert!(going("on-b").await && !going("on-a").await, "{jump}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_in_use_stays_six_minutes_on_a_node_that_is_not_ready() {
    for jump in [HOUR, -HOUR] {
        let world = World::new().await;
        world.run(volumes::attach::build);
        world.node("a", "z").await;
        let csi = json!({"driver": "csi.example.com", "volumeHandle": "disk-1"});
        let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi});
        world.create("/api/v1/persistentvolumes", json!({"metadata": {"name": "v"}, "spec": spec})).await;
        let attachments = "/apis/storage.k8s.io/v1/volumeattachments";
        let source = json!({"persistentVolumeName": "v"});
        let spec = json!({"attacher": "csi.example.com", "nodeName": "a", "source": source});
        let in_use = json!(["kubernetes.io/csi/csi.example.com^disk-1"]);
        let unready =
            json!([{"type": "Ready", "status": "Unknown", "lastTransitionTime": world.clock.now().to_string()}]);
        let status = json!({"status": {"volumesInUse": in_use, "conditions": unready}});
        world.patch("/api/v1/nodes/a/status", status).await;
        // As the controller names it.
        let name = "csi-5c3950f21f385e14888c2fb73e7ae02e5210f352b3d3ca62edd6a8e4e2471eb6";
        world.create(attachments, json!({"metadata": {"name": name}, "spec": spec})).await;
        pass(10).await;
        world.jumps.jump(jump);
        // Something has it look again.
        world.patch("/api/v1/nodes/a/status", json!({"status": {"volumesInUse": [in_use[0], "other"]}})).await;
        pass(340).await;
        assert_eq!(world.list(attachments).await.len(), 1, "{jump}");
        pass(20).await;
        assert_eq!(world.list(attachments).await.len(), 0, "{jump}");
    }
}

async fn job_names(world: &World) -> Vec<String> {
    world.list(JOBS).await.iter().map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn template() -> Value {
    json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}})
}

/// The name of a CronJob's Job of the day on which all begins.
fn at(hour: i64, minute: i64) -> String {
    format!("c-{}", 29_539_440 + (hour - 12) * 60 + minute)
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_runs_once_for_what_a_jump_passed_over_and_no_time_twice() {
    // (schedule, deadline, jump after half an hour, Jobs made by then, five minutes later, an hour later)
    let rows = [
        // Of 12:40 to 13:30 only the last.
        ("*/10 * * * *", None, HOUR, 3, vec![at(13, 30)], 10),
        ("0 * * * *", None, HOUR, 0, vec![at(13, 0)], 2),
        ("0 * * * *", Some(600), HOUR, 0, vec![], 1),
        // 12:10 to 12:30 come again and have been.
        ("*/10 * * * *", None, -HOUR, 3, vec![], 3),
        ("0 * * * *", None, -HOUR, 0, vec![], 0),
    ];
    for (schedule, deadline, jump, before, soon, later) in rows {
        let world = World::new().await;
        world.run(cron_job::build);
        let spec =
            json!({"schedule": schedule, "startingDeadlineSeconds": deadline, "jobTemplate": {"spec": template()}});
        world.create(CRONS, json!({"metadata": {"name": "c"}, "spec": spec})).await;
        pass(30 * 60 + 5).await;
        assert_eq!(job_names(&world).await.len(), before, "{schedule} {jump}");
        world.jumps.jump(jump);
        // Something has it look again.
        world.patch(&format!("{CRONS}/c"), json!({"metadata": {"labels": {"l": "v"}}})).await;
        pass(300).await;
        let mut names = job_names(&world).await;
        names.drain(..before);
        assert_eq!(names, soon, "{schedule} {deadline:?} {jump}");
        pass(3600).await;
        assert_eq!(
            job_names(&world).await.len(),
            later,
            "{schedule} {deadline:?} {jump}: {:?}",
            job_names(&world).await
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_counts_from_a_written_time_goes_by_the_time_of_day() {
    // A Job's start and end are times of day, as they are for the reference: after a jump forward they are long ago, after one back
    // they are to come.
    for (jump, over) in [(HOUR, true), (-HOUR, false)] {
        let world = World::new().await;
        world.run(|informers, context| {
            let (jobs, ttl) = (job::build(informers, context), ttl_after_finished::build(informers, context));
            async move { _ = tokio::join!(jobs, ttl) }
        });
        for (name, more) in
            [("limited", json!({"activeDeadlineSeconds": 600})), ("kept", json!({"ttlSecondsAfterFinished": 600}))]
        {
            let mut spec = template();
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.create(JOBS, json!({"metadata": {"name": name}, "spec": spec})).await;
        }
        pass(1).await;
        for pod in world.labelled("/api/v1/namespaces/default/pods", "batch.kubernetes.io/job-name=kept").await {
            world.end_pod(pod["metadata"]["name"].as_str().unwrap(), 0).await;
        }
        pass(5).await;
        world.jumps.jump(jump);
        for name in ["limited", "kept"] {
            world.patch(&format!("{JOBS}/{name}"), json!({"metadata": {"labels": {"l": "v"}}})).await;
        }
        pass(30).await;
        let is_over = async || {
            let limited = world.get(&format!("{JOBS}/limited")).await;
            let conditions = limited["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let failed = conditions.iter().any(|condition| condition["reason"] == "DeadlineExceeded");
            let kept = world.find(&format!("{JOBS}/kept")).await;
            (failed, kept.is_none_or(|job| !job["metadata"]["deletionTimestamp"].is_null()))
        };
        assert_eq!(is_over().await, (over, over), "{jump}");
        pass(3600 + 600).await;
        assert_eq!(is_over().await, (true, true), "{jump}");
    }
}
