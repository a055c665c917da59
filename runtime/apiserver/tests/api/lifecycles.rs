//! Every kind through all verbs: created, read, listed, watched, patched, replaced, its status written apart, deleted alone and
//! as a collection.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::{Api, b64, names, revision};
use serde_json::{Value, json};

/// A kind, as the table below tells of it.
struct Row {
    /// Group and version as in the path: `/apis/apps/v1`.
    base: &'static str,
    plural: &'static str,
    namespaced: bool,
    /// What is to be said besides metadata.
    body: Value,
    /// What a writer of the status says; nothing if the kind has none.
    status: Value,
    /// The server itself follows each creation up with a write of the status.
    followed_up: bool,
}

fn row(base: &'static str, plural: &'static str, body: Value) -> Row {
    Row { base, plural, namespaced: true, body, status: Value::Null, followed_up: false }
}

impl Row {
    fn of_cluster(self) -> Self {
        Self { namespaced: false, ..self }
    }

    fn with_status(self, status: Value) -> Self {
        Self { status, ..self }
    }

    fn followed_up(self) -> Self {
        Self { followed_up: true, ..self }
    }

    fn everywhere(&self) -> String {
        format!("{}/{}", self.base, self.plural)
    }

    fn here(&self) -> String {
        match self.namespaced {
            true => format!("{}/namespaces/default/{}", self.base, self.plural),
            false => self.everywhere(),
        }
    }

    fn object(&self, name: &str) -> Value {
        let mut object = self.body.clone();
        object["metadata"] = json!({"name": name, "labels": {"l": "x"}});
        object
    }
}

const SELECTED: &str = "labelSelector=l%3Dx";

/// What is said of an object apart from its metadata.
fn said(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("metadata");
    object
}

/// True if `part` is in `whole`, with what else there may be.
fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(k, v)| whole.get(k).is_some_and(|w| has(w, v)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(w, p)| has(w, p))
        }
        _ => whole == part,
    }
}

