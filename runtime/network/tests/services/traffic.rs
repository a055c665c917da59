//! What is sent to the address of a Service within the cluster.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpStream;

use serde_json::json;

use crate::world::{SILENCE, World, cluster_ip, endpoint, going, pods, question};

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_address_of_a_service_leads_to_each_of_its_endpoints() {
    let Some(mut world) = World::new("clusterip") else { return };
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("web", &pods(&["a", "b"]));
    world.start();
    // Both in sixty tries, but for a chance of 2^-59.
    assert_eq!(world.who("c", "10.43.0.10:80", 60), names(&["a", "b"]));
    assert_eq!(world.who("node", "10.43.0.10:80", 60), names(&["a", "b"]));
    assert_eq!(world.who("outside", "10.43.0.10:80", 60), names(&["a", "b"]));
    let over_udp: BTreeSet<_> = (0..60).map(|_| world.ask_udp("c", 0, "10.43.0.10:80").unwrap().0).collect();
    assert_eq!(over_udp, names(&["a", "b"]));
    // Pods are seen as themselves, others as the node.
    assert_eq!(world.ask("c", "10.43.0.10:80").unwrap().1, "10.42.0.4");
    assert_eq!(world.ask("outside", "10.43.0.10:80").unwrap().1, "10.42.0.1");
    // One more endpoint, then only one; each change is one small transaction.
    world.endpoints("web", &pods(&["a", "b", "c"]));
    assert_eq!(world.who("node", "10.43.0.10:80", 90), names(&["a", "b", "c"]));
    world.endpoints("web", &pods(&["b"]));
    assert_eq!(world.who("c", "10.43.0.10:80", 20), names(&["b"]));
    // What nft lists can be read by people.
    assert!(world.listed().contains("10.43.0.10 . tcp . 80 : goto service-ns/web/tcp/tcp"), "{}", world.listed());
}

#[test]
fn a_service_of_both_families_is_reached_over_both() {
    let Some(mut world) = World::new("dual") else { return };
    let spec = json!({"type": "ClusterIP", "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10", "fd00:43::10"],
                      "ports": crate::world::ports()});
    world.service("web", spec, json!({}));
    world.endpoints("web", &pods(&["a"]));
    world.endpoints("web", &[endpoint("fd00:42::3", "node")]);
    world.start();
    assert_eq!(world.ask("c", "10.43.0.10:80").unwrap(), ("a".to_owned(), "10.42.0.4".to_owned()));
    assert_eq!(world.ask("c", "[fd00:43::10]:80").unwrap(), ("b".to_owned(), "fd00:42::4".to_owned()));
    assert_eq!(world.ask_udp("c", 0, "[fd00:43::10]:80").unwrap().0, "b");
    // The pod reaches itself.
    assert_eq!(world.ask("b", "[fd00:43::10]:80").unwrap(), ("b".to_owned(), "fd00:42::1".to_owned()));
}

#[test]
fn without_endpoints_and_at_a_wrong_port_clients_are_refused_at_once() {
    let Some(mut world) = World::new("reject") else { return };
    world.start();
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    refused(world.ask("c", "10.43.0.10:80").unwrap_err());
    refused(world.ask("node", "10.43.0.10:80").unwrap_err());
    refused(world.ask_udp("c", 0, "10.43.0.10:80").unwrap_err());
    // Of what it sends itself over UDP the kernel says so at once.
    let error = world.ask_udp("node", 0, "10.43.0.10:80").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    world.endpoints("web", &pods(&["a"]));
    assert_eq!(world.ask("c", "10.43.0.10:80").unwrap().0, "a");
    refused(world.ask("c", "10.43.0.10:81").unwrap_err());
    world.endpoints("web", &[]);
    refused(world.ask("c", "10.43.0.10:80").unwrap_err());
}

#[test]
fn an_address_of_services_that_nobody_has_is_dropped_but_what_the_node_itself_serves_there() {
    let Some(mut world) = World::new("unused") else { return };
    world.start();
    for from in ["c", "node", "outside"] {
        let error = world.ask_within(from, "10.43.0.53:8080", SILENCE).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::PermissionDenied), "{from}: {error}");
    }
    world.ip("node", "addr add 10.43.0.53/32 dev lo");
    world.echo("node");
    for from in ["c", "node", "outside"] {
        assert_eq!(world.ask(from, "10.43.0.53:8080").unwrap().0, "node");
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let Some(mut world) = World::new("hairpin") else { return };
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    // Two Services with one pod: it stays reachable for itself when one of them goes.
    world.service("other", cluster_ip("10.43.0.11"), json!({}));
    world.endpoints("web", &pods(&["a"]));
    world.endpoints("other", &pods(&["a"]));
    world.start();
    assert_eq!(world.ask("a", "10.43.0.10:80").unwrap(), ("a".to_owned(), "10.42.0.1".to_owned()));
    world.api.remove("/api/v1/namespaces/ns/services/other");
    world.settled();
    assert_eq!(world.ask("a", "10.43.0.10:80").unwrap().0, "a");
    assert_eq!(world.ask_udp("a", 0, "10.43.0.10:80").unwrap().0, "a");
}

