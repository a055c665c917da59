//! CronJobs and the end of finished Jobs.

use kiln_controllers::{cron_job, job, ttl_after_finished};
use serde_json::{Value, json};

use crate::world::{World, pass};

const CRONS: &str = "/apis/batch/v1/namespaces/default/cronjobs";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A cluster with the CronJob `c`.
async fn start(spec: Value) -> World {
    let world = World::new().await;
    world.run(|informers, context| {
        let (jobs, crons) = (job::build(informers, context), cron_job::build(informers, context));
        let ttl = ttl_after_finished::build(informers, context);
        async move { _ = tokio::join!(jobs, crons, ttl) }
    });
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let mut whole = json!({"schedule": "*/10 * * * *", "jobTemplate": {"metadata": {"labels": {"l": "v"}}, "spec": {"template": pod}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    world.create(CRONS, json!({"metadata": {"name": "c"}, "spec": whole})).await;
    world
}

async fn jobs(world: &World) -> Vec<String> {
    world.list(JOBS).await.iter().map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn status(world: &World) -> Value {
    world.get(&format!("{CRONS}/c")).await["status"].clone()
}

/// Ends all Pods that have not ended.
async fn end_all(world: &World, code: i32) {
    for pod in world.list(PODS).await {
        if pod["status"]["phase"] == "Pending" {
            world.end_pod(pod["metadata"]["name"].as_str().unwrap(), code).await;
        }
    }
    pass(3).await;
}

async fn reasons(world: &World) -> Vec<String> {
    let events = world.list("/api/v1/namespaces/default/events").await;
    events.iter().map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_is_made_at_each_time_and_the_history_is_kept_short() {
    let world = start(json!({"successfulJobsHistoryLimit": 1})).await;
    pass(599).await;
    assert!(jobs(&world).await.is_empty());
    pass(2).await;
    // 2026-03-01T12:10:00Z in minutes since 1970.
    assert_eq!(jobs(&world).await, ["c-29539450"]);
    let job = world.get(&format!("{JOBS}/c-29539450")).await;
    assert_eq!(
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-03-01T12:10:00Z"
    );
    assert_eq!(
        (&job["metadata"]["labels"]["l"], &job["metadata"]["ownerReferences"][0]["kind"]),
        (&json!("v"), &json!("CronJob"))
    );
    let running = status(&world).await;
    assert_eq!(
        (&running["active"][0]["name"], &running["lastScheduleTime"]),
        (&json!("c-29539450"), &json!("2026-03-01T12:10:00Z"))
    );
    pass(5).await;
    end_all(&world, 0).await;
    let done = status(&world).await;
    assert_eq!((&done["active"], done["lastSuccessfulTime"].is_string()), (&Value::Null, true));
    pass(600).await;
    end_all(&world, 0).await;
    pass(5).await;
    assert_eq!(jobs(&world).await, ["c-29539460"]);
    let told = reasons(&world).await;
    for reason in ["SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"] {
        assert!(told.contains(&reason.to_owned()), "{reason} in {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_policies_say_what_happens_to_a_run_that_is_not_over() {
    let rows =
        [("Allow", vec!["c-29539450", "c-29539460"]), ("Forbid", vec!["c-29539450"]), ("Replace", vec!["c-29539460"])];
    for (policy, expected) in rows {
        let world = start(json!({"concurrencyPolicy": policy})).await;
        pass(1205).await;
        let mut found = Vec::new();
        for job in world.list(JOBS).await {
            if job["metadata"]["deletionTimestamp"].is_null() {
                found.push(job["metadata"]["name"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(found, expected, "{policy}");
        if policy == "Forbid" {
            assert!(reasons(&world).await.contains(&"JobAlreadyActive".to_owned()));
            end_all(&world, 0).await;
            pass(3).await;
            assert_eq!(jobs(&world).await, ["c-29539450", "c-29539460"], "what was missed is made up for");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_one_runs_nothing_and_a_missed_start_is_given_up_after_its_deadline() {
    for (deadline, expected) in [(Value::Null, 1), (json!(60), 0), (json!(900), 1)] {
        let world = start(json!({"suspend": true, "startingDeadlineSeconds": deadline})).await;
        pass(1200 + 300).await;
        assert!(jobs(&world).await.is_empty());
        world.patch(&format!("{CRONS}/c"), json!({"spec": {"suspend": false}})).await;
        pass(5).await;
        assert_eq!(jobs(&world).await.len(), expected, "{deadline}");
        pass(300).await;
        assert!(jobs(&world).await.contains(&"c-29539470".to_owned()), "the next one is on time");
    }
}

#[tokio::test(start_paused = true)]
async fn schedules_are_in_their_time_zone_and_follow_changes() {
    let world = start(json!({"schedule": "15 21 * * *", "timeZone": "Asia/Tokyo"})).await;
    pass(16 * 60).await;
    let job = &world.list(JOBS).await[0];
    assert_eq!(
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-03-01T21:15:00+09:00"
    );
    world.patch(&format!("{CRONS}/c"), json!({"spec": {"schedule": "20 21 * * *"}})).await;
    pass(5 * 60).await;
    assert_eq!(jobs(&world).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ended_goes_after_its_time_to_live() {
    let world = start(json!({"schedule": "0 0 1 1 *"})).await;
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    for (name, ttl) in [("soon", json!(100)), ("at-once", json!(0)), ("never", Value::Null)] {
        let spec = json!({"template": pod, "ttlSecondsAfterFinished": ttl});
        world.create(JOBS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    pass(2).await;
    end_all(&world, 0).await;
    let going = |job: &Value| !job["metadata"]["deletionTimestamp"].is_null();
    let left = |jobs: Vec<Value>| -> Vec<String> {
        jobs.iter().filter(|job| !going(job)).map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(left(world.list(JOBS).await), ["never", "soon"]);
    pass(90).await;
    assert_eq!(left(world.list(JOBS).await), ["never", "soon"]);
    pass(12).await;
    assert_eq!(left(world.list(JOBS).await), ["never"]);
}
