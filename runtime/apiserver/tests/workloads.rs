//! What makes pods: defaults, rules, what may change, scale, and rows of tables.

mod common;

use common::{Answer, Api, admin};
use serde_json::{Value, json};

const APPS: &str = "/apis/apps/v1/namespaces/default";
const BATCH: &str = "/apis/batch/v1/namespaces/default";
const SCALERS_V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const SCALERS_V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "nginx"}},
        "spec": {"containers": [{"name": "nginx", "image": "nginx:1.14.2", "ports": [{"containerPort": 80}]}]},
    })
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "nginx"}})
}

/// The causes of a refusal, as `field: message`.
fn causes(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.code, 422, "{}", answer.text());
    let status = answer.json();
    let causes = status["details"]["causes"].as_array().unwrap();
    let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
    causes.iter().map(|c| format!("{}: {}", text(c, "field"), text(c, "message"))).collect()
}

async fn row(api: &Api, path: &str) -> Value {
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.send(admin(), "GET", path, &accept, Value::Null).await.good();
    let names: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(names.len(), cells.len());
    names.iter().zip(cells).map(|(n, c)| ((*n).to_owned(), c.clone())).collect::<serde_json::Map<_, _>>().into()
}

async fn deployment(api: &Api) -> Value {
    let spec = json!({"replicas": 3, "selector": selector(), "template": template()});
    let object = json!({"metadata": {"name": "web", "labels": {"app": "nginx"}}, "spec": spec});
    api.post(&format!("{APPS}/deployments"), object).await.good()
}

#[tokio::test]
async fn a_deployment_of_the_documentation_gets_its_defaults_and_counts_its_changes() {
    let api = Api::new().await;
    let made = deployment(&api).await;
    let spec = &made["spec"];
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    assert!(spec["template"]["spec"].get("enableServiceLinks").is_none(), "pods only");
    assert_eq!((&made["metadata"]["generation"], &made["status"]), (&json!(1), &json!({})));
    let path = format!("{APPS}/deployments/web");
    let noted = api.patch("merge", &path, json!({"metadata": {"annotations": {"a": "b"}}})).await.good();
    assert_eq!(noted["metadata"]["generation"], 2);
    let labelled = api.patch("merge", &path, json!({"metadata": {"labels": {"a": "b"}}})).await.good();
    assert_eq!(labelled["metadata"]["generation"], 2);
    let status = json!({"status": {"replicas": 1, "readyReplicas": 2}, "metadata": {"labels": {"c": "d"}}});
    let found = causes(&api.patch("merge", &format!("{path}/status"), status).await);
    assert_eq!(found, ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]);
}

