//! Policies and hints that keep traffic near.

use serde_json::json;

use crate::world::{World, cluster_ip, endpoint};

#[test]
fn an_internal_policy_keeps_traffic_on_the_node() {
    let Some(mut world) = World::new("internal") else { return };
    let mut spec = cluster_ip("10.43.0.10");
    spec["internalTrafficPolicy"] = json!("Local");
    world.service("web", spec, json!({}));
    world.endpoints("web", &[endpoint("10.42.0.2", "node"), endpoint("10.42.0.3", "elsewhere")]);
    world.start();
    assert_eq!(world.who("c", "10.43.0.10:80", 20).into_iter().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn hints_for_the_zone_or_the_node_are_followed_when_all_endpoints_have_them() {
    let Some(mut world) = World::new("hints") else { return };
    let hinted = |address: &str, hints: serde_json::Value| {
        let mut endpoint = endpoint(address, "elsewhere");
        endpoint["hints"] = hints;
        endpoint
    };
    let zone = |name: &str| json!({"forZones": [{"name": name}]});
    let both = |name: &str, node: &str| json!({"forZones": [{"name": name}], "forNodes": [{"name": node}]});
    world
        .api
        .edit("/api/v1/nodes/node", |node| node["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z1"}));
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("web", &[hinted("10.42.0.2", zone("z1")), hinted("10.42.0.3", zone("z2"))]);
    world.start();
    let who = |world: &World| world.who("c", "10.43.0.10:80", 40).into_iter().collect::<Vec<_>>();
    assert_eq!(who(&world), ["a"]);
    // The node moves.
    world
        .api
        .edit("/api/v1/nodes/node", |node| node["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z2"}));
    world.settled();
    assert_eq!(who(&world), ["b"]);
    // Hints for nodes go before those for zones.
    world.endpoints("web", &[hinted("10.42.0.2", both("z1", "node")), hinted("10.42.0.3", both("z2", "other"))]);
    assert_eq!(who(&world), ["a"]);
    // One without hints: none count.
    world.endpoints("web", &[hinted("10.42.0.2", zone("z1")), endpoint("10.42.0.3", "elsewhere")]);
    assert_eq!(who(&world), ["a", "b"]);
}