#[test]
fn a_client_sticks_to_its_endpoint_even_over_a_restart_of_the_proxy() {
    let Some(mut world) = World::new("affinity") else { return };
    let mut spec = cluster_ip("10.43.0.10");
    spec["sessionAffinity"] = json!("ClientIP");
    spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 100}});
    world.service("web", spec, json!({}));
    world.endpoints("web", &pods(&["a", "b", "c"]));
    world.start();
    let first = world.who("node", "10.43.0.10:80", 20);
    assert_eq!(first.len(), 1, "{first:?}");
    world.stop();
    world.start();
    assert_eq!(world.who("node", "10.43.0.10:80", 20), first);
    // Others are chosen for when it goes, and stick as well.
    let stays: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| !first.contains(*name)).collect();
    world.endpoints("web", &pods(&stays));
    let second = world.who("node", "10.43.0.10:80", 20);
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    // It is listed without harm.
    assert!(world.listed().contains("affinity-ns/web/tcp/tcp__10.42.0."), "{}", world.listed());
}

#[test]
fn endpoints_that_are_going_serve_while_there_are_no_others() {
    let Some(mut world) = World::new("going") else { return };
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("web", &[going("10.42.0.2", "node"), endpoint("10.42.0.3", "node")]);
    world.start();
    assert_eq!(world.who("c", "10.43.0.10:80", 20), names(&["b"]));
    world.endpoints("web", &[going("10.42.0.2", "node")]);
    assert_eq!(world.who("c", "10.43.0.10:80", 5), names(&["a"]));
}

#[test]
fn a_client_over_udp_is_led_on_when_its_endpoint_goes() {
    let Some(mut world) = World::new("udp") else { return };
    world.service("dns", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("dns", &pods(&["a"]));
    world.start();
    // From one port: for the kernel all of it is one connection.
    assert_eq!(world.ask_udp("c", 5353, "10.43.0.10:80").unwrap().0, "a");
    world.endpoints("dns", &pods(&["b"]));
    assert_eq!(world.ask_udp("c", 5353, "10.43.0.10:80").unwrap().0, "b");
}

#[test]
fn a_restart_keeps_connections_and_removes_what_is_stale() {
    let Some(mut world) = World::new("restart") else { return };
    world.service("web", cluster_ip("10.43.0.10"), json!({}));
    world.service("old", cluster_ip("10.43.0.11"), json!({}));
    world.endpoints("web", &pods(&["a"]));
    world.endpoints("old", &pods(&["b"]));
    world.start();
    let stream = world.within("c", || TcpStream::connect("10.43.0.10:80")).unwrap();
    assert_eq!(question(stream.try_clone().unwrap()).unwrap().0, "a");
    world.stop();
    // Without the proxy it goes on.
    assert_eq!(world.ask("c", "10.43.0.11:80").unwrap().0, "b");
    world.api.remove("/api/v1/namespaces/ns/services/old");
    world.endpoints("web", &pods(&["b"]));
    world.start();
    assert_eq!(question(stream).unwrap().0, "a");
    assert_eq!(world.who("c", "10.43.0.10:80", 5), names(&["b"]));
    assert!(!world.listed().contains("10.43.0.11"), "{}", world.listed());
    world.stop();
    world.within("node", kiln_network::services::remove).unwrap();
    assert_eq!(world.listed(), "");
}

#[test]
fn two_services_that_claim_one_address_do_not_stop_each_other() {
    let Some(mut world) = World::new("claims") else { return };
    world.start();
    world.service("first", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("first", &pods(&["a"]));
    world.service("second", cluster_ip("10.43.0.10"), json!({}));
    world.endpoints("second", &pods(&["b"]));
    assert_eq!(world.who("c", "10.43.0.10:80", 5), names(&["a"]));
    world.api.remove("/api/v1/namespaces/ns/services/first");
    world.settled();
    assert_eq!(world.who("c", "10.43.0.10:80", 5), names(&["b"]));
}