#[tokio::test]
async fn controllers_are_refused_with_the_known_path_and_words() {
    let api = Api::new().await;
    let with = |more: Value| {
        let mut spec = json!({"selector": selector(), "template": template()});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let other = json!({"matchLabels": {"app": "other"}});
    let mismatch = "Invalid value: {\"app\":\"nginx\"}: `selector` does not match template `labels`";
    let never = {
        let mut template = template();
        template["spec"]["restartPolicy"] = json!("Never");
        template
    };
    let policy = "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"";
    let cases = [
        ("deployments", with(json!({"selector": other})), format!("spec.template.metadata.labels: {mismatch}")),
        ("deployments", with(json!({"replicas": -1})), "spec.replicas: Invalid value: -1: must be greater than or equal to 0".into()),
        ("deployments", with(json!({"template": never})), policy.into()),
        (
            "deployments",
            with(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'".into(),
        ),
        (
            "deployments",
            with(json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}})),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0".into(),
        ),
        (
            "deployments",
            with(json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5})),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds".into(),
        ),
        ("replicasets", with(json!({"selector": other})), format!("spec.template.metadata.labels: {mismatch}")),
        (
            "daemonsets",
            with(json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}})),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero".into(),
        ),
        (
            "statefulsets",
            with(json!({"podManagementPolicy": "Odd"})),
            "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'".into(),
        ),
        (
            "statefulsets",
            with(json!({"volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]})),
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value".into(),
        ),
    ];
    for (plural, spec, cause) in cases {
        let answer = api.post(&format!("{APPS}/{plural}"), json!({"metadata": {"name": "bad"}, "spec": spec})).await;
        assert_eq!(causes(&answer), [cause], "{plural} {spec}");
    }
    let template = json!({"metadata": {"name": "bad"}, "template": {"spec": {"containers": []}}});
    let answer = api.post("/api/v1/namespaces/default/podtemplates", template).await;
    assert_eq!(causes(&answer), ["template.spec.containers: Required value"]);
}

#[tokio::test]
async fn a_selector_and_most_of_a_stateful_set_stay() {
    let api = Api::new().await;
    deployment(&api).await;
    let p = json!({"spec": {"selector": {"matchLabels": {"tier": "x"}}, "template": {"metadata": {"labels": {"tier": "x"}}}}});
    let found = causes(&api.patch("merge", &format!("{APPS}/deployments/web"), p).await);
    let shown = "{\"matchLabels\":{\"app\":\"nginx\",\"tier\":\"x\"}}";
    assert_eq!(found, [format!("spec.selector: Invalid value: {shown}: field is immutable")]);
    let claim = json!({"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}});
    let mut mounts = template();
    mounts["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/usr/share/nginx/html"}]);
    let spec =
        json!({"serviceName": "nginx", "selector": selector(), "template": mounts, "volumeClaimTemplates": [claim]});
    let made =
        api.post(&format!("{APPS}/statefulsets"), json!({"metadata": {"name": "db"}, "spec": spec})).await.good();
    let claim = &made["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!((&claim["kind"], &claim["status"]["phase"]), (&json!("PersistentVolumeClaim"), &json!("Pending")));
    let path = format!("{APPS}/statefulsets/db");
    api.patch("merge", &path, json!({"spec": {"replicas": 2}})).await.good();
    let found = causes(&api.patch("merge", &path, json!({"spec": {"serviceName": "other"}})).await);
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
               'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    assert_eq!(found, [format!("spec: Forbidden: {why}")]);
}

#[tokio::test]
async fn a_daemon_set_counts_the_changes_of_its_template() {
    let api = Api::new().await;
    let spec = json!({"selector": selector(), "template": template()});
    let made = api.post(&format!("{APPS}/daemonsets"), json!({"metadata": {"name": "d"}, "spec": spec})).await.good();
    let generation = |o: &Value| o["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    assert_eq!(generation(&made), "1");
    assert_eq!(made["status"]["desiredNumberScheduled"], 0);
    let p = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}});
    let changed = api.patch("merge", &format!("{APPS}/daemonsets/d"), p).await.good();
    assert_eq!(generation(&changed), "2");
}

#[tokio::test]
async fn the_oldest_controller_selects_the_labels_of_its_template() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/replicationcontrollers";
    let object = json!({"metadata": {"name": "rc"}, "spec": {"template": template()}});
    let made = api.post(path, object).await.good();
    assert_eq!((&made["spec"]["selector"], &made["spec"]["replicas"]), (&json!({"app": "nginx"}), &json!(1)));
    assert_eq!(made["metadata"]["labels"], json!({"app": "nginx"}));
    let scale = api.get(&format!("{path}/rc/scale")).await.good();
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=nginx"}));
}