async fn lives(row: &Row) {
    let api = Api::new().await;
    let (here, all) = (row.here(), row.everywhere());
    let group = api.get(row.base).await.good();
    assert!(group["resources"].as_array().unwrap().iter().any(|r| r["name"] == row.plural), "{}", row.plural);
    let start = revision(&api.get(&all).await.good());
    let mut watch = api.watch(&format!("{all}?watch=1&{SELECTED}&resourceVersion={start}")).await;

    // Names that every kind takes: an address is named as it is written.
    let [first, second, third] = if row.plural == "ipaddresses" {
        ["192.168.1.5", "192.168.1.6", "192.168.1.7"]
    } else {
        ["first", "second", "third"]
    };
    let one = format!("{here}/{first}");
    let mut made = api.post(&here, row.object(first)).await.good();
    let mut events = vec![format!("MODIFIED {first}"), format!("MODIFIED {first}")];
    assert_eq!(watch.brief().await, format!("ADDED {first}"));
    if row.followed_up {
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "MODIFIED");
        made = event["object"].clone();
    }
    assert_eq!(api.get(&one).await.good(), made);
    assert!(has(&said(&made), &row.body), "{made}");
    assert_eq!(api.post(&here, row.object(first)).await.json()["reason"], "AlreadyExists");
    for list in [&here, &all] {
        let list = api.get(&format!("{list}?{SELECTED}")).await.good();
        assert_eq!((names(&list), list["kind"].as_str().unwrap().ends_with("List")), (vec![first], true));
    }

    let patched = api.patch("merge", &one, json!({"metadata": {"annotations": {"patched": "yes"}}})).await.good();
    assert_eq!(patched["metadata"]["annotations"]["patched"], "yes");
    assert_eq!(said(&patched), said(&made));
    let mut next = patched.clone();
    next["metadata"]["annotations"]["updated"] = "yes".into();
    let updated = api.put(&one, next.clone()).await.good();
    assert_eq!(updated["metadata"]["annotations"]["updated"], "yes");
    next["metadata"]["annotations"]["updated"] = "late".into();
    assert_eq!(api.put(&one, next).await.json()["reason"], "Conflict");

    if !row.status.is_null() {
        let part = format!("{one}/status");
        let patch = json!({"status": row.status, "metadata": {"annotations": {"by-status": "yes"}}});
        let written = api.patch("merge", &part, patch).await.good();
        assert!(has(&written["status"], &row.status), "{written}");
        assert_eq!(written.get("spec"), updated.get("spec"));
        assert_eq!(api.get(&part).await.good()["status"], written["status"]);
        // A writer of the rest leaves it alone.
        let same = api.patch("merge", &one, json!({"status": null, "metadata": {"labels": {"m": "y"}}})).await.good();
        assert_eq!(same["status"], written["status"]);
        let replaced = api.put(&part, same).await.good();
        assert_eq!(replaced["status"], written["status"]);
        events.extend([format!("MODIFIED {first}"), format!("MODIFIED {first}")]);
    }

    // What is kept while it is in use is let go by controllers, which are not here.
    let free = async |path: &str, object: &Value| {
        if object["metadata"].get("finalizers").is_none() {
            return 0;
        }
        api.patch("merge", path, json!({"metadata": {"finalizers": null}})).await.good();
        1
    };
    events.extend(vec![format!("MODIFIED {first}"); free(&one, &made).await]);
    // Jobs leave their pods behind unless they are told otherwise.
    api.delete(&format!("{one}?propagationPolicy=Background")).await.good();
    assert_eq!(api.get(&one).await.json()["reason"], "NotFound");
    events.push(format!("DELETED {first}"));
    for name in [second, third] {
        let made = api.post(&here, row.object(name)).await.good();
        events.push(format!("ADDED {name}"));
        events.extend(vec![format!("MODIFIED {name}"); free(&format!("{here}/{name}"), &made).await]);
    }
    api.delete(&format!("{here}?{SELECTED}&propagationPolicy=Background")).await.good();
    assert!(names(&api.get(&format!("{all}?{SELECTED}")).await.good()).is_empty());
    events.extend([format!("DELETED {second}"), format!("DELETED {third}")]);
    for event in events {
        let mut found = watch.brief().await;
        // Those that are deleted at once may have been followed up before.
        while row.followed_up && [second, third].iter().any(|name| found == format!("MODIFIED {name}")) {
            found = watch.brief().await;
        }
        assert_eq!(found, event, "{}", row.plural);
    }
}

async fn live(rows: &[Row]) {
    for row in rows {
        lives(row).await;
    }
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Test", "message": "seen", "lastTransitionTime": "2026-01-02T03:04:05Z"})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}

#[tokio::test]
async fn core_kinds_live_through_all_verbs() {
    let address = json!({"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80, "protocol": "TCP"}]});
    let event = json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "r", "type": "Normal"});
    live(&[
        row("/api/v1", "configmaps", json!({"data": {"k": "v"}, "binaryData": {"b": b64("x")}})),
        row("/api/v1", "secrets", json!({"data": {"k": b64("v")}, "type": "Opaque"})),
        row("/api/v1", "serviceaccounts", json!({"automountServiceAccountToken": false})),
        row("/api/v1", "endpoints", json!({"subsets": [address]})),
        row("/api/v1", "podtemplates", json!({"template": template()})),
        row("/api/v1", "limitranges", json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}})),
        row("/api/v1", "events", event),
        row(
            "/api/v1",
            "services",
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "selector": {"app": "x"}}}),
        )
        .with_status(json!({"conditions": [condition("Up")]})),
        row(
            "/api/v1",
            "replicationcontrollers",
            json!({"spec": {"replicas": 2, "selector": {"app": "x"}, "template": template()}}),
        )
        .with_status(json!({"replicas": 1, "readyReplicas": 1})),
        row("/api/v1", "nodes", json!({"spec": {"unschedulable": true}}))
            .of_cluster()
            .with_status(json!({"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "4"}})),
        row(
            "/api/v1",
            "persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/data"}, "persistentVolumeReclaimPolicy": "Retain"}}),
        )
        .of_cluster()
        .with_status(json!({"phase": "Failed", "reason": "Test", "message": "seen"})),
        row(
            "/api/v1",
            "persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        )
        .with_status(json!({"conditions": [{"type": "Resizing", "status": "True"}]})),
    ])
    .await;
}

