//! Volumes, claims, classes and drivers: what they are given and what they may not say.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::Api;
use serde_json::{Value, json};

const STORAGE: &str = "/apis/storage.k8s.io/v1";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

/// Posts each body, which must be refused with the complaint.
async fn all_refused(api: &Api, path: &str, kind: &str, name: &str, table: &[(Value, &str)]) {
    for (body, wanted) in table {
        let text = api.post(path, body.clone()).await.failed(422);
        assert_eq!(text, format!("{kind} {name:?} is invalid: {wanted}"), "{body}");
    }
}

fn volume(more: &Value) -> Value {
    let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "v"}, "spec": spec})
}

fn claim(more: &Value) -> Value {
    let mut spec = json!({"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": "c"}, "spec": spec})
}

#[tokio::test]
async fn a_volume_has_one_source_and_keeps_it() {
    let api = Api::new().await;
    let path = json!({"path": "/data"});
    let table: &[(Value, &str)] = &[
        (volume(&json!({})), "spec: Required value: must specify a volume type"),
        (
            volume(&json!({"hostPath": path, "nfs": {"server": "s", "path": "/"}})),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            volume(&json!({"hostPath": {"path": "/a/../b"}})),
            "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (volume(&json!({"local": path})), "spec.nodeAffinity: Required value: Local volume requires node affinity"),
        (volume(&json!({"hostPath": path, "accessModes": []})), "spec.accessModes: Required value"),
        (
            volume(&json!({"hostPath": path, "accessModes": ["ReadWriteOncePod", "ReadWriteMany"]})),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            volume(&json!({"hostPath": path, "capacity": {"storage": "0"}})),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            volume(&json!({"hostPath": path, "persistentVolumeReclaimPolicy": "Keep"})),
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
        ),
        (volume(&json!({"csi": {"driver": "d.example.org"}})), "spec.csi.volumeHandle: Required value"),
    ];
    all_refused(&api, VOLUMES, "PersistentVolume", "v", table).await;
    let made = api.post(VOLUMES, volume(&json!({"hostPath": path}))).await.good();
    assert_eq!(
        (
            &made["spec"]["persistentVolumeReclaimPolicy"],
            &made["spec"]["volumeMode"],
            &made["spec"]["hostPath"]["type"]
        ),
        (&json!("Retain"), &json!("Filesystem"), &json!(""))
    );
    assert_eq!(made["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-02T03:04:05Z"}));
    let one = format!("{VOLUMES}/v");
    let text = api.patch("merge", &one, json!({"spec": {"hostPath": {"path": "/other"}}})).await.failed(422);
    let why = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n@@ -1,6 +1,6 @@\n {\n  \"hostPath\": {\n-  \"path\": \"/data\",\n+  \"path\": \"/other\",\n   \"type\": \"\"\n  }\n }\n";
    assert_eq!(text, format!("PersistentVolume \"v\" is invalid: {why}"));
    api.advance(5);
    let bound = api.patch("merge", &format!("{one}/status"), json!({"status": {"phase": "Bound"}})).await.good();
    assert_eq!(bound["status"]["lastPhaseTransitionTime"], "2026-01-02T03:04:10Z");
}

#[tokio::test]
async fn a_claim_asks_for_storage_and_grows_once_it_is_bound() {
    let api = Api::new().await;
    let table: &[(Value, &str)] = &[
        (claim(&json!({"resources": {}})), "spec.resources[storage]: Required value"),
        (claim(&json!({"accessModes": []})), "spec.accessModes: Required value: at least 1 access mode is required"),
        (
            claim(&json!({"accessModes": ["Often"]})),
            "spec.accessModes: Unsupported value: \"Often\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
             \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            claim(&json!({"dataSourceRef": {"kind": "X", "name": "x"}})),
            "[spec.dataSource: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup, \
             spec.dataSourceRef: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup]",
        ),
    ];
    all_refused(&api, CLAIMS, "PersistentVolumeClaim", "c", table).await;
    let source = json!({"apiGroup": null, "kind": "PersistentVolumeClaim", "name": "other"});
    let made = api.post(CLAIMS, claim(&json!({"dataSource": source, "storageClassName": "fast"}))).await.good();
    assert_eq!((&made["spec"]["dataSourceRef"], &made["status"]), (&source, &json!({"phase": "Pending"})));
    let one = format!("{CLAIMS}/c");
    let grow = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let text = api.patch("merge", &one, grow("2Gi")).await.failed(422);
    assert!(text.contains("spec: Forbidden: spec is immutable after creation except resources.requests"), "{text}");
    api.patch("merge", &one, json!({"spec": {"volumeName": "v"}})).await.good();
    let status = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    api.patch("merge", &format!("{one}/status"), status).await.good();
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "example.org/p", "allowVolumeExpansion": false});
    api.post(&format!("{STORAGE}/storageclasses"), class).await.good();
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    let text = api.patch("merge", &one, grow("2Gi")).await.failed(403);
    assert_eq!(text, format!("persistentvolumeclaims \"c\" is forbidden: {why}"));
    let allowed = json!({"allowVolumeExpansion": true});
    api.patch("merge", &format!("{STORAGE}/storageclasses/fast"), allowed).await.good();
    api.patch("merge", &one, grow("2Gi")).await.good();
    let text = api.patch("merge", &one, grow("1Gi")).await.failed(422);
    let why = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
    assert_eq!(text, format!("PersistentVolumeClaim \"c\" is invalid: {why}"));
    // The same amount in other words is no change.
    api.patch("merge", &one, grow("2048Mi")).await.good();
}

