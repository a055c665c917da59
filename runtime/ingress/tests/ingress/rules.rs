//! Which request goes where: the features of the conformance suite for ingress controllers, scenario by scenario.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kiln_ingress::{Config, ExternalNames};
use serde_json::json;

use crate::support::{World, api, backend, config, counted_echo, echo, ingress, rule, service};

/// An API with Services that each have a pod.
async fn with(services: &[&str]) -> kiln_client::testing::FakeApi {
    let api = api();
    for name in services {
        service(&api, name, &[echo(name).await], None);
    }
    api
}

#[tokio::test]
async fn an_ingress_without_rules_sends_everything_to_its_default_backend() {
    let api = with(&["echo-service"]).await;
    ingress(&api, "default-backend", json!(null), json!({"defaultBackend": backend("echo-service")}));
    let world = World::start(api).await;
    for (method, host, path) in [
        ("GET", "my-host", "/"),
        ("GET", "my-host", "/sub-path"),
        ("POST", "some-host", "/"),
        ("PUT", "", "/resource"),
        ("DELETE", "some-host", "/resource"),
        ("PATCH", "my-host", "/resource"),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", host).header("user-agent", "x");
        let reply = world.send(request.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.served_by()),
            (200, "echo-service".to_owned()),
            "{method} {host}{path}"
        );
        for header in ["content-length", "content-type", "date", "server"] {
            assert!(reply.headers.contains_key(header), "{header}");
        }
        let seen = reply.echo();
        assert_eq!(
            (&seen["method"], &seen["target"], &seen["proto"]),
            (&json!(method), &json!(path), &json!("HTTP/1.1"))
        );
        assert_eq!((reply.saw("user-agent"), reply.saw("host")), ("x".to_owned(), host.to_owned()));
    }
}

#[tokio::test]
async fn hosts_are_matched_whole_or_by_a_wildcard_for_one_label() {
    let api = with(&["wildcard-foo-com", "foo-bar-com"]).await;
    let rules = json!({"rules": [
        rule("*.foo.com", &[("Prefix", "/", "wildcard-foo-com")]),
        rule("foo.bar.com", &[("Prefix", "/", "foo-bar-com")]),
    ]});
    ingress(&api, "host-rules", json!(null), rules);
    let world = World::start(api).await;
    for (host, expected) in [
        ("foo.bar.com", "foo-bar-com"),
        ("FOO.bar.com:8080", "foo-bar-com"),
        ("subdomain.bar.com", "404"),
        ("bar.foo.com", "wildcard-foo-com"),
        ("baz.bar.foo.com", "404"),
        ("foo.com", "404"),
    ] {
        let reply = world.get(host, "/").await;
        assert_eq!(reply.served_by(), expected, "{host}");
        assert!(expected == "404" || reply.saw("host") == host);
    }
}

#[tokio::test]
async fn paths_are_matched_by_their_kind_and_the_longest_holds() {
    let names = [
        "foo-exact",
        "foo-prefix",
        "aaa-slash-bbb-prefix",
        "aaa-prefix",
        "aaa-slash-bbb-slash-prefix",
        "foo-slash-exact",
    ];
    let api = with(&names).await;
    let rules = json!({"rules": [
        rule("exact-path-rules", &[("Exact", "/foo", "foo-exact")]),
        rule("prefix-path-rules", &[
            ("Prefix", "/foo", "foo-prefix"),
            ("Prefix", "/aaa/bbb", "aaa-slash-bbb-prefix"),
            ("Prefix", "/aaa", "aaa-prefix"),
        ]),
        rule("mixed-path-rules", &[("Prefix", "/foo", "foo-prefix"), ("Exact", "/foo", "foo-exact")]),
        rule("trailing-slash-path-rules", &[
            ("Prefix", "/aaa/bbb/", "aaa-slash-bbb-slash-prefix"),
            ("Exact", "/foo/", "foo-slash-exact"),
        ]),
    ]});
    ingress(&api, "path-rules", json!(null), rules);
    let world = World::start(api).await;
    for (host, path, expected) in [
        ("exact-path-rules", "/foo", "foo-exact"),
        ("exact-path-rules", "/foo/", "404"),
        ("exact-path-rules", "/FOO", "404"),
        ("exact-path-rules", "/bar", "404"),
        ("prefix-path-rules", "/foo", "foo-prefix"),
        ("prefix-path-rules", "/foo/", "foo-prefix"),
        ("prefix-path-rules", "/FOO", "404"),
        ("prefix-path-rules", "/aaa/bbb", "aaa-slash-bbb-prefix"),
        ("prefix-path-rules", "/aaa/bbb/ccc", "aaa-slash-bbb-prefix"),
        ("prefix-path-rules", "/aaa/ccc", "aaa-prefix"),
        ("prefix-path-rules", "/aaaccc", "404"),
        ("prefix-path-rules", "/foo/../aaa", "aaa-prefix"),
        ("mixed-path-rules", "/foo", "foo-exact"),
        ("mixed-path-rules", "/foo/", "foo-prefix"),
        ("trailing-slash-path-rules", "/aaa/bbb", "aaa-slash-bbb-slash-prefix"),
        ("trailing-slash-path-rules", "/aaa/bbb/", "aaa-slash-bbb-slash-prefix"),
        ("trailing-slash-path-rules", "/foo", "404"),
        ("trailing-slash-path-rules", "/foo/", "foo-slash-exact"),
    ] {
        assert_eq!(world.get(host, path).await.served_by(), expected, "{host}{path}");
    }
}