#[tokio::test]
async fn workloads_and_policies_live_through_all_verbs() {
    let job = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}}}});
    let controller = json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template()}});
    live(&[
        row("/apis/apps/v1", "deployments", controller.clone()).with_status(json!({"replicas": 1, "conditions": [condition("Progressing")]})),
        row("/apis/apps/v1", "replicasets", controller.clone()).with_status(json!({"replicas": 1})),
        row("/apis/apps/v1", "daemonsets", controller.clone())
            .with_status(json!({"currentNumberScheduled": 1, "numberMisscheduled": 0, "desiredNumberScheduled": 1, "numberReady": 0})),
        row("/apis/apps/v1", "statefulsets", controller).with_status(json!({"replicas": 1})),
        row("/apis/apps/v1", "controllerrevisions", json!({"data": {"any": 1}, "revision": 1})),
        row("/apis/batch/v1", "jobs", job.clone()).with_status(json!({"active": 1, "startTime": "2026-01-02T03:04:05Z"})),
        row("/apis/batch/v1", "cronjobs", json!({"spec": {"schedule": "* */1 * * ?", "jobTemplate": job}}))
            .with_status(json!({"lastScheduleTime": "2026-01-02T03:04:05Z"})),
        row("/apis/policy/v1", "poddisruptionbudgets", json!({"spec": {"minAvailable": "1%", "selector": {"matchLabels": {"a": "b"}}}}))
            .with_status(json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1})),
        row("/apis/autoscaling/v2", "horizontalpodautoscalers", json!({"spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}))
        .with_status(json!({"currentReplicas": 1, "desiredReplicas": 2})),
        row("/apis/scheduling.k8s.io/v1", "priorityclasses", json!({"value": 10})).of_cluster(),
        row("/apis/node.k8s.io/v1", "runtimeclasses", json!({"handler": "runc"})).of_cluster(),
        row("/apis/flowcontrol.apiserver.k8s.io/v1", "flowschemas", json!({"spec": {"matchingPrecedence": 10000,
            "priorityLevelConfiguration": {"name": "global-default"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "example"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}]}]}}))
        .of_cluster()
        .with_status(json!({"conditions": [{"type": "Dangling", "status": "False", "reason": "Found",
            "message": "This FlowSchema references the PriorityLevelConfiguration object named \"global-default\" and it exists",
            "lastTransitionTime": "2026-01-02T03:04:06Z"}]}))
        .followed_up(),
        row("/apis/flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", json!({"spec": {"type": "Limited",
            "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}))
        .of_cluster()
        .with_status(json!({"conditions": [condition("Test")]})),
    ])
    .await;
}

#[tokio::test]
async fn network_kinds_live_through_all_verbs() {
    let slice =
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}], "ports": [{"name": "p", "port": 80}]});
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    live(&[
        row("/apis/discovery.k8s.io/v1", "endpointslices", slice),
        row("/apis/networking.k8s.io/v1", "ingresses", json!({"spec": {"defaultBackend": backend}}))
            .with_status(json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}})),
        row("/apis/networking.k8s.io/v1", "ingressclasses", json!({"spec": {"controller": "example.com/controller"}}))
            .of_cluster(),
        row(
            "/apis/networking.k8s.io/v1",
            "networkpolicies",
            json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
        ),
        row(
            "/apis/networking.k8s.io/v1",
            "ipaddresses",
            json!({"spec": {"parentRef": {"resource": "services",
            "namespace": "default", "name": "s"}}}),
        )
        .of_cluster(),
        row("/apis/networking.k8s.io/v1", "servicecidrs", json!({"spec": {"cidrs": ["10.196.196.0/24"]}}))
            .of_cluster()
            .with_status(json!({"conditions": [condition("Ready")]})),
        row(
            "/apis/coordination.k8s.io/v1",
            "leases",
            json!({"spec": {"holderIdentity": "h", "leaseDurationSeconds": 30}}),
        ),
    ])
    .await;
}

