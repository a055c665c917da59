//! The controllers of pods: defaults, rules, what may change, scale, and rows of tables.

use crate::common;

use common::Api;
use serde_json::{Value, json};

const APPS: &str = "/apis/apps/v1/namespaces/default";

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "nginx"}},
        "spec": {"containers": [{"name": "nginx", "image": "nginx:1.14.2", "ports": [{"containerPort": 80}]}]},
    })
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "nginx"}})
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
    let found = api.patch("merge", &format!("{path}/status"), status).await.causes();
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
        assert_eq!(answer.causes(), [cause], "{plural} {spec}");
    }
    let template = json!({"metadata": {"name": "bad"}, "template": {"spec": {"containers": []}}});
    let answer = api.post("/api/v1/namespaces/default/podtemplates", template).await;
    assert_eq!(answer.causes(), ["template.spec.containers: Required value"]);
}

#[tokio::test]
async fn a_selector_and_most_of_a_stateful_set_stay() {
    let api = Api::new().await;
    deployment(&api).await;
    let p = json!({"spec": {"selector": {"matchLabels": {"tier": "x"}}, "template": {"metadata": {"labels": {"tier": "x"}}}}});
    let found = api.patch("merge", &format!("{APPS}/deployments/web"), p).await.causes();
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
    let found = api.patch("merge", &path, json!({"spec": {"serviceName": "other"}})).await.causes();
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
    assert_eq!(bad.causes(), ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
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

#[tokio::test]
async fn rows_of_controllers_are_those_that_kubectl_shows() {
    let api = Api::new().await;
    deployment(&api).await;
    let path = format!("{APPS}/deployments/web");
    let status = json!({"status": {"replicas": 3, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 1}});
    api.patch("merge", &format!("{path}/status"), status).await.good();
    assert_eq!(
        api.row(&path).await,
        json!({"Name": "web", "Ready": "2/3", "Up-to-date": 2, "Available": 1, "Age": "0s", "Containers": "nginx",
            "Images": "nginx:1.14.2", "Selector": "app=nginx"})
    );
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true});
    let revision = json!({"metadata": {"name": "r", "ownerReferences": [owner]}, "revision": 3, "data": {"a": 1}});
    let revisions = format!("{APPS}/controllerrevisions");
    api.post(&revisions, revision).await.good();
    let row = api.row(&format!("{revisions}/r")).await;
    assert_eq!((&row["Controller"], &row["Revision"]), (&json!("statefulset.apps/db"), &json!(3)));
    let found = api.patch("merge", &format!("{revisions}/r"), json!({"data": {"a": 2}})).await.causes();
    assert_eq!(found, ["data: Invalid value: {\"a\":2}: field is immutable"]);
    let bad = json!({"metadata": {"name": "r2"}, "revision": 1});
    assert_eq!(api.post(&revisions, bad).await.causes(), ["data: Required value: data is mandatory"]);
}