#[tokio::test]
async fn an_ingress_of_another_class_is_not_served() {
    let api = with(&["a"]).await;
    let spec = json!({"ingressClassName": "some-invalid-class-name", "rules": [rule("ingress-class", &[("Prefix", "/", "a")])]});
    ingress(&api, "test-ingress-class", json!(null), spec);
    let annotated = json!({"rules": [rule("annotated", &[("Prefix", "/", "a")])]});
    ingress(&api, "annotated", json!({"kubernetes.io/ingress.class": "nginx"}), annotated);
    let named = json!({"ingressClassName": "kiln", "rules": [rule("ours", &[("Prefix", "/", "a")])]});
    ingress(&api, "ours", json!(null), named);
    let world = World::start(api).await;
    for (host, expected) in [("ingress-class", "404"), ("annotated", "404"), ("ours", "a")] {
        assert_eq!(world.get(host, "/").await.served_by(), expected, "{host}");
    }
}

#[tokio::test]
async fn all_pods_of_a_service_have_their_share_and_connections_are_kept() {
    let api = api();
    let (mut pods, mut connections) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let (address, count) = counted_echo(&format!("pod-{number}")).await;
        pods.push(address);
        connections.push(count);
    }
    service(&api, "echo-service", &pods, None);
    ingress(&api, "load-balancing", json!(null), json!({"defaultBackend": backend("echo-service")}));
    let world = World::start(api).await;
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        seen.insert(world.get("load-balancing", "/").await.served_by());
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    let made: Vec<_> = connections.iter().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)).collect();
    assert_eq!(made, [1; 10], "one connection serves all requests that come one after the other");
}

#[tokio::test]
async fn ingresses_of_one_host_are_merged_and_the_older_one_holds() {
    let api = with(&["first", "second", "third"]).await;
    ingress(
        &api,
        "b",
        json!(null),
        json!({"rules": [rule("x.com", &[("Prefix", "/", "first"), ("Prefix", "/a", "first")])]}),
    );
    ingress(
        &api,
        "c",
        json!(null),
        json!({"rules": [rule("x.com", &[("Prefix", "/a", "second"), ("Prefix", "/c", "second")])]}),
    );
    api.edit("/apis/networking.k8s.io/v1/namespaces/ns/ingresses/c", |c| {
        c["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z")
    });
    ingress(
        &api,
        "d",
        json!(null),
        json!({"defaultBackend": backend("third"), "rules": [rule("y.com", &[("Exact", "/y", "first")])]}),
    );
    let world = World::start(api).await;
    for (host, path, expected) in [
        ("x.com", "/a", "first"),
        ("x.com", "/c", "second"),
        ("x.com", "/other", "first"),
        ("y.com", "/y", "first"),
        ("y.com", "/other", "third"),
        ("z.com", "/", "third"),
    ] {
        assert_eq!(world.get(host, path).await.served_by(), expected, "{host}{path}");
    }
}

#[tokio::test]
async fn changes_take_hold_without_a_restart() {
    let api = with(&["a", "b"]).await;
    let world = World::start(api.clone()).await;
    assert_eq!(world.get("x.com", "/").await.served_by(), "404");
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "a")])]}));
    world.until("x.com", "/", |reply| reply.served_by() == "a").await;
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "b")])]}));
    world.until("x.com", "/", |reply| reply.served_by() == "b").await;
    service(&api, "b", &[echo("another pod").await], None);
    world.until("x.com", "/", |reply| reply.served_by() == "another pod").await;
    api.remove("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/b-0");
    world.until("x.com", "/", |reply| reply.served_by() == "503").await;
    api.remove("/apis/networking.k8s.io/v1/namespaces/ns/ingresses/x");
    world.until("x.com", "/", |reply| reply.served_by() == "404").await;
}

#[tokio::test]
async fn a_service_that_is_but_a_name_is_served_where_that_is_allowed() {
    for (external_names, expected) in
        [(ExternalNames::No, "503"), (ExternalNames::Elsewhere, "503"), (ExternalNames::Anywhere, "pod")]
    {
        let api = api();
        let port = echo("pod").await.port();
        let spec = json!({"type": "ExternalName", "externalName": "localhost"});
        api.put(
            "/api/v1/namespaces/ns/services/name",
            json!({"metadata": {"name": "name", "namespace": "ns"}, "spec": spec}),
        );
        let backend = json!({"service": {"name": "name", "port": {"number": port}}});
        ingress(&api, "i", json!(null), json!({"defaultBackend": backend}));
        let world = World::start_with(api, Config { external_names, ..config() }).await;
        world.until("a.com", "/", |reply| reply.served_by() == expected).await;
    }
}
