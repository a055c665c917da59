//! Jobs, jobs by the clock, autoscalers and disruption budgets.

use crate::common;

use common::Api;
use serde_json::{Value, json};

const BATCH: &str = "/apis/batch/v1/namespaces/default";
const SCALERS_V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const SCALERS_V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn selector() -> Value {
    json!({"matchLabels": {"app": "nginx"}})
}

fn job(name: &str, more: Value) -> Value {
    let containers = json!([{"name": "pi", "image": "perl:5.34.0", "command": ["perl", "-v"]}]);
    let mut spec = json!({"template": {"spec": {"containers": containers, "restartPolicy": "Never"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_job_selects_its_own_pods_and_gets_its_defaults() {
    let api = Api::new().await;
    let made = api.post(&format!("{BATCH}/jobs"), job("pi", json!({"backoffLimit": 4}))).await.good();
    let uid = &made["metadata"]["uid"];
    let labels = json!({"job-name": "pi", "batch.kubernetes.io/job-name": "pi",
        "controller-uid": uid, "batch.kubernetes.io/controller-uid": uid});
    let spec = &made["spec"];
    assert_eq!(spec["template"]["metadata"]["labels"], labels);
    assert_eq!(spec["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    for (key, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    let path = format!("{BATCH}/jobs/pi");
    api.patch("merge", &path, json!({"spec": {"parallelism": 3}})).await.good();
    let found = api.patch("merge", &path, json!({"spec": {"completions": 3}})).await.causes();
    assert_eq!(found, ["spec.completions: Invalid value: 3: field is immutable"]);
    let p = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
    let found = api.patch("merge", &path, p).await.causes();
    assert!(
        found.len() == 1
            && found[0].starts_with("spec.template: Invalid value: ")
            && found[0].ends_with(": field is immutable")
    );
}

#[tokio::test]
async fn broken_jobs_are_refused_with_the_known_path_and_words() {
    let api = Api::new().await;
    let template =
        |policy: &str| json!({"spec": {"containers": [{"name": "a", "image": "a"}], "restartPolicy": policy}});
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let cases = [
        (
            json!({"template": template("Always")}),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            rule(json!({"action": "FailJob"})),
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (
            rule(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}})),
            "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        ),
        (
            rule(json!({"action": "Odd", "onPodConditions": [{"type": "DisruptionTarget"}]})),
            "spec.podFailurePolicy.rules[0].action: Unsupported value: \"Odd\": supported values: \"Count\", \"FailIndex\", \
             \"FailJob\", \"Ignore\"",
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-9"}]}})),
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-9\": error parsing succeededIndexes: too large \
             index: \"9\"",
        ),
        (
            json!({"managedBy": "me"}),
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    ];
    for (spec, cause) in cases {
        let answer = api.post(&format!("{BATCH}/jobs"), job("bad", spec.clone())).await;
        assert_eq!(answer.causes(), [cause], "{spec}");
    }
}

#[tokio::test]
async fn the_end_of_a_job_is_told_whole_and_for_good() {
    let api = Api::new().await;
    api.post(&format!("{BATCH}/jobs"), job("pi", json!({}))).await.good();
    let path = format!("{BATCH}/jobs/pi/status");
    let conditions = |kinds: &[&str]| -> Value { kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect() };
    let start = json!({"startTime": "2026-01-02T03:00:00Z", "active": 1});
    api.patch("merge", &path, json!({"status": start})).await.good();
    let early = json!({"status": {"conditions": conditions(&["Complete"])}});
    assert_eq!(
        api.patch("merge", &path, early).await.causes(),
        [
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ]
    );
    let done = json!({"active": 0, "succeeded": 1, "completionTime": "2026-01-02T03:02:05Z",
        "conditions": conditions(&["SuccessCriteriaMet", "Complete"])});
    api.patch("merge", &path, json!({"status": done})).await.good();
    let back = json!({"status": {"conditions": [], "succeeded": 0}});
    let found = api.patch("merge", &path, back).await.causes();
    assert!(
        found.contains(&"status.conditions: Invalid value: cannot disable the terminal Complete=True condition".into())
    );
    let row = api.row(&format!("{BATCH}/jobs/pi")).await;
    assert_eq!(
        (&row["Status"], &row["Completions"], &row["Duration"]),
        (&json!("Complete"), &json!("1/1"), &json!("2m5s"))
    );
}

fn cron(name: &str, more: Value) -> Value {
    let mut spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job("x", json!({}))["spec"]}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn jobs_by_the_clock_have_schedules_and_zones_that_are_some() {
    let api = Api::new().await;
    let path = format!("{BATCH}/cronjobs");
    let made = api.post(&path, cron("hello", json!({"timeZone": "Europe/Berlin"}))).await.good();
    let spec = &made["spec"];
    assert_eq!((&spec["concurrencyPolicy"], &spec["suspend"]), (&json!("Allow"), &json!(false)));
    assert_eq!((&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]), (&json!(3), &json!(1)));
    let cases = [
        (json!({"schedule": ""}), "spec.schedule: Required value"),
        (
            json!({"schedule": "* * *"}),
            "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
        ),
        (
            json!({"schedule": "TZ=UTC 0 * * * *"}),
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ),
        (json!({"timeZone": "Mars/Base"}), "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"),
        (
            json!({"concurrencyPolicy": "Maybe"}),
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ),
    ];
    for (more, cause) in cases {
        assert_eq!(api.post(&path, cron("bad", more.clone())).await.causes(), [cause], "{more}");
    }
    let long = api.post(&path, cron(&"x".repeat(53), json!({}))).await;
    assert!(long.causes()[0].ends_with("must be no more than 52 characters"));
    let row = api.row(&format!("{path}/hello")).await;
    assert_eq!(row["Timezone"], "Europe/Berlin");
    assert_eq!(
        (&row["Suspend"], &row["Active"], &row["Last Schedule"]),
        (&json!("False"), &json!(0), &json!("<none>"))
    );
}

fn scaler(more: Value) -> Value {
    let mut spec =
        json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 10});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": "web"}, "spec": spec})
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let api = Api::new().await;
    let made = api.post(SCALERS_V1, scaler(json!({"targetCPUUtilizationPercentage": 50}))).await.good();
    assert_eq!((&made["apiVersion"], &made["spec"]["minReplicas"]), (&json!("autoscaling/v1"), &json!(1)));
    let second = api.get(&format!("{SCALERS_V2}/web")).await.good();
    let target = json!({"type": "Utilization", "averageUtilization": 50});
    assert_eq!(second["spec"]["metrics"], json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    for path in [SCALERS_V1, SCALERS_V2] {
        let row = api.row(&format!("{path}/web")).await;
        assert_eq!(
            (&row["Reference"], &row["Targets"]),
            (&json!("Deployment/web"), &json!("cpu: <unknown>/50%")),
            "{path}"
        );
        assert_eq!((&row["MinPods"], &row["MaxPods"], &row["Replicas"]), (&json!("1"), &json!(10), &json!(0)));
    }
    let p = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}});
    let changed = api.patch("merge", &format!("{SCALERS_V2}/web"), p).await.good();
    let policies = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
    let down = json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": policies});
    assert_eq!(changed["spec"]["behavior"]["scaleDown"], down);
    let first = api.get(&format!("{SCALERS_V1}/web")).await.good();
    let noted = first["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(noted).unwrap()["scaleDown"], down);
}

#[tokio::test]
async fn broken_autoscalers_are_refused_with_the_known_path_and_words() {
    let api = Api::new().await;
    let metric = |metric: Value| json!({"metrics": [metric]});
    let cases = [
        (
            json!({"maxReplicas": 0, "minReplicas": null}),
            "spec.maxReplicas: Required value: must be set and greater than 0",
        ),
        (json!({"minReplicas": 0}), "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
        (
            json!({"minReplicas": 11}),
            "spec.maxReplicas: Invalid value: 10: must be greater than or equal to `minReplicas`",
        ),
        (
            json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}}),
            "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group",
        ),
        (
            metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}})),
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target \
             utilization",
        ),
        (
            metric(
                json!({"type": "Pods", "pods": {"metric": {"name": "a"}, "target": {"type": "AverageValue", "averageValue": "0"}}}),
            ),
            "spec.metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive",
        ),
        (
            json!({"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}}}),
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
        ),
    ];
    for (spec, cause) in cases {
        let found = api.post(SCALERS_V2, scaler(spec.clone())).await.causes();
        assert_eq!(found.first().map(String::as_str), Some(cause), "{spec} {found:?}");
    }
}

#[tokio::test]
async fn a_budget_says_one_of_two_things() {
    let api = Api::new().await;
    let both =
        json!({"metadata": {"name": "zk"}, "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": selector()}});
    let found = api.post(BUDGETS, both).await.causes();
    assert!(
        found[0].starts_with("spec: Invalid value: ")
            && found[0].ends_with(": minAvailable and maxUnavailable cannot be both set")
    );
    let much = json!({"metadata": {"name": "zk"}, "spec": {"minAvailable": "101%", "selector": selector()}});
    assert_eq!(
        api.post(BUDGETS, much).await.causes(),
        ["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"]
    );
    let good = json!({"metadata": {"name": "zk"}, "spec": {"minAvailable": 2, "selector": selector()}});
    let made = api.post(BUDGETS, good).await.good();
    assert_eq!(
        made["status"],
        json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
    );
    let row = api.row(&format!("{BUDGETS}/zk")).await;
    assert_eq!(
        (&row["Min Available"], &row["Max Unavailable"], &row["Allowed Disruptions"]),
        (&json!("2"), &json!("N/A"), &json!(0))
    );
}