#[tokio::test]
async fn claims_volumes_and_classes_of_attributes_are_made_with_what_keeps_them_while_they_are_in_use() {
    let api = Api::new().await;
    let source = json!({"hostPath": {"path": "/data"}});
    let classes = format!("{STORAGE}/volumeattributesclasses");
    let class = json!({"metadata": {"name": "a"}, "driverName": "d", "parameters": {"k": "v"}});
    for (path, mut body, ours) in [
        (CLAIMS, claim(&json!({})), "kubernetes.io/pvc-protection"),
        (VOLUMES, volume(&source), "kubernetes.io/pv-protection"),
        (&classes, class, "kubernetes.io/vac-protection"),
    ] {
        let one = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
        for (brought, wanted) in [
            (json!(null), json!([ours])),
            (json!(["example.org/x"]), json!(["example.org/x", ours])),
            (json!([ours, "example.org/x"]), json!([ours, "example.org/x"])),
        ] {
            body["metadata"]["finalizers"] = brought;
            let made = api.post(path, body.clone()).await.good();
            assert_eq!(made["metadata"]["finalizers"], wanted, "{one}");
            api.delete(&one).await.good();
            let going = api.get(&one).await.good();
            assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
            // What is taken off stays off.
            api.patch("merge", &one, json!({"metadata": {"finalizers": []}})).await.good();
            assert_eq!(api.get(&one).await.code, 404, "{one}");
        }
    }
}

