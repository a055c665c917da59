//! Services that become something else, and endpoints that are spread over slices, as the conformance suite has them.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use serde_json::{Value, json};

use crate::world::{ECHO, World, cluster_ip, endpoint, pods};

fn node_port(address: &str) -> Value {
    json!({"type": "NodePort", "clusterIP": address, "clusterIPs": [address],
           "ports": [{"name": "tcp", "port": 80, "protocol": "TCP", "nodePort": 30080},
                     {"name": "udp", "port": 80, "protocol": "UDP", "nodePort": 30081}]})
}

fn external_name() -> Value {
    json!({"type": "ExternalName", "externalName": "example.org"})
}

fn sticky(mut spec: Value) -> Value {
    spec["sessionAffinity"] = json!("ClientIP");
    spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10_800}});
    spec
}

#[test]
fn a_service_becomes_a_name_elsewhere_and_comes_back() {
    let Some(mut world) = World::new("types") else { return };
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("web", &pods(&["a", "b"]));
    world.start();
    assert!(world.ask("c", "10.43.0.10:80").is_ok());
    world.service("web", external_name(), json!({}));
    // The address is nobody's: what is sent there is dropped.
    let error = world.ask_within("c", "10.43.0.10:80", crate::world::SILENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(!world.listed().contains("10.43.0.10 "), "{}", world.listed());
    world.service("web", node_port("10.43.0.11"), json!({}));
    assert!(world.ask("c", "10.43.0.11:80").is_ok() && world.ask("outside", "192.168.50.1:30080").is_ok());
    world.service("web", external_name(), json!({}));
    let error = world.ask("outside", "192.168.50.1:30080").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    world.service("web", cluster_ip("10.43.0.12"), json!({}));
    assert!(world.ask("c", "10.43.0.12:80").is_ok());
}

#[test]
fn affinity_is_switched_on_and_off() {
    let Some(mut world) = World::new("switch") else { return };
    world.service("web", node_port("10.43.0.10"), json!({}));
    world.endpoints("web", &pods(&["a", "b"]));
    world.start();
    for (from, to) in [("node", "10.43.0.10:80"), ("outside", "192.168.50.1:30080")] {
        assert_eq!(world.who(from, to, 60).len(), 2);
        world.service("web", sticky(node_port("10.43.0.10")), json!({}));
        let one = world.who(from, to, 20);
        assert_eq!(one.len(), 1, "{one:?}");
        // By which address it is asked does not matter, as long as the client is the same.
        if from == "node" {
            assert_eq!(world.who("node", "192.168.50.1:30080", 5).len(), 1);
        }
        world.service("web", node_port("10.43.0.10"), json!({}));
    }
    assert_eq!(world.who("outside", "192.168.50.1:30080", 60).len(), 2);
}

#[test]
fn several_slices_are_the_endpoints_of_one_service() {
    let Some(mut world) = World::new("slices") else { return };
    let ports =
        json!([{"name": "first", "port": 80, "protocol": "TCP"}, {"name": "second", "port": 81, "protocol": "TCP"}]);
    world.service(
        "web",
        json!({"type": "ClusterIP", "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "ports": ports}),
        json!({}),
    );
    let port = |name: &str| json!([{"name": name, "port": ECHO, "protocol": "TCP"}]);
    world.slice("one", "web", "IPv4", &port("first"), &[endpoint("10.42.0.2", "node")]);
    world.slice("two", "web", "IPv4", &port("first"), &[endpoint("10.42.0.3", "elsewhere")]);
    world.slice("three", "web", "IPv4", &port("second"), &[endpoint("10.42.0.4", "node")]);
    world.start();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(world.who("outside", "10.43.0.10:80", 60), names(&["a", "b"]));
    assert_eq!(world.who("outside", "10.43.0.10:81", 10), names(&["c"]));
    world.api.remove("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/one");
    world.settled();
    assert_eq!(world.who("outside", "10.43.0.10:80", 10), names(&["b"]));
}

#[test]
fn one_number_is_a_port_of_each_protocol() {
    let Some(mut world) = World::new("protocols") else { return };
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    let port = |protocol: &str| json!([{"name": protocol.to_lowercase(), "port": ECHO, "protocol": protocol}]);
    world.slice("tcp", "web", "IPv4", &port("TCP"), &[endpoint("10.42.0.2", "node")]);
    world.slice("udp", "web", "IPv4", &port("UDP"), &[endpoint("10.42.0.3", "node")]);
    world.start();
    assert_eq!(world.ask("c", "10.43.0.10:80").unwrap().0, "a");
    assert_eq!(world.ask_udp("c", 0, "10.43.0.10:80").unwrap().0, "b");
    let mut only_udp = cluster_ip("10.43.0.10");
    only_udp["ports"] = json!([{"name": "udp", "port": 80, "protocol": "UDP"}]);
    world.service("web", only_udp, json!({}));
    assert_eq!(world.ask("c", "10.43.0.10:80").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(world.ask_udp("c", 0, "10.43.0.10:80").unwrap().0, "b");
}
