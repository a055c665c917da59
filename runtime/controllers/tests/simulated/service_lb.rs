//! Addresses of nodes for Services of the type LoadBalancer.

use kiln_controllers::{endpoint_slice, service_lb};
use serde_json::{Value, json};

use crate::world::{World, pass};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn path(name: &str) -> String {
    format!("{SERVICES}/{name}")
}

/// Two nodes, `a` with 192.168.1.1 and `b` with .2; port 6443 is not to be had.
async fn start() -> World {
    start_with("").await
}

/// The same, with a pool.
async fn start_with(pool: &'static str) -> World {
    let world = World::new().await;
    world.run(move |informers, context| {
        let config = service_lb::Config { reserved: [6443].into(), pool: pool.parse().unwrap() };
        let balancer = service_lb::build(informers, context, config);
        let slices = endpoint_slice::build(informers, context);
        async move { _ = tokio::join!(balancer, slices) }
    });
    for (name, address) in [("a", "192.168.1.1"), ("b", "192.168.1.2")] {
        world.node(name, "z").await;
        let status = json!({"addresses": [{"type": "InternalIP", "address": address}]});
        world.patch(&format!("/api/v1/nodes/{name}/status"), json!({"status": status})).await;
    }
    world
}

async fn service(world: &World, name: &str, port: u16, more: Value) {
    let mut spec = json!({"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": port}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    world.create(SERVICES, json!({"metadata": {"name": name}, "spec": spec})).await;
    pass(1).await;
}

/// The addresses that a Service has.
async fn addresses(world: &World, name: &str) -> Vec<String> {
    let service = world.get(&path(name)).await;
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    ingress.iter().map(|ingress| ingress["ip"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_has_the_addresses_of_nodes_that_are_ready() {
    let world = start().await;
    service(&world, "web", 80, json!({})).await;
    assert_eq!(addresses(&world, "web").await, ["192.168.1.1", "192.168.1.2"]);
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    world.patch("/api/v1/nodes/a/status", ready("Unknown")).await;
    pass(1).await;
    assert_eq!(addresses(&world, "web").await, ["192.168.1.2"]);
    world.patch("/api/v1/nodes/a/status", ready("True")).await;
    let external =
        json!([{"type": "InternalIP", "address": "192.168.1.1"}, {"type": "ExternalIP", "address": "203.0.113.1"}]);
    world.patch("/api/v1/nodes/a/status", json!({"status": {"addresses": external}})).await;
    pass(1).await;
    assert_eq!(addresses(&world, "web").await, ["192.168.1.2", "203.0.113.1"]);
    world
        .patch("/api/v1/nodes/b", json!({"metadata": {"labels": {"svccontroller.k3s.cattle.io/enablelb": "true"}}}))
        .await;
    pass(1).await;
    assert_eq!(addresses(&world, "web").await, ["192.168.1.2"]);
    // It is no load balancer any more.
    world.patch(&path("web"), json!({"spec": {"type": "ClusterIP"}})).await;
    pass(1).await;
    assert_eq!(addresses(&world, "web").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_of_another_class_is_left_alone() {
    let world = start().await;
    service(&world, "other", 80, json!({"loadBalancerClass": "example.com/internal-vip"})).await;
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}});
    world.patch(&format!("{}/status", path("other")), status).await;
    pass(1).await;
    assert_eq!(addresses(&world, "other").await, ["203.0.113.9"]);
    service(&world, "own", 80, json!({"loadBalancerClass": service_lb::CLASS})).await;
    assert_eq!(addresses(&world, "own").await, ["192.168.1.1", "192.168.1.2"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_local_traffic_leaves_nodes_with_endpoints() {
    let world = start().await;
    service(&world, "web", 80, json!({"externalTrafficPolicy": "Local"})).await;
    assert_eq!(addresses(&world, "web").await, Vec::<String>::new());
    world.pod("p", "b", json!({"app": "web"}), &["10.42.1.2"], true).await;
    pass(1).await;
    assert_eq!(addresses(&world, "web").await, ["192.168.1.2"]);
}

#[tokio::test(start_paused = true)]
async fn a_port_of_the_nodes_is_the_oldest_service_s_and_then_the_next_one_s() {
    let world = start().await;
    service(&world, "z-first", 80, json!({})).await;
    service(&world, "second", 80, json!({})).await;
    service(&world, "api", 6443, json!({})).await;
    let both = ["192.168.1.1", "192.168.1.2"];
    assert_eq!(addresses(&world, "z-first").await, both);
    assert_eq!(addresses(&world, "second").await, Vec::<String>::new());
    assert_eq!(addresses(&world, "api").await, Vec::<String>::new());
    let events = world.list("/api/v1/namespaces/default/events").await;
    let said =
        |text: &str| events.iter().any(|event| event["message"].as_str().is_some_and(|said| said.contains(text)));
    assert!(said("port 80/TCP of the nodes is taken by service default/z-first"), "{events:?}");
    assert!(said("port 6443/TCP of the nodes is not for Services"), "{events:?}");
    world.delete(&path("z-first")).await;
    pass(1).await;
    assert_eq!(addresses(&world, "second").await, both);
}

#[tokio::test(start_paused = true)]
async fn services_get_addresses_of_a_pool_and_a_node_that_announces_them() {
    let world = start_with("192.168.1.240-192.168.1.241").await;
    service(&world, "web", 80, json!({})).await;
    service(&world, "same-port", 80, json!({"loadBalancerIP": "192.168.1.240"})).await;
    // Wishes do not take from who has it.
    assert_eq!(addresses(&world, "web").await, ["192.168.1.240"]);
    assert_eq!(addresses(&world, "same-port").await, Vec::<String>::new());
    world.patch(&path("same-port"), json!({"spec": {"loadBalancerIP": null}})).await;
    pass(1).await;
    assert_eq!(addresses(&world, "same-port").await, ["192.168.1.241"]);
    let announcer = async || world.get(&path("web")).await["metadata"]["annotations"]["kiln.dev/announced-by"].clone();
    let first = announcer().await;
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    world.patch(&format!("/api/v1/nodes/{}/status", first.as_str().unwrap()), ready("Unknown")).await;
    pass(2).await;
    let second = announcer().await;
    assert!(second != first && second.is_string(), "{first} {second}");
    // It does not move back, and what is left free is given to others.
    world.patch(&format!("/api/v1/nodes/{}/status", first.as_str().unwrap()), ready("True")).await;
    pass(2).await;
    assert_eq!(announcer().await, second);
    world.patch(&path("web"), json!({"spec": {"type": "ClusterIP"}})).await;
    pass(2).await;
    assert_eq!((addresses(&world, "web").await, announcer().await), (Vec::new(), Value::Null));
    service(&world, "next", 80, json!({})).await;
    assert_eq!(addresses(&world, "next").await, ["192.168.1.240"]);
}