#[tokio::test]
async fn classes_of_storage_are_fixed_once_made() {
    let api = Api::new().await;
    let path = format!("{STORAGE}/storageclasses");
    let class = |more: Value| {
        let mut body = json!({"metadata": {"name": "c"}, "provisioner": "example.org/p"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    all_refused(
        &api,
        &path,
        "StorageClass.storage.k8s.io",
        "c",
        &[
            (class(json!({"provisioner": ""})), "provisioner: Required value"),
            (
                class(json!({"reclaimPolicy": "Recycle"})),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
            (
                class(
                    json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}]}]}),
                ),
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            ),
        ],
    )
    .await;
    let made = api.post(&path, class(json!({}))).await.good();
    assert_eq!((&made["reclaimPolicy"], &made["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    let text = api.patch("merge", &format!("{path}/c"), json!({"reclaimPolicy": "Retain"})).await.failed(422);
    assert!(text.ends_with("reclaimPolicy: Invalid value: \"Retain\": field is immutable"), "{text}");
    api.patch("merge", &format!("{path}/c"), json!({"allowVolumeExpansion": true})).await.good();
    let path = format!("{STORAGE}/volumeattributesclasses");
    let text = api.post(&path, json!({"metadata": {"name": "a"}, "driverName": "d"})).await.failed(422);
    assert!(text.ends_with("parameters: Required value: must contain at least one key/value pair"), "{text}");
    api.post(&path, json!({"metadata": {"name": "a"}, "driverName": "d", "parameters": {"k": "v"}})).await.good();
    let text = api.patch("merge", &format!("{path}/a"), json!({"driverName": "e"})).await.failed(422);
    assert!(text.ends_with("driverName: Forbidden: updates to driverName are forbidden."), "{text}");
}

#[tokio::test]
async fn drivers_count_their_changes_and_nodes_keep_their_ids() {
    let api = Api::new().await;
    let path = format!("{STORAGE}/csidrivers");
    let made = api.post(&path, json!({"metadata": {"name": "d"}, "spec": {}})).await.good();
    assert!(made["metadata"].get("generation").is_none());
    assert_eq!(made["spec"]["volumeLifecycleModes"], json!(["Persistent"]));
    assert_eq!(
        (&made["spec"]["attachRequired"], &made["spec"]["fsGroupPolicy"]),
        (&json!(true), &json!("ReadWriteOnceWithFSType"))
    );
    let one = format!("{path}/d");
    let changed = api.patch("merge", &one, json!({"spec": {"podInfoOnMount": true}})).await.good();
    assert_eq!(changed["metadata"]["generation"], 1);
    let text = api.patch("merge", &one, json!({"spec": {"attachRequired": false}})).await.failed(422);
    assert!(text.ends_with("spec.attachedRequired: Invalid value: false: field is immutable"), "{text}");
    let text = api
        .patch("merge", &one, json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 5}]}}))
        .await
        .failed(422);
    let why =
        "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes";
    assert!(text.ends_with(why), "{text}");
    let path = format!("{STORAGE}/csinodes");
    let node = |id: &str, count: i64| json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d", "nodeID": id, "topologyKeys": null, "allocatable": {"count": count}}]}});
    let text = api.post(&path, node("", 1)).await.failed(422);
    assert!(text.ends_with("spec.drivers[0].nodeID: Required value"), "{text}");
    let mut made = api.post(&path, node("x", 1)).await.good();
    made["spec"]["drivers"][0]["allocatable"]["count"] = 2.into();
    let mut made = api.put(&format!("{path}/n"), made).await.good();
    made["spec"]["drivers"][0]["nodeID"] = "y".into();
    assert!(api.put(&format!("{path}/n"), made).await.failed(422).ends_with("field is immutable"));
}

#[tokio::test]
async fn an_attachment_names_one_volume_and_its_status_is_its_drivers() {
    let api = Api::new().await;
    let path = format!("{STORAGE}/volumeattachments");
    let attachment = |source: Value| {
        let spec = json!({"attacher": "d", "nodeName": "n", "source": source});
        json!({"metadata": {"name": "a"}, "spec": spec, "status": {"attached": true}})
    };
    let text = api.post(&path, attachment(json!({}))).await.failed(422);
    let why = "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    assert_eq!(text, format!("VolumeAttachment.storage.k8s.io \"a\" is invalid: {why}"));
    let made = api.post(&path, attachment(json!({"persistentVolumeName": "v"}))).await.good();
    assert_eq!(made["status"], json!({"attached": false}));
    let one = format!("{path}/a");
    let done = api.patch("merge", &format!("{one}/status"), json!({"status": {"attached": true}})).await.good();
    assert_eq!(done["status"]["attached"], true);
    assert!(
        api.patch("merge", &one, json!({"spec": {"nodeName": "m"}})).await.failed(422).contains("field is immutable")
    );
}

#[tokio::test]
async fn the_table_of_claims_and_classes_reads_as_kubectl_users_know_it() {
    let api = Api::new().await;
    api.post(CLAIMS, claim(&json!({"storageClassName": "fast"}))).await.good();
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "fast", "annotations": default}, "provisioner": "p"});
    api.post(&format!("{STORAGE}/storageclasses"), class).await.good();
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = async |path: &str| api.send(common::admin(), "GET", path, &accept, Value::Null).await.good();
    let claims = table(CLAIMS).await;
    assert_eq!(claims["rows"][0]["cells"], json!(["c", "Pending", "", "", "", "fast", "<unset>", "0s", "Filesystem"]));
    let classes = table(&format!("{STORAGE}/storageclasses")).await;
    assert_eq!(classes["rows"][0]["cells"], json!(["fast (default)", "p", "Delete", "Immediate", false, "0s"]));
}