#[tokio::test]
async fn a_scale_is_read_and_written_for_its_parent() {
    let api = Api::new().await;
    let parent = deployment(&api).await;
    let path = format!("{APPS}/deployments/web/scale");
    let scale = api.get(&path).await.good();
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .into_iter()
        .map(|k| (k.to_owned(), parent["metadata"][k].clone()))
        .collect();
    assert_eq!(
        scale,
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {"replicas": 3},
            "status": {"replicas": 0, "selector": "app=nginx"}})
    );
    let mut more = scale.clone();
    more["spec"]["replicas"] = json!(5);
    let done = api.put(&path, more.clone()).await.good();
    assert_eq!(done["spec"]["replicas"], 5);
    let object = api.get(&format!("{APPS}/deployments/web")).await.good();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(5), &json!(2)));
    let owners = object["metadata"]["managedFields"].as_array().unwrap();
    assert!(owners.iter().any(|o| o["subresource"] == "scale" && o["fieldsV1"]["f:spec"]["f:replicas"].is_object()));
    let stale = api.put(&path, more.clone()).await;
    assert!(
        stale
            .failed(409)
            .ends_with("the object has been modified; please apply your changes to the latest version and try again")
    );
    let patched = api.patch("merge", &path, json!({"spec": {"replicas": 2}})).await.good();
    assert_eq!(patched["spec"]["replicas"], 2);
    let bad = api.patch("strategic-merge", &path, json!({"spec": {"replicas": -1}})).await;
    assert_eq!(causes(&bad), ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
    let nameless = json!({"metadata": {"name": "other"}, "spec": {"replicas": 1}});
    assert_eq!(
        api.put(&path, nameless).await.failed(400),
        "the name of the object (other) does not match the name on the URL (web)"
    );
    assert_eq!(
        api.get(&format!("{APPS}/deployments/none/scale")).await.failed(404),
        "deployments.apps \"none\" not found"
    );
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
    let found = causes(&api.patch("merge", &path, json!({"spec": {"completions": 3}})).await);
    assert_eq!(found, ["spec.completions: Invalid value: 3: field is immutable"]);
    let p = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
    let found = causes(&api.patch("merge", &path, p).await);
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
        assert_eq!(causes(&answer), [cause], "{spec}");
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
        causes(&api.patch("merge", &path, early).await),
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
    let found = causes(&api.patch("merge", &path, back).await);
    assert!(
        found.contains(&"status.conditions: Invalid value: cannot disable the terminal Complete=True condition".into())
    );
    let row = row(&api, &format!("{BATCH}/jobs/pi")).await;
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
        assert_eq!(causes(&api.post(&path, cron("bad", more.clone())).await), [cause], "{more}");
    }
    let long = api.post(&path, cron(&"x".repeat(53), json!({}))).await;
    assert!(causes(&long)[0].ends_with("must be no more than 52 characters"));
    let row = row(&api, &format!("{path}/hello")).await;
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
        let row = row(&api, &format!("{path}/web")).await;
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
        let found = causes(&api.post(SCALERS_V2, scaler(spec.clone())).await);
        assert_eq!(found.first().map(String::as_str), Some(cause), "{spec} {found:?}");
    }
}

#[tokio::test]
async fn a_budget_says_one_of_two_things() {
    let api = Api::new().await;
    let both =
        json!({"metadata": {"name": "zk"}, "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": selector()}});
    let found = causes(&api.post(BUDGETS, both).await);
    assert!(
        found[0].starts_with("spec: Invalid value: ")
            && found[0].ends_with(": minAvailable and maxUnavailable cannot be both set")
    );
    let much = json!({"metadata": {"name": "zk"}, "spec": {"minAvailable": "101%", "selector": selector()}});
    assert_eq!(
        causes(&api.post(BUDGETS, much).await),
        ["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"]
    );
    let good = json!({"metadata": {"name": "zk"}, "spec": {"minAvailable": 2, "selector": selector()}});
    let made = api.post(BUDGETS, good).await.good();
    assert_eq!(
        made["status"],
        json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
    );
    let row = row(&api, &format!("{BUDGETS}/zk")).await;
    assert_eq!(
        (&row["Min Available"], &row["Max Unavailable"], &row["Allowed Disruptions"]),
        (&json!("2"), &json!("N/A"), &json!(0))
    );
}

#[tokio::test]
async fn rows_of_controllers_are_those_that_kubectl_shows() {
    let api = Api::new().await;
    deployment(&api).await;
    let path = format!("{APPS}/deployments/web");
    let status = json!({"status": {"replicas": 3, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 1}});
    api.patch("merge", &format!("{path}/status"), status).await.good();
    assert_eq!(
        row(&api, &path).await,
        json!({"Name": "web", "Ready": "2/3", "Up-to-date": 2, "Available": 1, "Age": "0s", "Containers": "nginx",
            "Images": "nginx:1.14.2", "Selector": "app=nginx"})
    );
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true});
    let revision = json!({"metadata": {"name": "r", "ownerReferences": [owner]}, "revision": 3, "data": {"a": 1}});
    let revisions = format!("{APPS}/controllerrevisions");
    api.post(&revisions, revision).await.good();
    let row = row(&api, &format!("{revisions}/r")).await;
    assert_eq!((&row["Controller"], &row["Revision"]), (&json!("statefulset.apps/db"), &json!(3)));
    let found = causes(&api.patch("merge", &format!("{revisions}/r"), json!({"data": {"a": 2}})).await);
    assert_eq!(found, ["data: Invalid value: {\"a\":2}: field is immutable"]);
    let bad = json!({"metadata": {"name": "r2"}, "revision": 1});
    assert_eq!(causes(&api.post(&revisions, bad).await), ["data: Required value: data is mandatory"]);
}
