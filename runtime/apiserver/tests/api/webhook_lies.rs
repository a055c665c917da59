//! Webhooks that answer what can't be believed.
#![allow(clippy::unwrap_used, reason = "tests may unwrap in their helpers too")]

use bytes::Bytes;
use serde_json::{Value, json};

use crate::common::{self, Api, MAPS};
use crate::hooks::{Hook, patched};
use crate::webhooks::{register, webhook};

/// What a webhook answers that can't be believed: until when its certificate is valid, code and body of a review's answer, and
/// what is said of it.
type Lie = (&'static str, i32, fn(&Value) -> (u16, Value), &'static str);

/// An answer that is right but for what `response` says.
fn answer(review: &Value, response: Value) -> (u16, Value) {
    let mut told = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
    told["response"]["uid"] = review["request"]["uid"].clone();
    (200, told)
}

#[tokio::test]
async fn lies_of_a_webhook_fail_what_it_is_asked_about_and_nothing_else() {
    let api = Api::new().await;
    let lies: [Lie; 12] = [
        (
            "status",
            2100,
            |_| (500, json!("boom")),
            "an error on the server (\"\\\"boom\\\"\") has prevented the request",
        ),
        ("missing", 2100, |_| (404, Value::Null), "(\"null\") has prevented the request from succeeding"),
        (
            "prose",
            2100,
            |_| (200, json!("all is well")),
            "received invalid webhook response: webhook response was absent",
        ),
        (
            "large",
            2100,
            |r| answer(r, json!({"allowed": true, "warnings": ["x".repeat(10 << 20)]})),
            "length limit exceeded",
        ),
        ("uid", 2100, |r| (200, json!({"response": {"uid": r["request"]["name"]}})), "expected response.uid="),
        (
            "kind",
            2100,
            |r| {
                (
                    200,
                    json!({"kind": "Review", "apiVersion": "admission.k8s.io/v1", "response": {"uid": r["request"]["uid"]}}),
                )
            },
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1, Kind=Review",
        ),
        ("expired", 2020, |r| answer(r, json!({"allowed": true})), "tls: failed to verify certificate: "),
        (
            "untyped",
            2100,
            |r| answer(r, json!({"allowed": true, "patch": "W10="})),
            "webhook returned response.patch but not response.patchType",
        ),
        (
            "unpatched",
            2100,
            |r| answer(r, json!({"allowed": true, "patchType": "JSONPatch"})),
            "webhook returned response.patchType but not response.patch",
        ),
        (
            "merge",
            2100,
            |r| answer(r, json!({"allowed": true, "patchType": "Merge", "patch": "e30="})),
            "unsupported patch type \"Merge\"",
        ),
        (
            "undecodable",
            2100,
            |r| answer(r, json!({"allowed": true, "patchType": "JSONPatch", "patch": "e3"})),
            "received undecodable patch in webhook response: ",
        ),
        (
            "astray",
            2100,
            |r| {
                answer(
                    r,
                    json!({"allowed": true, "patchType": "JSONPatch", "patch": "W3sib3AiOiJyZW1vdmUiLCJwYXRoIjoiL25vIn1d"}),
                )
            },
            "Internal error occurred: ",
        ),
    ];
    let mut hooks = Vec::new();
    for (name, year, lie, _) in lies {
        let hook = Hook::raw(year, move |review| {
            let (code, body) = lie(review);
            (code, Bytes::from(body.to_string()))
        })
        .await;
        let mut one = webhook(&format!("{name}.example.com"), hook.client());
        one["objectSelector"] = json!({"matchLabels": {"l": name}});
        hooks.push(one.clone());
        one["name"] = json!(format!("{name}-open.example.com"));
        one["failurePolicy"] = json!("Ignore");
        one["objectSelector"] = json!({"matchLabels": {"l": format!("{name}-open")}});
        hooks.push(one);
    }
    register(&api, "Mutating", "m", hooks.into()).await;
    for (name, _, _, expected) in lies {
        let refused = api.post(MAPS, common::labelled(name, name)).await.failed(500);
        assert!(refused.contains(expected), "{name}: {refused}");
        // Who asks for it gets away with it, but for what the server itself could not do.
        let open = api.post(MAPS, common::labelled(name, &format!("{name}-open"))).await;
        assert_eq!(open.code, if name == "astray" { 500 } else { 201 }, "{name}: {}", open.text());
        api.post(MAPS, common::labelled(&format!("{name}-other"), "other")).await.good();
    }
    let judge = Hook::serve(|_| patched(json!([]))).await;
    let mut judging = webhook("judge.example.com", judge.client());
    judging["objectSelector"] = json!({"matchLabels": {"l": "judged"}});
    register(&api, "Validating", "v", json!([judging])).await;
    let refused = api.post(MAPS, common::labelled("judged", "judged")).await.failed(500);
    assert!(refused.ends_with("validating webhook may not return response.patch"), "{refused}");
    let metrics = api.get("/metrics").await.text();
    for line in [
        "apiserver_admission_webhook_request_total{code=\"503\",name=\"uid.example.com\",operation=\"CREATE\",rejected=\"true\",type=\"admit\"} 1",
        "apiserver_admission_webhook_rejection_count{error_type=\"calling_webhook_error\",name=\"judge.example.com\",operation=\"CREATE\",rejection_code=\"503\",type=\"validating\"} 1",
        "apiserver_admission_webhook_rejection_count{error_type=\"apiserver_internal_error\",name=\"astray.example.com\",operation=\"CREATE\",rejection_code=\"0\",type=\"admit\"} 1",
        "apiserver_admission_webhook_fail_open_count{name=\"uid-open.example.com\",type=\"admit\"} 1",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"uid.example.com\",operation=\"CREATE\",rejected=\"true\",type=\"admit\"} 1",
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"true\",type=\"validate\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}
