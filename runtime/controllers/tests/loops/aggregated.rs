//! Objects that another server answers for: owners, dependents, and what is in namespaces.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::real;

use kiln_apimachinery::Status;
use kiln_client::testing::FakeApi;
use kiln_controllers::namespace;
use real::World;
use serde_json::{Value, json};

const BASE: &str = "/apis/wardle.example.com/v1alpha1";

/// The other server, with flunders.
async fn wardle(world: &World) -> FakeApi {
    let other = world.aggregate("wardle.example.com", "v1alpha1").await;
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let flunders = json!({"name": "flunders", "kind": "Flunder", "namespaced": true, "verbs": verbs});
    // It can't be watched, so nobody mirrors it.
    let others = json!({"name": "fischers", "kind": "Fischer", "namespaced": false, "verbs": ["list", "delete"]});
    other.document(BASE, json!({"kind": "APIResourceList", "resources": [flunders, others]}));
    other
}

fn flunder(namespace: &str, name: &str) -> String {
    format!("{BASE}/namespaces/{namespace}/flunders/{name}")
}

/// A reference to an object.
fn owner(api_version: &str, kind: &str, object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]})
}

/// Waits until something is so at the other server.
async fn until(other: &FakeApi, holds: impl Fn(&FakeApi) -> bool) {
    while !holds(other) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn owners_and_dependents_are_followed_over_the_border_of_servers() {
    let world = World::with_garbage_collector().await;
    let other = wardle(&world).await;
    other.put(&flunder("default", "top"), json!({}));
    let top = other.object(&flunder("default", "top")).unwrap();
    let middle = world.make("middle", json!([owner("wardle.example.com/v1alpha1", "Flunder", &top)]), &[]).await;
    let leaf = json!({"metadata": {"ownerReferences": [owner("v1", "ConfigMap", &middle)]}});
    other.put(&flunder("default", "leaf"), leaf);
    other.put(&flunder("default", "stranger"), json!({}));
    world.client.delete(&flunder("default", "top"), &Value::Null).await.unwrap();
    world.gone("middle").await;
    until(&other, |other| other.object(&flunder("default", "leaf")).is_none()).await;
    assert!(other.object(&flunder("default", "stranger")).is_some());
}

#[tokio::test]
async fn an_api_that_is_not_there_takes_nobody_with_it() {
    let world = World::with_garbage_collector().await;
    let other = wardle(&world).await;
    let is_mirrored =
        |other: &FakeApi| other.requests().iter().any(|r| r.contains("/flunders?") && r.contains("watch"));
    until(&other, is_mirrored).await;
    let path = flunder("default", "top");
    other.put(&path, json!({}));
    let top = other.object(&path).unwrap();
    // The first look finds no such API, the second a server in trouble.
    other.refuse_next(&format!("GET {path}"), Status::no_such_path());
    other.refuse_next(&format!("GET {path}"), Status::internal("down"));
    world.make("kept", json!([owner("wardle.example.com/v1alpha1", "Flunder", &top)]), &[]).await;
    let looks = std::cell::Cell::new(0);
    until(&other, |other| {
        let of_it = other.requests().iter().filter(|request| **request == format!("GET {path}")).count();
        looks.set(looks.get() + of_it);
        looks.get() >= 3
    })
    .await;
    assert!(world.is_there("kept").await);
    // What went while nobody could tell of it is found gone.
    other.set_offline(true);
    other.remove(&path);
    other.set_offline(false);
    world.gone("kept").await;
}

#[tokio::test]
async fn a_namespace_goes_with_what_other_servers_have_in_it() {
    let world = World::new().await;
    let other = wardle(&world).await;
    world.run(namespace::build);
    let shop = json!({"metadata": {"name": "shop"}});
    world.client.create::<Value>("/api/v1/namespaces", &shop).await.unwrap();
    other.put(&flunder("shop", "a"), json!({}));
    other.put(&flunder("default", "kept"), json!({}));
    other.set_offline(true);
    world.client.delete("/api/v1/namespaces/shop", &Value::Null).await.unwrap();
    let is_told = |namespace: Option<&Value>| {
        let conditions = namespace.map(|n| n["status"]["conditions"].clone()).unwrap_or_default();
        conditions.as_array().into_iter().flatten().any(|c| c["reason"] == "DiscoveryFailed")
    };
    let told = world.until("/api/v1/namespaces", "shop", is_told).await.unwrap();
    let message = told["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("wardle.example.com/v1alpha1: "), "{message}");
    other.set_offline(false);
    world.until("/api/v1/namespaces", "shop", |namespace| namespace.is_none()).await;
    assert!(other.object(&flunder("shop", "a")).is_none() && other.object(&flunder("default", "kept")).is_some());
}
