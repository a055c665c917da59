//! Pod networks of nodes.

use crate::common;

use std::collections::BTreeSet;

use common::{World, pass};
use kiln_apimachinery::Status;
use kiln_controllers::node_ipam;
use serde_json::{Value, json};

fn start(world: &World, cluster: &str) {
    let clusters = cluster.split(',').map(|range| range.parse().expect("a network")).collect();
    world.run(move |informers, context| node_ipam::build(informers, context, clusters));
}

fn path(node: &str) -> String {
    format!("/api/v1/nodes/{node}")
}

#[tokio::test(start_paused = true)]
async fn every_node_gets_a_network_of_its_own_and_keeps_the_one_it_has() {
    let world = World::new();
    for node in ["a", "b", "c"] {
        world.api.put(&path(node), json!({"spec": {}}));
    }
    world.api.put(&path("z"), json!({"spec": {"podCIDR": "10.42.0.0/24"}}));
    start(&world, "10.42.0.0/16");
    let all = ["a", "b", "c"].map(path);
    world
        .until("all served", |api| all.iter().all(|p| api.object(p).is_some_and(|n| !n["spec"]["podCIDR"].is_null())))
        .await;
    let networks: BTreeSet<_> = all.iter().map(|p| world.object(p)["spec"]["podCIDR"].to_string()).collect();
    let expected = ["\"10.42.1.0/24\"", "\"10.42.2.0/24\"", "\"10.42.3.0/24\""].map(str::to_owned);
    assert_eq!(networks, BTreeSet::from(expected));
    let node: Value = world.object(&path("a"));
    assert_eq!(node["spec"]["podCIDRs"], json!([node["spec"]["podCIDR"]]));
    assert_eq!(world.object(&path("z"))["spec"]["podCIDR"], "10.42.0.0/24");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_repeated_with_the_same_network() {
    let world = World::new();
    world.api.refuse_next("PATCH", Status::internal("busy"));
    world.api.put(&path("a"), json!({"spec": {}}));
    start(&world, "10.42.0.0/16");
    world.until("served", |api| api.object(&path("a")).is_some_and(|n| n["spec"]["podCIDR"] == "10.42.0.0/24")).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_finds_no_network_gets_that_of_one_that_leaves() {
    let world = World::new();
    world.api.put(&path("a"), json!({"spec": {"podCIDR": "10.42.0.0/24"}}));
    world.api.put(&path("b"), json!({"spec": {}}));
    start(&world, "10.42.0.0/24");
    pass(60).await;
    assert!(world.object(&path("b"))["spec"]["podCIDR"].is_null());
    let told = ("CIDRNotAvailable".to_owned(), "Node b status is now: CIDRNotAvailable".to_owned());
    assert_eq!(world.events("Node").await, [told]);
    world.api.remove(&path("a"));
    world.until("served", |api| api.object(&path("b")).is_some_and(|n| n["spec"]["podCIDR"] == "10.42.0.0/24")).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_gets_a_network_of_each_family_and_one_from_before_keeps_its_own() {
    let world = World::new();
    world.api.put(&path("old"), json!({"spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]}}));
    world.api.put(&path("a"), json!({"spec": {}}));
    start(&world, "10.42.0.0/16,fd00:42::/56");
    world.until("served", |api| api.object(&path("a")).is_some_and(|n| !n["spec"]["podCIDR"].is_null())).await;
    let spec = &world.object(&path("a"))["spec"];
    assert_eq!(*spec, json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", "fd00:42::/64"]}));
    assert_eq!(world.object(&path("old"))["spec"]["podCIDRs"], json!(["10.42.0.0/24"]));
}
