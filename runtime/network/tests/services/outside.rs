//! What comes from outside the cluster, and what goes there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::world::{SILENCE, World, endpoint, pods};

/// A Service that is reached from outside at a port of the node.
fn node_port(kind: &str, policy: &str) -> Value {
    json!({"type": kind, "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "externalTrafficPolicy": policy,
           "ports": [{"name": "tcp", "port": 80, "protocol": "TCP", "nodePort": 30080},
                     {"name": "udp", "port": 80, "protocol": "UDP", "nodePort": 30080}]})
}

#[test]
fn a_port_of_the_node_leads_to_the_service_and_the_policy_says_as_whom() {
    let Some(mut world) = World::new("nodeport") else { return };
    world.service("web", node_port("NodePort", "Cluster"), json!({}));
    world.endpoints("web", &pods(&["a"]));
    world.start();
    assert_eq!(world.ask("outside", "192.168.50.1:30080").unwrap(), ("a".to_owned(), "10.42.0.1".to_owned()));
    assert_eq!(world.ask("node", "192.168.50.1:30080").unwrap().0, "a");
    assert_eq!(world.ask("c", "192.168.50.1:30080").unwrap().0, "a");
    assert_eq!(world.ask_udp("outside", 0, "192.168.50.1:30080").unwrap().0, "a");
    // The client's own address with endpoints of this node only.
    world.service("web", node_port("NodePort", "Local"), json!({}));
    assert_eq!(world.ask("outside", "192.168.50.1:30080").unwrap(), ("a".to_owned(), "192.168.50.2".to_owned()));
    // None here: what comes from outside is dropped, what the cluster itself sends goes elsewhere.
    world.endpoints("web", &[endpoint("10.42.0.2", "elsewhere")]);
    let error = world.ask_within("outside", "192.168.50.1:30080", SILENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(world.ask("c", "192.168.50.1:30080").unwrap().0, "a");
    assert_eq!(world.ask("node", "192.168.50.1:30080").unwrap().0, "a");
    // None at all: refused.
    world.endpoints("web", &[]);
    let error = world.ask("outside", "192.168.50.1:30080").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn a_load_balancer_s_address_is_for_those_in_its_ranges() {
    let Some(mut world) = World::new("ranges") else { return };
    let mut spec = node_port("LoadBalancer", "Local");
    spec["loadBalancerSourceRanges"] = json!(["192.168.50.2/32", " 10.42.0.0/16", "10.42.0.0/24"]);
    let status = |mode: &str| json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": mode}]}});
    world.service("web", spec.clone(), status("VIP"));
    world.endpoints("web", &pods(&["a"]));
    world.start();
    assert_eq!(world.ask("outside", "203.0.113.1:80").unwrap(), ("a".to_owned(), "192.168.50.2".to_owned()));
    assert_eq!(world.ask("c", "203.0.113.1:80").unwrap().0, "a");
    spec["loadBalancerSourceRanges"] = json!(["192.168.50.3/32"]);
    world.service("web", spec, status("VIP"));
    for from in ["outside", "c"] {
        let error = world.ask_within(from, "203.0.113.1:80", SILENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    // The node's port has no such ranges.
    assert_eq!(world.ask("outside", "192.168.50.1:30080").unwrap().0, "a");
}

#[test]
fn an_external_address_leads_to_the_service() {
    let Some(mut world) = World::new("external") else { return };
    let mut spec = crate::world::cluster_ip("10.43.0.10");
    spec["externalIPs"] = json!(["203.0.113.7"]);
    world.service("web", spec, json!({}));
    world.endpoints("web", &pods(&["b"]));
    world.start();
    assert_eq!(world.ask("outside", "203.0.113.7:80").unwrap(), ("b".to_owned(), "10.42.0.1".to_owned()));
    assert_eq!(world.ask("c", "203.0.113.7:80").unwrap().0, "b");
}

#[test]
fn what_pods_send_outside_has_the_node_s_address_and_among_themselves_their_own() {
    let Some(mut world) = World::new("leaving") else { return };
    world.start();
    assert_eq!(world.ask("a", "192.168.50.2:8080").unwrap(), ("outside".to_owned(), "192.168.50.1".to_owned()));
    assert_eq!(world.ask("a", "10.42.0.3:8080").unwrap(), ("b".to_owned(), "10.42.0.2".to_owned()));
    // A node that comes later has pods as well.
    world.api.put(
        "/api/v1/nodes/other",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other", "uid": "o"},
               "spec": {"podCIDR": "192.168.50.0/24", "podCIDRs": ["192.168.50.0/24"]}}),
    );
    world.settled();
    let answered = world.within("outside", || {
        // There is no way back for such an answer but the one that it came by.
        TcpStream::connect_timeout(&"192.168.50.1:1".parse().unwrap(), SILENCE).unwrap_err().kind()
    });
    assert_eq!(answered, ErrorKind::ConnectionRefused);
    world.within("outside", || {
        let mut route = std::process::Command::new("ip");
        assert!(route.args(["route", "add", "10.42.0.0/24", "via", "192.168.50.1"]).status().unwrap().success());
    });
    assert_eq!(world.ask("a", "192.168.50.2:8080").unwrap().1, "10.42.0.2");
}

#[test]
fn a_load_balancer_is_told_which_node_has_endpoints() {
    let Some(mut world) = World::new("health") else { return };
    let mut spec = node_port("LoadBalancer", "Local");
    spec["healthCheckNodePort"] = json!(32000);
    world.service("web", spec, json!({}));
    world.endpoints("web", &pods(&["a", "b"]));
    world.start();
    let asked = |world: &World| {
        world.within("outside", || {
            let mut stream = TcpStream::connect("192.168.50.1:32000").unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    };
    let text = asked(&world);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.to_lowercase().contains("x-load-balancing-endpoint-weight: 2"), "{text}");
    let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let service = json!({"namespace": "ns", "name": "web"});
    assert_eq!(body, json!({"service": service, "localEndpoints": 2, "serviceProxyHealthy": true}));
    world.endpoints("web", &[endpoint("10.42.0.2", "elsewhere")]);
    assert!(asked(&world).starts_with("HTTP/1.1 503"));
}
