//! The controllers against a real API server in memory: garbage, and what every namespace and cluster has.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::real;

use std::collections::BTreeSet;

use kiln_client::PatchKind;
use kiln_controllers::{cluster_roles, kubernetes_service, per_namespace};
use real::{MAPS, World};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A reference to a ConfigMap.
fn owner(object: &Value, blocks: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "blockOwnerDeletion": blocks})
}

#[tokio::test]
async fn dependents_go_after_their_owner_in_the_background_and_theirs_after_them() {
    let world = World::with_garbage_collector().await;
    let top = world.make("top", json!([]), &[]).await;
    let middle = world.make("middle", json!([owner(&top, true)]), &[]).await;
    world.make("leaf", json!([owner(&middle, true)]), &[]).await;
    world.make("stranger", json!([]), &[]).await;
    world.delete("top", "Background").await;
    assert!(!world.is_there("top").await);
    world.gone("leaf").await;
    assert!(!world.is_there("middle").await);
    assert!(world.is_there("stranger").await);
}

#[tokio::test]
async fn an_object_whose_owner_never_was_or_was_another_goes() {
    let world = World::with_garbage_collector().await;
    let top = world.make("top", json!([]), &[]).await;
    let mut other = owner(&top, false);
    other["uid"] = json!("00000000-0000-0000-0000-000000000000");
    world.make("lost", json!([other]), &[]).await;
    world.gone("lost").await;
    world.make("kept", json!([owner(&top, false), other]), &[]).await;
    // What is gone among the owners is struck off; one that is there keeps the object.
    let one = |o: Option<&Value>| o.is_some_and(|o| o["metadata"]["ownerReferences"].as_array().unwrap().len() == 1);
    let kept = world.until(MAPS, "kept", one).await.unwrap();
    assert_eq!(kept["metadata"]["ownerReferences"][0]["uid"], top["metadata"]["uid"]);
}

