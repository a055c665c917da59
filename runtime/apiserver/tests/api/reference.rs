//! What objects are given that leave things out: defaults, and the zeros that are always shown. Each row of
//! `reference.jsonl` has an object as it is sent, and what Kubernetes' own types make of it (for pods, with the priority that
//! admission adds).
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap")]

use crate::common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::Api;
use serde_json::{Value, json};

/// The paths of kinds, and whether they are in namespaces.
async fn paths(api: &Api) -> HashMap<(String, String), (String, bool)> {
    let mut bases = vec!["/api/v1".to_owned()];
    let groups = api.get("/apis").await.good();
    for group in groups["groups"].as_array().unwrap() {
        let versions = group["versions"].as_array().unwrap();
        bases.extend(versions.iter().map(|v| format!("/apis/{}", v["groupVersion"].as_str().unwrap())));
    }
    let mut found = HashMap::new();
    for base in bases {
        let list = api.get(&base).await.good();
        for row in list["resources"].as_array().unwrap() {
            let (text, name) = (|key: &str| row[key].as_str().unwrap().to_owned(), row["name"].as_str().unwrap());
            if !name.contains('/') {
                let version = list["groupVersion"].as_str().unwrap().to_owned();
                let path = if row["namespaced"] == json!(true) {
                    format!("{base}/namespaces/default/{name}")
                } else {
                    format!("{base}/{name}")
                };
                found.insert((version, text("kind")), (path, row["namespaced"] == json!(true)));
            }
        }
    }
    found
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        other => [Value::Null, json!(""), json!(0), json!(false)].contains(other),
    }
}

/// What is missing or other than it should be, and zeros that should not be there.
fn differences(path: &str, given: &Value, found: &Value, out: &mut Vec<String>) {
    match (given, found) {
        (Value::Object(given), Value::Object(found)) => {
            for (key, value) in given {
                match found.get(key) {
                    Some(other) => differences(&format!("{path}.{key}"), value, other, out),
                    None => out.push(format!("{path}.{key}: {value} is missing")),
                }
            }
            let odd = found.iter().filter(|(key, value)| !given.contains_key(*key) && is_zero(value));
            out.extend(odd.map(|(key, value)| format!("{path}.{key}: {value} is too much")));
        }
        (Value::Array(given), Value::Array(found)) if given.len() == found.len() => {
            for (i, (given, found)) in given.iter().zip(found).enumerate() {
                differences(&format!("{path}[{i}]"), given, found, out);
            }
        }
        // Those of nodes that are not ready.
        (Value::Array(_), _) if path.ends_with(".tolerations") => {}
        _ if given == found => {}
        _ => out.push(format!("{path}: {found} and not {given}")),
    }
}

#[tokio::test]
async fn objects_are_given_what_kubernetes_gives_them_and_keep_it() {
    let api = Api::new().await;
    let paths = paths(&api).await;
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await.good();
    let mut wrong = Vec::new();
    for line in include_str!("reference.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (mut sent, given) = (row["sent"].clone(), &row["given"]);
        let text = |key: &str| sent[key].as_str().unwrap().to_owned();
        let (path, namespaced) = paths[&(text("apiVersion"), text("kind"))].clone();
        let namespace = sent["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let path = path.replace("/default/", &format!("/{namespace}/"));
        if namespaced {
            sent["metadata"]["namespace"] = namespace.into();
        }
        let name = format!("{} {}", sent["kind"], sent["metadata"]["name"]);
        let made = api.post(&path, sent.clone()).await.good();
        let mut found = made.clone();
        for key in ["kind", "apiVersion", "metadata"] {
            found.as_object_mut().unwrap().remove(key);
        }
        if let Some(status) = found.get_mut("status").and_then(Value::as_object_mut) {
            // The reference tells it as well, a moment later.
            status.remove("typeChecking");
        }
        differences(&name, given, &found, &mut wrong);
        // What is shown is what is stored, and writing it again changes nothing.
        let one = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
        let read = api.get(&one).await.good();
        assert_eq!(read, made);
        let again = api.put(&one, read).await;
        if again.code != 405 {
            assert_eq!(again.good(), made);
        }
        // Admission that calls a webhook, or follows a policy, must not be asked about the rows that follow.
        if path.contains("/admissionregistration.k8s.io/") {
            api.delete(&one).await.good();
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn zeros_are_filled_in_soon() {
    let ty = |kind| kiln_schema::lookup("v1", kind).unwrap();
    let map =
        json!({"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"a": "b"}}, "data": {"a": "b", "c": "d"}});
    let container =
        json!({"name": "a", "image": "b", "env": [{"name": "a", "value": "b"}], "ports": [{"containerPort": 1}]});
    let pod = json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container, container]}});
    for (kind, object) in [("ConfigMap", map), ("Pod", pod)] {
        let mut objects = vec![object; 1000];
        // The table is read at first use.
        let ty = ty(kind);
        let began = Instant::now();
        objects.iter_mut().for_each(|object| kiln_schema::fill::complete(ty, object));
        let each = began.elapsed() / 1000;
        println!("{kind}: {each:?}");
        // Some ten times what a build without optimisation takes.
        assert!(each < Duration::from_micros(500), "{kind}: {each:?}");
    }
}
