//! Jobs, with Pods that the tests start and end. Rows are the examples of Kubernetes' documentation.

use kiln_controllers::job;
use serde_json::{Value, json};

use crate::world::{World, pass, pod_path};

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const PODS: &str = "/api/v1/namespaces/default/pods";

pub(super) async fn start() -> World {
    let world = World::new().await;
    world.run(job::build);
    world
}

/// Makes the Job `j`.
pub(super) async fn make(world: &World, spec: Value) -> Value {
    let mut spec = spec;
    let restart = spec["restartPolicy"].take();
    spec.as_object_mut().unwrap().remove("restartPolicy");
    let restart = if restart.is_null() { json!("Never") } else { restart };
    spec["template"] = json!({"spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": "i"}]}});
    let made = world.create(JOBS, json!({"metadata": {"name": "j"}, "spec": spec})).await;
    pass(1).await;
    made
}

pub(super) async fn status(world: &World) -> Value {
    world.get(&format!("{JOBS}/j")).await["status"].clone()
}

/// Names of the Pods that are at work, by their index if they have one.
pub(super) async fn active(world: &World) -> Vec<String> {
    let pods = world.labelled(PODS, "batch.kubernetes.io/job-name=j").await;
    let active = pods.iter().filter(|pod| {
        !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
            && pod["metadata"]["deletionTimestamp"].is_null()
    });
    let mut active: Vec<_> =
        active.map(|pod| (index(pod), pod["metadata"]["name"].as_str().unwrap().to_owned())).collect();
    active.sort();
    active.into_iter().map(|(_, name)| name).collect()
}

fn index(pod: &Value) -> Option<i32> {
    pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        .as_str()
        .map(|index| index.parse().unwrap())
}

/// The indexes of the Pods that are at work.
pub(super) async fn indexes(world: &World) -> Vec<i32> {
    let mut found = Vec::new();
    for name in active(world).await {
        found.extend(index(&world.get(&pod_path(&name, "")).await));
    }
    found
}

/// Ends the Pod of an index.
pub(super) async fn end_index(world: &World, wanted: i32, code: i32) {
    for name in active(world).await {
        if index(&world.get(&pod_path(&name, "")).await) == Some(wanted) {
            world.end_pod(&name, code).await;
        }
    }
}

pub(super) fn conditions(status: &Value) -> Vec<String> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["status"] == "True")
        .map(|condition| {
            format!("{} {}", condition["type"].as_str().unwrap(), condition["reason"].as_str().unwrap_or_default())
        })
        .collect()
}