#[tokio::test]
async fn storage_and_device_kinds_live_through_all_verbs() {
    let request = json!({"name": "r", "exactly": {"deviceClassName": "c"}});
    live(&[
        row(
            "/apis/storage.k8s.io/v1",
            "storageclasses",
            json!({"provisioner": "example.com/p", "parameters": {"a": "b"}}),
        )
        .of_cluster(),
        row(
            "/apis/storage.k8s.io/v1",
            "volumeattributesclasses",
            json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        )
        .of_cluster(),
        row(
            "/apis/storage.k8s.io/v1",
            "csidrivers",
            json!({"spec": {"attachRequired": false, "podInfoOnMount": true}}),
        )
        .of_cluster(),
        row("/apis/storage.k8s.io/v1", "csinodes", json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}}))
            .of_cluster(),
        row(
            "/apis/storage.k8s.io/v1",
            "csistoragecapacities",
            json!({"storageClassName": "example", "capacity": "1Gi"}),
        ),
        row(
            "/apis/storage.k8s.io/v1",
            "volumeattachments",
            json!({"spec": {"attacher": "example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}}),
        )
        .of_cluster()
        .with_status(json!({"attached": true})),
        row(
            "/apis/resource.k8s.io/v1",
            "deviceclasses",
            json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}),
        )
        .of_cluster(),
        row("/apis/resource.k8s.io/v1", "resourceclaims", json!({"spec": {"devices": {"requests": [request]}}}))
            .with_status(json!({})),
        row(
            "/apis/resource.k8s.io/v1",
            "resourceclaimtemplates",
            json!({"spec": {"spec": {"devices": {"requests": [request]}}}}),
        ),
        row(
            "/apis/resource.k8s.io/v1",
            "resourceslices",
            json!({"spec": {"driver": "example.com", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}),
        )
        .of_cluster(),
    ])
    .await;
}

#[tokio::test]
async fn rights_live_through_all_verbs() {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    let bind = |kind: &str| {
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "r"},
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]})
    };
    live(&[
        row(rbac, "roles", rules.clone()),
        row(rbac, "clusterroles", rules).of_cluster(),
        row(rbac, "rolebindings", bind("Role")),
        row(rbac, "clusterrolebindings", bind("ClusterRole")).of_cluster(),
    ])
    .await;
}

#[tokio::test]
async fn a_namespace_is_patched_replaced_finalized_and_has_a_status_of_its_own() {
    let api = Api::new().await;
    let (all, one) = ("/api/v1/namespaces", "/api/v1/namespaces/n");
    api.post(all, json!({"metadata": {"name": "n"}})).await.good();
    let mut found = api.patch("strategic-merge", one, json!({"metadata": {"labels": {"a": "b"}}})).await.good();
    assert_eq!(found["metadata"]["labels"], json!({"a": "b", "kubernetes.io/metadata.name": "n"}));
    found["metadata"]["labels"]["a"] = "c".into();
    let found = api.put(one, found).await.good();
    assert_eq!(found["metadata"]["labels"]["a"], "c");
    let status = json!({"status": {"conditions": [condition("StatusPatch")]}});
    let mut found = api.patch("merge", &format!("{one}/status"), status).await.good();
    assert_eq!(found["status"]["conditions"][0]["type"], "StatusPatch");
    found["status"]["conditions"][0]["type"] = "StatusUpdate".into();
    let found = api.put(&format!("{one}/status"), found).await.good();
    assert_eq!(
        (&found["status"]["conditions"][0]["type"], &found["status"]["phase"]),
        (&json!("StatusUpdate"), &json!("Active"))
    );
    let mut found = api.get(one).await.good();
    for finalizers in [json!(["kubernetes", "example.com/hold"]), json!(["kubernetes"])] {
        found["spec"]["finalizers"] = finalizers.clone();
        found = api.put(&format!("{one}/finalize"), found).await.good();
        assert_eq!(api.get(one).await.good()["spec"]["finalizers"], finalizers);
    }
}
