//! What Jobs make of failures and successes: limits of each index, and policies.

use serde_json::{Value, json};

use crate::job::{active, conditions, end_index, indexes, make, start, status};
use crate::world::{pass, pod_path};

#[tokio::test(start_paused = true)]
async fn each_index_may_fail_so_often() {
    let world = start().await;
    make(&world, json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3, "backoffLimitPerIndex": 1, "maxFailedIndexes": 2})).await;
    end_index(&world, 0, 1).await;
    pass(13).await;
    assert_eq!(indexes(&world).await, [0, 1, 2]);
    let again = world.get(&pod_path(&active(&world).await[0], "")).await;
    assert_eq!(again["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"], "1");
    end_index(&world, 0, 1).await;
    pass(30).await;
    let status_now = status(&world).await;
    assert_eq!(
        (indexes(&world).await, &status_now["failedIndexes"], &status_now["failed"]),
        (vec![1, 2], &json!("0"), &json!(2))
    );
    end_index(&world, 1, 0).await;
    end_index(&world, 2, 0).await;
    pass(3).await;
    let failed = status(&world).await;
    assert_eq!(conditions(&failed), ["FailureTarget FailedIndexes", "Failed FailedIndexes"]);
    assert_eq!((&failed["completedIndexes"], &failed["succeeded"]), (&json!("1,2"), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn pod_failure_policies_decide_what_a_failure_means() {
    let policy = json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]});
    let world = start().await;
    make(&world, json!({"backoffLimit": 0, "podFailurePolicy": policy.clone()})).await;
    let pod = active(&world).await.remove(0);
    let disrupted = json!([{"type": "DisruptionTarget", "status": "True"}]);
    world.patch(&pod_path(&pod, "status"), json!({"status": {"phase": "Failed", "conditions": disrupted}})).await;
    pass(13).await;
    assert_eq!(
        (active(&world).await.len(), &status(&world).await["failed"]),
        (1, &Value::Null),
        "ignored and replaced"
    );
    let pod = active(&world).await.remove(0);
    world.end_pod(&pod, 42).await;
    pass(2).await;
    let failed = status(&world).await;
    assert_eq!(conditions(&failed), ["FailureTarget PodFailurePolicy", "Failed PodFailurePolicy"]);
    let message =
        format!("Container c for pod default/{pod} failed with exit code 42 matching FailJob rule at index 0");
    assert_eq!(failed["conditions"].as_array().unwrap().last().unwrap()["message"], message);

    let world = start().await;
    let policy = json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]});
    make(&world, json!({"completionMode": "Indexed", "parallelism": 2, "completions": 2, "backoffLimitPerIndex": 3, "podFailurePolicy": policy})).await;
    end_index(&world, 1, 42).await;
    pass(20).await;
    assert_eq!((indexes(&world).await, &status(&world).await["failedIndexes"]), (vec![0], &json!("1")));
}

#[tokio::test(start_paused = true)]
async fn success_policies_end_a_job_early() {
    let world = start().await;
    let policy = json!({"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 1}]});
    make(&world, json!({"completionMode": "Indexed", "parallelism": 5, "completions": 5, "successPolicy": policy}))
        .await;
    end_index(&world, 1, 0).await;
    pass(2).await;
    assert_eq!(active(&world).await.len(), 4);
    end_index(&world, 2, 0).await;
    pass(3).await;
    let done = status(&world).await;
    assert_eq!(conditions(&done), ["SuccessCriteriaMet SuccessPolicy", "Complete SuccessPolicy"]);
    assert_eq!((&done["completedIndexes"], active(&world).await.len()), (&json!("1,2"), 0));
    assert_eq!(done["conditions"].as_array().unwrap().last().unwrap()["message"], "Matched rules at index 0");
}