async fn messages(world: &World) -> Vec<String> {
    let events = world.list("/api/v1/namespaces/default/events").await;
    events
        .iter()
        .map(|event| format!("{} {}", event["reason"].as_str().unwrap(), event["message"].as_str().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_its_pod_to_completion() {
    let world = start().await;
    make(&world, json!({})).await;
    let pods = active(&world).await;
    assert_eq!(pods.len(), 1);
    let pod = world.get(&pod_path(&pods[0], "")).await;
    assert_eq!(pod["metadata"]["finalizers"], json!(["batch.kubernetes.io/job-tracking"]));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Job");
    assert!(pods[0].starts_with("j-"));
    let running = status(&world).await;
    assert_eq!(
        (&running["active"], &running["ready"], &running["startTime"]),
        (&json!(1), &json!(0), &json!("2026-03-01T12:00:00Z"))
    );
    world.run_pod(&pods[0], &["10.42.0.5"], true).await;
    pass(2).await;
    assert_eq!(status(&world).await["ready"], 1);
    world.end_pod(&pods[0], 0).await;
    pass(2).await;
    let done = status(&world).await;
    assert_eq!((&done["succeeded"], &done["active"], &done["ready"]), (&json!(1), &Value::Null, &json!(0)));
    assert_eq!(conditions(&done), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    assert!(done["completionTime"].is_string());
    assert_eq!(done["uncountedTerminatedPods"], json!({}));
    assert_eq!(world.get(&pod_path(&pods[0], "")).await["metadata"]["finalizers"], Value::Null);
    let told = messages(&world).await;
    assert!(told.contains(&format!("SuccessfulCreate Created pod: {}", pods[0])), "{told:?}");
    assert!(told.contains(&"Completed Job completed".to_owned()), "{told:?}");
    // Nothing more happens.
    let before = world.get(&format!("{JOBS}/j")).await;
    world.delete(&pod_path(&pods[0], "")).await;
    pass(600).await;
    assert_eq!(world.get(&format!("{JOBS}/j")).await, before);
}

#[tokio::test(start_paused = true)]
async fn no_more_pods_run_than_parallelism_and_completions_allow() {
    // (parallelism, completions, at first, after one success, after two)
    for (parallelism, completions, first, second, third) in [
        (2, json!(3), 2, 2, 1),
        (5, json!(2), 2, 1, 0),
        (1, json!(3), 1, 1, 1),
        (3, Value::Null, 3, 2, 1),
        (0, json!(3), 0, 0, 0),
    ] {
        let world = start().await;
        make(&world, json!({"parallelism": parallelism, "completions": completions})).await;
        let mut found = Vec::new();
        for _ in 0..3 {
            let pods = active(&world).await;
            found.push(pods.len());
            if let Some(pod) = pods.first() {
                world.end_pod(pod, 0).await;
            }
            pass(3).await;
        }
        assert_eq!(found, [first, second, third], "{parallelism} of {completions}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_pod_is_replaced_later_each_time_until_the_limit() {
    let world = start().await;
    make(&world, json!({"backoffLimit": 2})).await;
    for (wait, failed) in [(10, 1), (20, 2)] {
        world.end_pod(&active(&world).await[0], 1).await;
        pass(wait - 1).await;
        assert_eq!(active(&world).await.len(), 0, "after {failed}");
        assert_eq!(status(&world).await["failed"], failed);
        pass(3).await;
        assert_eq!(active(&world).await.len(), 1, "after {failed}");
    }
    world.end_pod(&active(&world).await[0], 1).await;
    pass(3).await;
    let failed = status(&world).await;
    assert_eq!(conditions(&failed), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert_eq!(failed["failed"], 3);
    assert!(
        messages(&world).await.contains(&"BackoffLimitExceeded Job has reached the specified backoff limit".to_owned())
    );
    pass(700).await;
    assert_eq!(active(&world).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn restarts_of_containers_count_towards_the_limit() {
    let world = start().await;
    make(&world, json!({"backoffLimit": 2, "restartPolicy": "OnFailure"})).await;
    let pod = active(&world).await.remove(0);
    for (restarts, ends) in [(1, false), (2, true)] {
        let container = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": restarts});
        world
            .patch(&pod_path(&pod, "status"), json!({"status": {"phase": "Running", "containerStatuses": [container]}}))
            .await;
        pass(3).await;
        assert_eq!(!conditions(&status(&world).await).is_empty(), ends, "{restarts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_takes_too_long_fails_once_its_pods_are_gone() {
    let world = start().await;
    make(&world, json!({"activeDeadlineSeconds": 60, "parallelism": 2})).await;
    let pods = active(&world).await;
    for (n, pod) in pods.iter().enumerate() {
        world.patch(&pod_path(pod, "status"), json!({"status": {"phase": "Running"}})).await;
        world
            .client
            .create::<Value>(
                &pod_path(pod, "binding"),
                &json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": format!("n{n}")}}),
            )
            .await
            .unwrap();
    }
    pass(55).await;
    assert_eq!(active(&world).await.len(), 2);
    pass(7).await;
    let going = status(&world).await;
    assert_eq!(conditions(&going), ["FailureTarget DeadlineExceeded"], "{going}");
    assert_eq!((&going["terminating"], &going["active"]), (&json!(2), &Value::Null));
    for pod in &pods {
        world.stop_pod(pod).await;
    }
    pass(3).await;
    let failed = status(&world).await;
    assert_eq!(conditions(&failed), ["FailureTarget DeadlineExceeded", "Failed DeadlineExceeded"]);
    assert_eq!(failed["terminating"], 0);
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_runs_each_index_once() {
    let world = start().await;
    make(&world, json!({"completionMode": "Indexed", "parallelism": 2, "completions": 4})).await;
    assert_eq!(indexes(&world).await, [0, 1]);
    let pod = world.get(&pod_path(&active(&world).await[1], "")).await;
    assert_eq!(pod["spec"]["hostname"], "j-1");
    assert!(pod["metadata"]["name"].as_str().unwrap().starts_with("j-1-"));
    assert_eq!(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"], "1");
    let variable = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(
        variable["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.labels['batch.kubernetes.io/job-completion-index']"
    );
    end_index(&world, 1, 0).await;
    pass(2).await;
    assert_eq!(indexes(&world).await, [0, 2]);
    assert_eq!(
        (&status(&world).await["completedIndexes"], &status(&world).await["succeeded"]),
        (&json!("1"), &json!(1))
    );
    // One that fails comes again.
    end_index(&world, 0, 1).await;
    pass(13).await;
    assert_eq!(indexes(&world).await, [0, 2]);
    for index in [0, 2, 3] {
        end_index(&world, index, 0).await;
        pass(2).await;
    }
    let done = status(&world).await;
    assert_eq!((&done["completedIndexes"], &done["succeeded"], &done["failed"]), (&json!("0-3"), &json!(4), &json!(1)));
    assert_eq!(conditions(&done).last().unwrap(), "Complete CompletionsReached");
}

#[tokio::test(start_paused = true)]
async fn an_elastic_indexed_job_follows_its_completions() {
    let world = start().await;
    make(&world, json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3})).await;
    end_index(&world, 2, 0).await;
    pass(2).await;
    assert_eq!(status(&world).await["completedIndexes"], "2");
    world.patch(&format!("{JOBS}/j"), json!({"spec": {"parallelism": 2, "completions": 2}})).await;
    pass(2).await;
    let fewer = status(&world).await;
    assert_eq!((indexes(&world).await, &fewer["completedIndexes"]), (vec![0, 1], &Value::Null));
    world.patch(&format!("{JOBS}/j"), json!({"spec": {"parallelism": 1, "completions": 1}})).await;
    pass(3).await;
    assert_eq!(indexes(&world).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_job_has_no_pods_and_starts_anew_when_resumed() {
    let world = start().await;
    make(&world, json!({"suspend": true, "parallelism": 2, "completions": 4})).await;
    let suspended = status(&world).await;
    assert_eq!((active(&world).await.len(), conditions(&suspended)), (0, vec!["Suspended JobSuspended".to_owned()]));
    assert_eq!(suspended["startTime"], Value::Null);
    world.patch(&format!("{JOBS}/j"), json!({"spec": {"suspend": false}})).await;
    pass(2).await;
    assert_eq!((active(&world).await.len(), conditions(&status(&world).await).len()), (2, 0));
    world.patch(&format!("{JOBS}/j"), json!({"spec": {"suspend": true}})).await;
    pass(2).await;
    let suspended = status(&world).await;
    assert_eq!(
        (active(&world).await.len(), &suspended["failed"], &suspended["active"]),
        (0, &Value::Null, &Value::Null)
    );
    assert!(messages(&world).await.contains(&"Suspended Job suspended".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_going_is_replaced_at_once_or_when_it_has_failed() {
    for (policy, replaced_at_once) in [("TerminatingOrFailed", true), ("Failed", false)] {
        let world = start().await;
        make(&world, json!({"podReplacementPolicy": policy})).await;
        let pod = active(&world).await.remove(0);
        world
            .client
            .create::<Value>(
                &pod_path(&pod, "binding"),
                &json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": "n"}}),
            )
            .await
            .unwrap();
        world.patch(&pod_path(&pod, "status"), json!({"status": {"phase": "Running"}})).await;
        world.delete(&pod_path(&pod, "")).await;
        pass(25).await;
        assert_eq!(active(&world).await.len() == 1, replaced_at_once, "{policy}");
        world.end_pod(&pod, 143).await;
        pass(25).await;
        assert_eq!(active(&world).await.len(), 1, "{policy}");
        assert_eq!(status(&world).await["failed"], 1, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_of_another_controller_is_left_alone() {
    let world = start().await;
    make(&world, json!({"managedBy": "example.com/other"})).await;
    pass(5).await;
    assert_eq!((active(&world).await.len(), status(&world).await), (0, json!({})));
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_and_strangers_released() {
    let world = start().await;
    let job = make(&world, json!({"parallelism": 1})).await;
    let pod = active(&world).await.remove(0);
    let uid = job["metadata"]["uid"].clone();
    world
        .patch(
            &pod_path(&pod, ""),
            json!({"metadata": {"labels": {"batch.kubernetes.io/controller-uid": null, "controller-uid": null}}}),
        )
        .await;
    pass(3).await;
    let released = world.get(&pod_path(&pod, "")).await;
    assert_eq!(
        (&released["metadata"]["ownerReferences"], &released["metadata"]["finalizers"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(active(&world).await.len(), 2, "another is made in its place");
    world.patch(&format!("{JOBS}/j"), json!({"spec": {"parallelism": 2}})).await;
    let labels = json!({"metadata": {"labels": {"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid}}});
    world.patch(&pod_path(&pod, ""), labels).await;
    pass(3).await;
    let adopted = world.get(&pod_path(&pod, "")).await;
    if adopted["metadata"]["deletionTimestamp"].is_null() {
        assert_eq!(adopted["metadata"]["ownerReferences"][0]["uid"], uid);
        assert_eq!(adopted["metadata"]["finalizers"], json!(["batch.kubernetes.io/job-tracking"]));
    }
    assert_eq!(status(&world).await["active"], 2);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_job_that_is_gone_are_let_go() {
    let world = start().await;
    make(&world, json!({})).await;
    let pod = active(&world).await.remove(0);
    world.client.delete(&format!("{JOBS}/j"), &json!({"propagationPolicy": "Background"})).await.unwrap();
    world.delete(&pod_path(&pod, "")).await;
    pass(3).await;
    assert!(world.find(&pod_path(&pod, "")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_bad_line_and_restarts_lose_nothing_and_count_nothing_twice() {
    let world = World::new().await;
    let mut running = world.run_badly(job::build);
    make(&world, json!({"completionMode": "Indexed", "parallelism": 4, "completions": 12, "backoffLimit": 20})).await;
    let (mut failed, mut ended) = (0, 0);
    for round in 0..600 {
        for name in active(&world).await {
            // One in five fails.
            ended += 1;
            let code = i32::from(ended % 5 == 0);
            failed += code;
            world.end_pod(&name, code).await;
        }
        if round % 7 == 6 {
            drop(running);
            running = world.run_badly(job::build);
        }
        pass(3).await;
        if conditions(&status(&world).await).iter().any(|condition| condition.starts_with("Complete")) {
            break;
        }
    }
    let done = status(&world).await;
    assert_eq!(conditions(&done).last().map(String::as_str), Some("Complete CompletionsReached"), "{done}");
    assert_eq!((&done["completedIndexes"], &done["succeeded"]), (&json!("0-11"), &json!(12)));
    // A Pod whose creation seemed to fail was made twice; the one too many is deleted, which counts as a failure too.
    assert!(done["failed"].as_i64().unwrap_or(0) >= i64::from(failed), "{done}");
    assert!(failed > 0 && active(&world).await.is_empty());
    assert_eq!(done["uncountedTerminatedPods"], json!({}));
}
