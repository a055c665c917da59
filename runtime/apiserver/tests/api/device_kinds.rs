//! Claims, classes and slices of devices: what they are given and what they may not say.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::Api;
use serde_json::{Value, json};

const RESOURCE: &str = "/apis/resource.k8s.io/v1";

fn claim(request: &Value) -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}})
}

#[tokio::test]
async fn a_claim_asks_in_one_way_and_never_asks_anew() {
    let api = Api::new().await;
    let path = format!("{RESOURCE}/namespaces/default/resourceclaims");
    let at = "spec.devices.requests[0]";
    let table = [
        (
            json!({"name": "r"}),
            format!("{at}: Required value: exactly one of `exactly` or `firstAvailable` is required"),
        ),
        (json!({"name": "r", "exactly": {}}), format!("{at}.exactly.deviceClassName: Required value")),
        (
            json!({"name": "r", "exactly": {"deviceClassName": "d", "allocationMode": "All", "count": 2}}),
            format!("{at}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"),
        ),
        (
            json!({"name": "r", "exactly": {"deviceClassName": "d", "selectors": [{}]}}),
            format!("{at}.exactly.selectors[0].cel: Required value"),
        ),
    ];
    for (request, wanted) in table {
        let text = api.post(&path, claim(&request)).await.failed(422);
        assert_eq!(text, format!("ResourceClaim.resource.k8s.io \"c\" is invalid: {wanted}"));
    }
    let made = api.post(&path, claim(&json!({"name": "r", "exactly": {"deviceClassName": "d"}}))).await.good();
    let exactly = &made["spec"]["devices"]["requests"][0]["exactly"];
    assert_eq!(*exactly, json!({"deviceClassName": "d", "allocationMode": "ExactCount", "count": 1}));
    assert_eq!(made["status"], json!({}));
    let one = format!("{path}/c");
    let text = api.patch("merge", &one, json!({"spec": {"devices": {"requests": []}}})).await.failed(422);
    assert!(text.ends_with("field is immutable"), "{text}");
    let reserved = json!({"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}});
    let text = api.patch("merge", &format!("{one}/status"), reserved).await.failed(422);
    assert!(
        text.ends_with("status.reservedFor: Forbidden: may not be specified when `allocated` is not set"),
        "{text}"
    );
}

#[tokio::test]
async fn a_slice_is_of_one_driver_and_pool_and_somewhere() {
    let api = Api::new().await;
    let path = format!("{RESOURCE}/resourceslices");
    let slice = |more: Value| {
        let mut spec = json!({"driver": "d.example.org", "nodeName": "n", "pool": {"name": "n", "resourceSliceCount": 1},
            "devices": [{"name": "dev0", "attributes": {"kind": {"string": "x"}}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": "s"}, "spec": spec})
    };
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let table = [
        (slice(json!({"nodeName": null})), format!("spec: Required value: {one}")),
        (
            slice(json!({"allNodes": true})),
            format!("spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one}, but multiple fields are set"),
        ),
        (
            slice(json!({"pool": {"name": "n", "resourceSliceCount": 0}})),
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero".to_owned(),
        ),
        (
            slice(json!({"devices": [{"name": "a"}, {"name": "a"}]})),
            "spec.devices[1]: Duplicate value: \"a\"".to_owned(),
        ),
    ];
    for (body, wanted) in table {
        let text = api.post(&path, body).await.failed(422);
        assert_eq!(text, format!("ResourceSlice.resource.k8s.io \"s\" is invalid: {wanted}"));
    }
    api.post(&path, slice(json!({}))).await.good();
    let found = api.get(&format!("{path}?fieldSelector=spec.nodeName%3Dn,spec.driver%3Dd.example.org")).await.good();
    assert_eq!(common::names(&found), ["s"]);
    let tainted = json!({"spec": {"devices": [{"name": "dev0", "taints": [{"key": "k", "effect": "NoSchedule"}]}]}});
    let changed = api.patch("merge", &format!("{path}/s"), tainted).await.good();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(changed["spec"]["devices"][0]["taints"][0]["timeAdded"], "2026-01-02T03:04:05Z");
    let text = api.patch("merge", &format!("{path}/s"), json!({"spec": {"driver": "e"}})).await.failed(422);
    assert!(text.ends_with("spec.driver: Invalid value: \"e\": field is immutable"), "{text}");
}

#[tokio::test]
async fn a_class_selects_in_cel() {
    let api = Api::new().await;
    let path = format!("{RESOURCE}/deviceclasses");
    let class = |selector: Value| json!({"metadata": {"name": "k"}, "spec": {"selectors": [selector]}});
    let text = api.post(&path, class(json!({"cel": {}}))).await.failed(422);
    assert_eq!(text, "DeviceClass.resource.k8s.io \"k\" is invalid: spec.selectors[0].cel.expression: Required value");
    api.post(&path, class(json!({"cel": {"expression": "device.driver == 'd'"}}))).await.good();
}
