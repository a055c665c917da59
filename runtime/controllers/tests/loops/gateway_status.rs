//! Statuses of the Gateway API's objects, by the scenarios of its conformance tests.

use crate::common;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::World;
use kiln_controllers::gateway_status::{self, Ports};
use serde_json::{Value, json};

const API: &str = "/apis/gateway.networking.k8s.io/v1";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gatewayclasses.gateway.networking.k8s.io";

/// A cluster with the API installed, a node, and a Service `web` with port 80 in each namespace.
fn cluster() -> World {
    let world = World::new();
    let status = json!({"conditions": [{"type": "Established", "status": "True"}]});
    let name = "gatewayclasses.gateway.networking.k8s.io";
    world.api.put(DEFINITION, json!({"metadata": {"name": name}, "status": status}));
    for namespace in ["infra", "far"] {
        let labels = json!({"kubernetes.io/metadata.name": namespace});
        world.api.put(
            &format!("/api/v1/namespaces/{namespace}"),
            json!({"metadata": {"name": namespace, "labels": labels}}),
        );
        let path = format!("/api/v1/namespaces/{namespace}/services/web");
        world.api.put(
            &path,
            json!({"metadata": {"name": "web", "namespace": namespace}, "spec": {"ports": [{"port": 80}]}}),
        );
    }
    let node = json!({
        "metadata": {"name": "n", "annotations": {"kiln.dev/ingress": "80,443"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    });
    world.api.put("/api/v1/nodes/n", node);
    let ports = Ports { http: 80, https: 443, reserved: [6443].into() };
    world.run(move |informers, context| gateway_status::build(informers, context, ports));
    world
}

fn gateway(world: &World, name: &str, listeners: Value) {
    let spec = json!({"gatewayClassName": "kiln", "listeners": listeners});
    let meta = json!({"name": name, "namespace": "infra", "uid": name, "generation": 1});
    world.api.put(&path("infra", "gateways", name), json!({"metadata": meta, "spec": spec}));
}

fn route(world: &World, namespace: &str, name: &str, parent: Value, spec: Value) {
    let mut spec = spec;
    spec["parentRefs"] = json!([parent]);
    let meta = json!({"name": name, "namespace": namespace, "uid": name, "generation": 1});
    world.api.put(&path(namespace, "httproutes", name), json!({"metadata": meta, "spec": spec}));
}

fn path(namespace: &str, kind: &str, name: &str) -> String {
    format!("{API}/namespaces/{namespace}/{kind}/{name}")
}

fn http(name: &str) -> Value {
    json!({"name": name, "port": 80, "protocol": "HTTP"})
}

/// A condition as one word: its status and reason.
fn said(conditions: &Value, kind: &str) -> String {
    let all = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == kind);
    found.map_or("none".to_owned(), |one| {
        format!("{} {}", one["status"].as_str().unwrap_or_default(), one["reason"].as_str().unwrap_or_default())
    })
}

/// Waits until a condition of an object, found by a JSON pointer to the conditions, is so.
async fn until(world: &World, path: &str, conditions: &str, kind: &str, expected: &str) {
    let is_so = |object: Value| said(object.pointer(conditions).unwrap_or(&Value::Null), kind) == expected;
    let what = format!("{path} {kind} {expected}");
    world.until(&what, |api| api.object(path).is_some_and(is_so)).await;
}

fn secret(world: &World, namespace: &str, name: &str, certificate: &str, key: &str) {
    let data = json!({"tls.crt": BASE64_STANDARD.encode(certificate), "tls.key": BASE64_STANDARD.encode(key)});
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    world.api.put(&path, json!({"metadata": {"name": name, "namespace": namespace}, "data": data}));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_with_its_routes_tells_that_it_is_served() {
    let world = cluster();
    let class = format!("{API}/gatewayclasses/kiln");
    until(&world, &class, "/status/conditions", "Accepted", "True Accepted").await;
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": "infra"}});
    let allowed = json!({"kinds": [{"kind": "HTTPRoute"}], "namespaces": {"from": "Selector", "selector": selector}});
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP", "hostname": "foo.example.com", "allowedRoutes": allowed});
    gateway(&world, "gw", json!([listener]));
    let rules = json!({"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]});
    for name in ["one", "two"] {
        route(&world, "infra", name, json!({"name": "gw"}), rules.clone());
    }
    let other = json!({"rules": [], "hostnames": ["not-accepted.test.com"]});
    route(&world, "infra", "other", json!({"name": "gw"}), other);
    route(&world, "far", "far", json!({"name": "gw", "namespace": "infra"}), rules.clone());
    let gw = path("infra", "gateways", "gw");
    world
        .until("two routes", |api| {
            api.object(&gw).is_some_and(|gw| gw["status"]["listeners"][0]["attachedRoutes"] == 2)
        })
        .await;
    let status = world.object(&gw)["status"].clone();
    assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": "10.0.0.1"}]));
    for (conditions, kind, expected) in [
        ("/conditions", "Accepted", "True Accepted"),
        ("/conditions", "Programmed", "True Programmed"),
        ("/listeners/0/conditions", "Accepted", "True Accepted"),
        ("/listeners/0/conditions", "Conflicted", "False NoConflicts"),
        ("/listeners/0/conditions", "ResolvedRefs", "True ResolvedRefs"),
        ("/listeners/0/conditions", "Programmed", "True Programmed"),
    ] {
        assert_eq!(said(status.pointer(conditions).unwrap(), kind), expected, "{kind}");
    }
    assert_eq!(
        status["listeners"][0]["supportedKinds"],
        json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}])
    );
    let parents = "/status/parents/0/conditions";
    for (namespace, name, expected) in [
        ("infra", "one", "True Accepted"),
        ("infra", "other", "False NoMatchingListenerHostname"),
        ("far", "far", "False NotAllowedByListeners"),
    ] {
        until(&world, &path(namespace, "httproutes", name), parents, "Accepted", expected).await;
        until(&world, &path(namespace, "httproutes", name), parents, "ResolvedRefs", "True ResolvedRefs").await;
    }
    // A change is observed, and a condition that stays keeps its time.
    let since = status["conditions"][0]["lastTransitionTime"].clone();
    world.api.edit(&gw, |gw| {
        gw["metadata"]["generation"] = json!(2);
        gw["spec"]["listeners"][0]["hostname"] = json!("bar.example.com");
    });
    let is_observed = |gw: Value| gw["status"]["conditions"][1]["observedGeneration"] == 2;
    world.until("observed", |api| api.object(&gw).is_some_and(is_observed)).await;
    assert_eq!(world.object(&gw)["status"]["conditions"][0]["lastTransitionTime"], since);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_listener_is_told() {
    let world = cluster();
    let with =
        |allowed: Value| json!({"name": "l", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": allowed}});
    let kind = |name: &str| json!({"group": "gateway.networking.k8s.io", "kind": name});
    for (name, listeners, gateway_says, kind_of, expected, kinds) in [
        (
            "kind",
            json!([with(json!([kind("InvalidRoute")]))]),
            "True ListenersNotValid",
            "ResolvedRefs",
            "False InvalidRouteKinds",
            0,
        ),
        (
            "kinds",
            json!([with(json!([kind("InvalidRoute"), kind("HTTPRoute")]))]),
            "True ListenersNotValid",
            "ResolvedRefs",
            "False InvalidRouteKinds",
            1,
        ),
        (
            "protocol",
            json!([{"name": "l", "port": 80, "protocol": "TCP"}]),
            "False ListenersNotValid",
            "Accepted",
            "False UnsupportedProtocol",
            0,
        ),
        (
            "some",
            json!([{"name": "l", "port": 81, "protocol": "x.io/P"}, http("good")]),
            "True ListenersNotValid",
            "Accepted",
            "False UnsupportedProtocol",
            0,
        ),
        (
            "port",
            json!([{"name": "l", "port": 6443, "protocol": "HTTP"}]),
            "False ListenersNotValid",
            "Accepted",
            "False PortUnavailable",
            1,
        ),
        (
            "http",
            json!([{"name": "l", "port": 443, "protocol": "HTTP"}]),
            "False ListenersNotValid",
            "Accepted",
            "False PortUnavailable",
            1,
        ),
        ("twice", json!([http("l"), http("m")]), "True ListenersNotValid", "Conflicted", "True HostnameConflict", 1),
        (
            "both",
            json!([{"name": "l", "port": 8443, "protocol": "HTTP"}, {"name": "m", "port": 8443, "protocol": "HTTPS"}]),
            "True ListenersNotValid",
            "Conflicted",
            "True ProtocolConflict",
            1,
        ),
    ] {
        gateway(&world, name, listeners);
        let gw = path("infra", "gateways", name);
        until(&world, &gw, "/status/conditions", "Accepted", gateway_says).await;
        let listener = world.object(&gw)["status"]["listeners"][0].clone();
        assert_eq!(said(&listener["conditions"], kind_of), expected, "{name}");
        assert_eq!(listener["supportedKinds"].as_array().map(Vec::len), Some(kinds), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_are_looked_for_where_they_may_be() {
    let world = cluster();
    let tls = |reference: Value| json!([{"name": "l", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [reference]}}]);
    let made = kiln_pki::Authority::create(std::time::SystemTime::now()).unwrap();
    let (certificate, key) = (made.certificate_pem().to_owned(), made.key_pem());
    for namespace in ["infra", "far"] {
        secret(&world, namespace, "good", &certificate, &key);
    }
    secret(&world, "infra", "malformed", "Hello world", "Hello world");
    for (name, reference, expected) in [
        ("good", json!({"name": "good"}), "True ResolvedRefs"),
        ("missing", json!({"name": "missing"}), "False InvalidCertificateRef"),
        ("malformed", json!({"name": "malformed"}), "False InvalidCertificateRef"),
        ("group", json!({"name": "good", "group": "wrong.group.company.io"}), "False InvalidCertificateRef"),
        ("kind", json!({"name": "good", "kind": "WrongKind"}), "False InvalidCertificateRef"),
        ("far", json!({"name": "good", "namespace": "far"}), "False RefNotPermitted"),
    ] {
        gateway(&world, name, tls(reference));
        let gw = path("infra", "gateways", name);
        until(&world, &gw, "/status/listeners/0/conditions", "ResolvedRefs", expected).await;
        let programmed = if expected.starts_with("True") { "True Programmed" } else { "False Invalid" };
        until(&world, &gw, "/status/conditions", "Programmed", programmed).await;
    }
    let spec = json!({"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}],
                      "to": [{"group": "", "kind": "Secret", "name": "good"}]});
    let grant = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/far/referencegrants/g";
    world.api.put(grant, json!({"metadata": {"name": "g", "namespace": "far"}, "spec": spec}));
    until(
        &world,
        &path("infra", "gateways", "far"),
        "/status/listeners/0/conditions",
        "ResolvedRefs",
        "True ResolvedRefs",
    )
    .await;
    // A Secret that comes is seen.
    secret(&world, "infra", "missing", &certificate, &key);
    until(&world, &path("infra", "gateways", "missing"), "/status/conditions", "Programmed", "True Programmed").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_route_is_told_and_others_words_stay() {
    let world = cluster();
    gateway(&world, "gw", json!([http("http")]));
    let to = |backend: Value| json!({"rules": [{"backendRefs": [backend]}]});
    let good = || to(json!({"name": "web", "port": 80}));
    let gw = json!({"name": "gw"});
    let parents = "/status/parents/0/conditions";
    for (name, parent, spec, kind, expected) in [
        ("section", json!({"name": "gw", "sectionName": "other"}), good(), "Accepted", "False NoMatchingParent"),
        ("port", json!({"name": "gw", "port": 81}), good(), "Accepted", "False NoMatchingParent"),
        ("missing", gw.clone(), to(json!({"name": "nowhere", "port": 80})), "ResolvedRefs", "False BackendNotFound"),
        (
            "kind",
            gw.clone(),
            to(json!({"name": "web", "port": 80, "kind": "NonExistent"})),
            "ResolvedRefs",
            "False InvalidKind",
        ),
        (
            "far",
            gw.clone(),
            to(json!({"name": "web", "namespace": "far", "port": 80})),
            "ResolvedRefs",
            "False RefNotPermitted",
        ),
        (
            "regex",
            gw.clone(),
            json!({"rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "/a.*"}}]}]}),
            "Accepted",
            "False UnsupportedValue",
        ),
        (
            "persistence",
            gw.clone(),
            json!({"rules": [{"sessionPersistence": {"type": "Cookie"}}]}),
            "Accepted",
            "False UnsupportedValue",
        ),
        (
            "extension",
            gw.clone(),
            json!({"rules": [{"filters": [{"type": "ExtensionRef"}]}]}),
            "Accepted",
            "False UnsupportedValue",
        ),
        (
            "mirror",
            gw.clone(),
            json!({"rules": [{"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "nowhere", "port": 80}}}]}]}),
            "ResolvedRefs",
            "False BackendNotFound",
        ),
    ] {
        route(&world, "infra", name, parent, spec);
        until(&world, &path("infra", "httproutes", name), parents, kind, expected).await;
    }
    // Routes to other controllers' Gateways are none of ours, and what others told stays.
    let other = path("infra", "httproutes", "other");
    route(&world, "infra", "other", gw, good());
    let told = json!({"controllerName": "example.com/other", "parentRef": {"name": "x"}, "conditions": []});
    world.until("told", |api| api.object(&other).is_some_and(|route| route["status"]["parents"].is_array())).await;
    world.api.edit(&other, |route| {
        route["status"]["parents"].as_array_mut().unwrap().push(told.clone());
        route["spec"]["parentRefs"] = json!([{"name": "x"}]);
    });
    world
        .until("only theirs", |api| api.object(&other).is_some_and(|route| route["status"]["parents"] == json!([told])))
        .await;
}
