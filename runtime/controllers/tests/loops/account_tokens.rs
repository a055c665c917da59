//! The controller of Secrets that hold service account tokens, against a real API server in memory.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::real;

use std::sync::Arc;

use kiln_client::PatchKind;
use kiln_controllers::account_tokens;
use real::World;
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn world() -> World {
    let world = World::new().await;
    let server = world.server.clone();
    let fill: account_tokens::Fill = Arc::new(move |mut secret: Value| {
        let server = server.clone();
        Box::pin(async move { server.fill_token_secret("default", &mut secret).await.map(|()| secret) })
    });
    let (client, shutdown) = (world.client.clone(), world.shutdown.clone());
    tokio::spawn(async move { account_tokens::run(client, fill, "", shutdown).await });
    world
}

async fn account(world: &World) -> Value {
    let account = json!({"metadata": {"name": "a"}, "secrets": [{"name": "t"}, {"name": "other"}]});
    world.client.create(ACCOUNTS, &account).await.unwrap()
}

async fn secret(world: &World, more: Value) -> Value {
    let mut annotations = json!({"kubernetes.io/service-account.name": "a"});
    annotations.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let secret = json!({
        "metadata": {"name": "t", "annotations": annotations},
        "type": "kubernetes.io/service-account-token",
    });
    world.client.create(SECRETS, &secret).await.unwrap()
}

#[tokio::test]
async fn a_token_goes_with_its_account() {
    let world = world().await;
    account(&world).await;
    secret(&world, json!({})).await;
    world.client.create::<Value>(SECRETS, &json!({"metadata": {"name": "other"}})).await.unwrap();
    world.client.delete(&format!("{ACCOUNTS}/a"), &Value::Null).await.unwrap();
    world.until(SECRETS, "t", |o| o.is_none()).await;
    assert!(world.client.find::<Value>(&format!("{SECRETS}/other")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_token_of_no_account_or_of_one_that_was_there_before_goes() {
    let world = world().await;
    secret(&world, json!({})).await;
    world.until(SECRETS, "t", |o| o.is_none()).await;
    account(&world).await;
    secret(&world, json!({"kubernetes.io/service-account.uid": "6b1e9d43-8a3c-4b5f-9c4f-0f6a51f3a001"})).await;
    world.until(SECRETS, "t", |o| o.is_none()).await;
}

#[tokio::test]
async fn a_token_that_lost_what_it_holds_gets_it_again() {
    let world = world().await;
    let account = account(&world).await;
    secret(&world, json!({})).await;
    let path = format!("{SECRETS}/t");
    let lost = json!({"data": {"token": null, "namespace": null, "ca.crt": "b3RoZXI="}, "metadata": {"annotations": {"kubernetes.io/service-account.uid": null}}});
    world.client.patch::<Value>(&path, PatchKind::Merge, &lost).await.unwrap();
    let full = |o: Option<&Value>| o.is_some_and(|o| o["data"]["token"].as_str().is_some_and(|t| t.len() > 100));
    let filled = world.until(SECRETS, "t", full).await.unwrap();
    assert_eq!((&filled["data"]["namespace"], &filled["data"]["ca.crt"]), (&json!("ZGVmYXVsdA=="), &json!("")));
    assert_eq!(filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"], account["metadata"]["uid"]);
}

#[tokio::test]
async fn an_account_stops_naming_a_token_that_is_gone() {
    let world = world().await;
    account(&world).await;
    secret(&world, json!({})).await;
    // The controller knows it once it has filled it.
    let path = format!("{SECRETS}/t");
    world.client.patch::<Value>(&path, PatchKind::Merge, &json!({"data": {"token": null}})).await.unwrap();
    world.until(SECRETS, "t", |o| o.is_some_and(|o| o["data"].get("token").is_some())).await;
    world.client.delete(&path, &Value::Null).await.unwrap();
    let left = |o: Option<&Value>| o.is_some_and(|o| o["secrets"] == json!([{"name": "other"}]));
    world.until(ACCOUNTS, "a", left).await;
}