#[tokio::test]
async fn an_owner_deleted_in_the_foreground_waits_for_those_that_block_it() {
    let world = World::with_garbage_collector().await;
    let top = world.make("top", json!([]), &[]).await;
    world.make("blocks", json!([owner(&top, true)]), &["example.org/hold"]).await;
    world.make("free", json!([owner(&top, false)]), &["example.org/hold"]).await;
    world.delete("top", "Foreground").await;
    let leaving = |o: Option<&Value>| o.is_some_and(|o| o["metadata"].get("deletionTimestamp").is_some());
    world.until(MAPS, "blocks", leaving).await;
    let top = world.client.get::<Value>(&format!("{MAPS}/top")).await.unwrap();
    assert_eq!(top["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let path = format!("{MAPS}/blocks");
    let free = json!({"metadata": {"finalizers": null}});
    world.client.patch::<Value>(&path, PatchKind::Merge, &free).await.unwrap();
    world.gone("top").await;
    assert!(!world.is_there("blocks").await);
    world.until(MAPS, "free", leaving).await;
}

#[tokio::test]
async fn orphans_stay_and_lose_the_reference() {
    let world = World::with_garbage_collector().await;
    let top = world.make("top", json!([]), &[]).await;
    world.make("child", json!([owner(&top, true)]), &[]).await;
    world.delete("top", "Orphan").await;
    world.gone("top").await;
    let child = world.client.get::<Value>(&format!("{MAPS}/child")).await.unwrap();
    assert!(child["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{child}");
}

#[tokio::test]
async fn a_circle_of_owners_deleted_in_the_foreground_goes_whole() {
    let world = World::with_garbage_collector().await;
    let a = world.make("a", json!([]), &[]).await;
    let b = world.make("b", json!([owner(&a, true)]), &[]).await;
    let c = world.make("c", json!([owner(&b, true)]), &[]).await;
    let close = json!({"metadata": {"ownerReferences": [owner(&c, true)]}});
    world.client.patch::<Value>(&format!("{MAPS}/a"), PatchKind::Merge, &close).await.unwrap();
    world.delete("a", "Foreground").await;
    for name in ["a", "b", "c"] {
        world.gone(name).await;
    }
}

#[tokio::test]
async fn dependents_of_a_kind_in_no_namespace_follow_it() {
    let world = World::with_garbage_collector().await;
    let node: Value = world.client.create("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.unwrap();
    let of_node = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": node["metadata"]["uid"]}]);
    world.make("child", of_node, &[]).await;
    world.client.delete("/api/v1/nodes/n", &Value::Null).await.unwrap();
    world.gone("child").await;
}

#[tokio::test]
async fn every_namespace_has_its_account_and_the_ca_again_when_they_are_lost_or_changed() {
    let world = World::new().await;
    let client = &world.client;
    world.run(per_namespace::default_service_accounts);
    world.run(|informers, context| per_namespace::root_ca(informers, context, "PEM".to_owned()));
    client.create::<Value>("/api/v1/namespaces", &json!({"metadata": {"name": "new"}})).await.unwrap();
    let accounts = "/api/v1/namespaces/new/serviceaccounts";
    let maps = "/api/v1/namespaces/new/configmaps";
    let first = world.until(accounts, "default", |o| o.is_some()).await.unwrap();
    let map = format!("{maps}/kube-root-ca.crt");
    let good = |o: Option<&Value>| o.is_some_and(|o| o["data"] == json!({"ca.crt": "PEM"}));
    world.until(maps, "kube-root-ca.crt", good).await;
    client.patch::<Value>(&map, PatchKind::Merge, &json!({"data": {"ca.crt": "x", "more": "y"}})).await.unwrap();
    world.until(maps, "kube-root-ca.crt", good).await;
    client.delete(&map, &Value::Null).await.unwrap();
    client.delete(&format!("{accounts}/default"), &Value::Null).await.unwrap();
    world.until(maps, "kube-root-ca.crt", good).await;
    let uid = |o: &Value| o["metadata"]["uid"].clone();
    world.until(accounts, "default", |o| o.is_some_and(|o| uid(o) != uid(&first))).await;
}

#[tokio::test]
async fn an_aggregated_role_has_the_rules_of_those_it_selects_and_follows_them() {
    let world = World::new().await;
    tokio::spawn(cluster_roles::run(world.client.clone(), world.shutdown.clone()));
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let part = |name: &str, resource: &str| {
        json!({"metadata": {"name": name, "labels": {"part": "yes"}},
            "rules": [{"apiGroups": ["x.org"], "resources": [resource], "verbs": ["get"]}]})
    };
    let whole = json!({"metadata": {"name": "whole"}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}});
    world.client.create::<Value>(path, &part("a", "as")).await.unwrap();
    world.client.create::<Value>(path, &whole).await.unwrap();
    let rules = |o: Option<&Value>| o.and_then(|o| o["rules"].as_array().map(Vec::len)).unwrap_or(0);
    world.until(path, "whole", |o| rules(o) == 1).await;
    world.client.create::<Value>(path, &part("b", "bs")).await.unwrap();
    world.until(path, "whole", |o| rules(o) == 2).await;
    world.client.delete(&format!("{path}/a"), &Value::Null).await.unwrap();
    let left = world.until(path, "whole", |o| rules(o) == 1).await.unwrap();
    assert_eq!(left["rules"][0]["resources"], json!(["bs"]));
}

#[tokio::test]
async fn the_service_of_the_api_leads_to_the_servers_address_and_follows_it() {
    let world = World::new().await;
    let addresses = |text: &str| -> BTreeSet<_> { text.split(' ').map(|a| a.parse().unwrap()).collect() };
    let (sender, receiver) = watch::channel(addresses("127.0.0.1 10.43.0.1 fe80::1 192.0.2.7"));
    let config = kubernetes_service::Config {
        addresses: receiver,
        advertise: None,
        service_ip: Some("10.43.0.1".parse().unwrap()),
        port: 6443,
        shared: false,
    };
    tokio::spawn(kubernetes_service::run(world.client.clone(), config, world.shutdown.clone()));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let leads_to = |address: &'static str| {
        move |o: Option<&Value>| o.is_some_and(|o| o["endpoints"][0]["addresses"] == json!([address]))
    };
    let slice = world.until(slices, "kubernetes", leads_to("192.0.2.7")).await.unwrap();
    assert_eq!(slice["metadata"]["labels"], json!({"kubernetes.io/service-name": "kubernetes"}));
    assert_eq!(slice["ports"][0]["port"], 6443);
    sender.send_replace(addresses("127.0.0.1 192.0.2.8"));
    world.until(slices, "kubernetes", leads_to("192.0.2.8")).await;
    sender.send_replace(addresses("::1 2001:db8::1"));
    world.until(slices, "kubernetes", leads_to("2001:db8::1")).await;
    world.client.delete(&format!("{slices}/kubernetes"), &Value::Null).await.unwrap();
    world.until(slices, "kubernetes", leads_to("2001:db8::1")).await;
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let found = world.until(endpoints, "kubernetes", |o| o.is_some()).await.unwrap();
    assert_eq!(found["subsets"][0]["addresses"][0]["ip"], "2001:db8::1");
}
