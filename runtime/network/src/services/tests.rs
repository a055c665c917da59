//! What Services become; that packets then go where they should is seen by the crate's tests with traffic.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_client::ObjectRef;
use serde_json::{Value, json};

use super::layout::Container;
use super::model::{IpFamily, endpoints, ports};
use super::render::{Act, Here, Rendered, Slot};
use super::state::State;
use super::topology::Place;
use crate::nft::{Batch, Key};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})).unwrap()
}

fn slice(endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({"addressType": "IPv4", "metadata": {"name": "s", "namespace": "ns"},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))
    .unwrap()
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"type": "ClusterIP", "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"],
                          "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn here() -> Here {
    Here { place: Place { node: "node".to_owned(), zone: String::new() }, addresses: Vec::new() }
}

fn rendered(spec: Value, endpoints_of: Value) -> Rendered {
    let (service, slice) = (service(spec), slice(endpoints_of));
    let mut rendered = Rendered::default();
    for port in ports(&service) {
        rendered.add("ns", "web", &port, &endpoints([&slice], &port, "node"), &here());
    }
    rendered
}

/// Where a port of the node leads to: in the map of Services, and in that of those without endpoints.
fn node_port(rendered: &Rendered) -> (Option<String>, Option<Act>) {
    let at = |container| {
        let key = Key::new().protocol(6).port(30080);
        rendered.elements.get(&Slot { family: IpFamily::V4, container, key }).cloned()
    };
    let chain = match at(Container::NodePorts) {
        Some(Act::Goto(chain)) => Some(chain.as_ref().to_owned()),
        _ => None,
    };
    (chain, at(Container::NoEndpointNodePorts))
}

#[test]
fn a_port_of_the_node_is_dropped_or_refused_where_nobody_may_serve_it() {
    let external = Some("external-ns/web/tcp/http".to_owned());
    let (here, elsewhere) =
        (json!([{"addresses": ["10.42.0.2"], "nodeName": "node"}]), json!([{"addresses": ["10.42.1.2"]}]));
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    for (policy, endpoints, expected) in [
        (json!({"type": "NodePort"}), here.clone(), (external.clone(), None)),
        (json!({"type": "NodePort"}), json!([]), (None, Some(Act::Reject))),
        (local.clone(), here.clone(), (external.clone(), None)),
        // Pods of the cluster are still led on by the chain; the rest is dropped.
        (local.clone(), elsewhere, (external, Some(Act::Drop))),
        (local, json!([]), (None, Some(Act::Reject))),
    ] {
        let text = format!("{policy} {endpoints}");
        assert_eq!(node_port(&rendered(spec(policy), endpoints)), expected, "{text}");
    }
}

#[test]
fn services_without_an_address_and_those_of_another_proxy_are_left_alone() {
    assert_eq!(ports(&service(spec(json!({"clusterIP": "None", "clusterIPs": ["None"]})))), []);
    assert_eq!(ports(&service(spec(json!({"type": "ExternalName", "externalName": "example.org"})))), []);
    assert_eq!(ports(&service(spec(json!({"ports": []})))), []);
    let mut other = service(spec(json!({})));
    other.metadata.labels = Some([("service.kubernetes.io/service-proxy-name".to_owned(), "x".to_owned())].into());
    assert_eq!(ports(&other), []);
}

#[test]
fn nonsense_in_objects_is_passed_over() {
    let bad = json!({"externalIPs": ["x", "fd00::1"], "loadBalancerSourceRanges": ["1.2.3.4/33", "a", "10.0.0.0/8 "]});
    let found = ports(&service(spec(bad)));
    assert_eq!((found[0].external_ips.len(), found[0].source_ranges.len()), (0, 1));
    let slice = slice(
        json!([{"addresses": []}, {"addresses": ["x"]}, {"addresses": ["127.0.0.1"]}, {"addresses": ["10.42.0.2"]}]),
    );
    assert_eq!(endpoints([&slice], &found[0], "node").len(), 1);
}

#[test]
fn of_two_pods_with_one_address_the_one_that_is_not_going_counts() {
    let port = ports(&service(spec(json!({})))).remove(0);
    let going =
        json!({"addresses": ["10.42.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}});
    let ready = json!({"addresses": ["10.42.0.2"], "nodeName": "node"});
    for order in [[going.clone(), ready.clone()], [ready, going]] {
        let found = endpoints([&slice(json!(order))], &port, "node");
        assert!(found.len() == 1 && found[0].ready && found[0].local, "{found:?}");
    }
}

#[test]
fn a_change_touches_what_differs_and_no_more() {
    let pod = |last: u8| json!({"addresses": [format!("10.42.0.{last}")], "nodeName": "other"});
    let (mut state, key) = (State::default(), ObjectRef::namespaced("ns", "web"));
    let mut step = |rendered| {
        let mut batch = Batch::new();
        state.change(&mut batch, &key, rendered);
        state.finish(&mut batch);
        batch.len()
    };
    assert!(step(Some(rendered(spec(json!({})), json!([pod(2)])))) > 0);
    assert_eq!(step(Some(rendered(spec(json!({})), json!([pod(2)])))), 0);
    // The rules of one chain: they go, a map comes with what is in it, a rule comes.
    assert_eq!(step(Some(rendered(spec(json!({})), json!([pod(2), pod(3)])))), 4);
    assert!(step(None) > 0);
    assert_eq!(step(None), 0);
}
