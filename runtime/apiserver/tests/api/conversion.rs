//! Custom resources whose versions a webhook converts.
#![allow(clippy::unwrap_used, reason = "tests may unwrap in their helpers too")]

use crate::common;
use crate::hooks;

use common::Api;
use hooks::Hook;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// `host: "a:1"` in v1 is `host: "a", port: "1"` in v2.
fn convert(review: &Value) -> Value {
    let wanted = review["request"]["desiredAPIVersion"].as_str().unwrap().to_owned();
    let one = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = wanted.as_str().into();
        if wanted.ends_with("v2") {
            let whole = object["host"].as_str().unwrap_or_default().to_owned();
            let (host, port) = whole.split_once(':').unwrap_or((&whole, ""));
            object["host"] = host.into();
            object["port"] = port.into();
        } else {
            let whole = format!(
                "{}:{}",
                object["host"].as_str().unwrap_or_default(),
                object["port"].as_str().unwrap_or_default()
            );
            object["host"] = whole.into();
            object.as_object_mut().unwrap().remove("port");
        }
        object
    };
    let objects: Vec<Value> = review["request"]["objects"].as_array().unwrap().iter().map(one).collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

#[tokio::test]
async fn a_webhook_converts_what_is_read_and_what_is_written() {
    let api = Api::new().await;
    let hook = Hook::serve(convert).await;
    let schema = json!({"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "selectableFields": [{"jsonPath": ".host"}]})
    };
    let definition = json!({
        "metadata": {"name": "hosts.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
            "versions": [version("v1", true), version("v2", false)],
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": hook.client(), "conversionReviewVersions": ["v1"]}},
        },
    });
    let made = api.post(CRDS, definition).await.good();
    let mut watch = api.watch(&format!("{CRDS}?watch=1&resourceVersion={}", common::revision(&made))).await;
    while !watch.next().await.unwrap()["object"]["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
    {}
    let (v1, v2) = ("/apis/example.com/v1/namespaces/default/hosts", "/apis/example.com/v2/namespaces/default/hosts");
    let made = api.post(v2, json!({"apiVersion": "example.com/v2", "kind": "Host", "metadata": {"name": "a"}, "host": "h", "port": "1"})).await.good();
    assert_eq!((&made["apiVersion"], &made["port"]), (&json!("example.com/v2"), &json!("1")));
    api.post(v1, json!({"apiVersion": "example.com/v1", "kind": "Host", "metadata": {"name": "b"}, "host": "i:2"}))
        .await
        .good();
    assert_eq!(api.get(&format!("{v1}/a")).await.good()["host"], "h:1");
    let list = api.get(v2).await.good();
    let ports: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|i| &i["port"]).collect();
    assert_eq!(ports, [&json!("1"), &json!("2")]);
    let changed = api.patch("merge", &format!("{v2}/b"), json!({"port": "3"})).await.good();
    assert_eq!(changed["port"], "3");
    assert_eq!(api.get(&format!("{v1}/b")).await.good()["host"], "i:3");
    let mut watch = api.watch(&format!("{v2}?watch=1")).await;
    assert_eq!(watch.next().await.unwrap()["object"]["port"], "1");
    // Selectors are about the objects that the client sees, not about those that are stored.
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let rows = [
        (v2, "host%3Dh", vec!["a"]),
        (v2, "host%3Dh:1", vec![]),
        (v1, "host%3Dh:1", vec!["a"]),
        (v1, "host%3Dh", vec![]),
    ];
    for (path, selector, expected) in rows {
        for limit in ["", "&limit=1"] {
            let list = api.get(&format!("{path}?fieldSelector={selector}{limit}")).await.good();
            assert_eq!(names(&list), expected, "{path} {selector}");
        }
    }
    let mut selected = api.watch(&format!("{v2}?watch=1&fieldSelector=host%3Dh")).await;
    let first = selected.next().await.unwrap();
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    api.patch("merge", &format!("{v2}/b"), json!({"host": "h"})).await.good();
    let joined = selected.next().await.unwrap();
    assert_eq!((&joined["type"], &joined["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("b")));
    api.patch("merge", &format!("{v2}/a"), json!({"host": "other"})).await.good();
    let left = selected.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["host"]), (&json!("DELETED"), &json!("h")));
}
