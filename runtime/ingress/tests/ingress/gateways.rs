//! HTTPRoutes of the Gateway API: the scenarios of its conformance tests that are of the profile Gateway HTTP, core and some extended.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kiln_client::testing::FakeApi;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::secure::{made, secret, until_shown};
use crate::support::{LONG, Reply, World, api, echo, ingress, nowhere, rule, service};

const API: &str = "/apis/gateway.networking.k8s.io/v1";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gatewayclasses.gateway.networking.k8s.io";

fn install(api: &FakeApi) {
    let name = "gatewayclasses.gateway.networking.k8s.io";
    let status = json!({"conditions": [{"type": "Established", "status": "True"}]});
    api.put(DEFINITION, json!({"metadata": {"name": name}, "status": status}));
    let class = json!({"metadata": {"name": "kiln"}, "spec": {"controllerName": kiln_gateway::CONTROLLER}});
    api.put(&format!("{API}/gatewayclasses/kiln"), class);
}

fn gateway(api: &FakeApi, name: &str, listeners: Value) {
    let spec = json!({"gatewayClassName": "kiln", "listeners": listeners});
    let gateway = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
    api.put(&format!("{API}/namespaces/ns/gateways/{name}"), gateway);
}

pub(crate) fn route(api: &FakeApi, name: &str, spec: Value) {
    let mut spec = spec;
    if spec["parentRefs"].is_null() {
        spec["parentRefs"] = json!([{"name": "gw"}]);
    }
    let route = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
    api.put(&format!("{API}/namespaces/ns/httproutes/{name}"), route);
}

pub(crate) fn to(service: &str) -> Value {
    json!([{"name": service, "port": 8080}])
}

/// A world with a Gateway `gw` for HTTP at the ingress' own port, and these Services in it, which each have a pod.
pub(crate) async fn world(services: &[&str]) -> World {
    let api = api();
    for name in services {
        service(&api, name, &[echo(name).await], None);
    }
    install(&api);
    let world = World::start(api).await;
    let listener = json!({"name": "http", "port": world.http.port(), "protocol": "HTTP"});
    gateway(&world.api, "gw", json!([listener]));
    world
}

pub(crate) async fn ask(world: &World, host: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let (method, target) = target.split_once(' ').unwrap_or(("GET", target));
    let mut request = Request::builder().method(method).uri(target).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Full::<Bytes>::default()).unwrap()).await
}

/// Waits until a rule is in force.
pub(crate) async fn until(world: &World, host: &str, path: &str, expected: &str) {
    world.until(host, path, |reply| reply.served_by() == expected).await;
}

#[tokio::test]
async fn rules_are_matched_in_the_order_of_the_api() {
    let world = world(&["v1", "v2", "v3", "v4"]).await;
    let path = |kind: &str, value: &str| json!({"type": kind, "value": value});
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    // Rows: match, Service.
    let rules = [
        (json!({"path": path("PathPrefix", "/")}), "v1"),
        (json!({"path": path("PathPrefix", "/v2")}), "v2"),
        (json!({"headers": [header("version", "two")]}), "v2"),
        (json!({"headers": [header("version", "two"), header("color", "blue")]}), "v3"),
        (json!({"path": path("Exact", "/v2/one")}), "v3"),
        (json!({"path": path("PathPrefix", "/v2/"), "method": "POST"}), "v4"),
        (json!({"path": path("PathPrefix", "/q"), "queryParams": [{"name": "a", "value": "b c"}]}), "v4"),
        (json!({"path": path("PathPrefix", "/q"), "queryParams": [{"name": "a", "value": "1"}]}), "v3"),
    ];
    let rules: Vec<_> =
        rules.iter().map(|(matched, service)| json!({"matches": [matched], "backendRefs": to(service)})).collect();
    route(&world.api, "matching", json!({"rules": rules}));
    until(&world, "a.com", "/", "v1").await;
    for (target, headers, expected) in [
        ("/", &[][..], "v1"),
        ("/example", &[], "v1"),
        ("/v2", &[], "v2"),
        ("/v2/example", &[], "v2"),
        ("/v2/", &[], "v2"),
        ("/v2example", &[], "v1"),
        ("/foo/v2/example", &[], "v1"),
        ("/", &[("Version", "two")], "v2"),
        ("/", &[("version", "Two")], "v1"),
        ("/", &[("version", "two"), ("color", "blue")], "v3"),
        ("/", &[("color", "blue")], "v1"),
        // A longer path goes before headers, and an exact one before a prefix with a method.
        ("/v2/x", &[("version", "two"), ("color", "blue")], "v2"),
        ("/v2/one", &[], "v3"),
        ("POST /v2/one", &[], "v3"),
        ("POST /v2/two", &[], "v4"),
        ("/q?x=1&a=b+c", &[], "v4"),
        ("/q?a=1&a=b", &[], "v3"),
        ("/q?a=2", &[], "v1"),
    ] {
        assert_eq!(ask(&world, "a.com", target, headers).await.served_by(), expected, "{target} {headers:?}");
    }
}

#[tokio::test]
async fn hostnames_and_listeners_part_requests() {
    let world = world(&["v1", "v2", "v3"]).await;
    let listener = |name: &str, hostname: Option<&str>| json!({"name": name, "port": world.http.port(), "protocol": "HTTP", "hostname": hostname});
    let listeners = [
        listener("any", None),
        listener("wild", Some("*.example.com")),
        listener("deep", Some("*.foo.example.com")),
        listener("exact", Some("abc.foo.example.com")),
    ];
    gateway(&world.api, "gw", json!(listeners));
    for name in ["any", "wild", "deep", "exact"] {
        let rules = json!([{"matches": [{"path": {"type": "PathPrefix", "value": format!("/{name}")}}], "backendRefs": to("v1")}]);
        route(&world.api, name, json!({"parentRefs": [{"name": "gw", "sectionName": name}], "rules": rules}));
    }
    // Of two hostnames for a host the longer goes first, and what it has no rule for is the other's.
    let hosts = json!({"hostnames": ["*.example.com"], "parentRefs": [{"name": "gw", "sectionName": "wild"}],
                       "rules": [{"backendRefs": to("v2"), "matches": [{"path": {"type": "PathPrefix", "value": "/h"}}]}]});
    route(&world.api, "z-wild", hosts);
    let hosts = json!({"hostnames": ["h.example.com", "no.where.org"], "parentRefs": [{"name": "gw", "sectionName": "wild"}],
                       "rules": [{"backendRefs": to("v3"), "matches": [{"path": {"type": "PathPrefix", "value": "/h/x"}}]}]});
    route(&world.api, "y-exact", hosts);
    until(&world, "h.example.com", "/h/x", "v3").await;
    for (host, path, expected) in [
        ("bar.com", "/any", "v1"),
        ("bar.com:8080", "/any", "v1"),
        ("bar.com", "/wild", "404"),
        ("example.com", "/any", "v1"),
        ("bar.example.com", "/any", "404"),
        ("bar.example.com", "/wild", "v1"),
        ("a.b.example.com", "/wild", "v1"),
        ("bar.foo.example.com", "/wild", "404"),
        ("bar.foo.example.com", "/deep", "v1"),
        ("abc.foo.example.com", "/deep", "404"),
        ("ABC.foo.example.com", "/exact", "v1"),
        ("h.example.com", "/h/y", "v2"),
        ("g.example.com", "/h/x", "v2"),
        ("no.where.org", "/h/x", "404"),
    ] {
        assert_eq!(ask(&world, host, path, &[]).await.served_by(), expected, "{host}{path}");
    }
}

#[tokio::test]
async fn filters_change_requests_and_answers() {
    let world = world(&["v1"]).await;
    let prefix = |path: &str, filters: Value| json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "filters": filters, "backendRefs": to("v1")});
    let rules = json!([
        prefix(
            "/request",
            json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{"name": "X-Set", "value": "new"}], "add": [{"name": "X-Add", "value": "more"}], "remove": ["X-Remove"]}}])
        ),
        prefix(
            "/response",
            json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {
            "set": [{"name": "Content-Type", "value": "text/other"}], "add": [{"name": "X-Add", "value": "more"}], "remove": ["Date"]}}])
        ),
        prefix("/host", json!([{"type": "URLRewrite", "urlRewrite": {"hostname": "one.example.org"}}])),
        prefix(
            "/prefix/one",
            json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}])
        ),
        prefix(
            "/full",
            json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/one"}}}])
        ),
        prefix(
            "/moved",
            json!([{"type": "RequestRedirect", "requestRedirect": {"hostname": "example.org", "statusCode": 301}}])
        ),
        prefix(
            "/secure",
            json!([{"type": "RequestRedirect", "requestRedirect": {"scheme": "https",
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/s"}}}])
        ),
    ]);
    route(&world.api, "filters", json!({"rules": rules}));
    until(&world, "a.com", "/request", "v1").await;
    let reply = ask(&world, "a.com", "/request", &[("x-set", "old"), ("x-add", "first"), ("x-remove", "1")]).await;
    assert_eq!(
        (reply.saw("x-set"), reply.saw("x-add"), reply.saw("x-remove")),
        ("new".into(), "more".into(), "none".into())
    );
    let reply = ask(&world, "a.com", "/response", &[]).await;
    assert_eq!(
        (&reply.headers["content-type"], &reply.headers["x-add"]),
        (&"text/other".parse().unwrap(), &"more".parse().unwrap())
    );
    assert_eq!(ask(&world, "a.com", "/host", &[]).await.saw("host"), "one.example.org");
    for (target, expected) in
        [("/prefix/one/two?q=1", "/two?q=1"), ("/prefix/one", "/"), ("/full/path?q=1", "/one?q=1")]
    {
        assert_eq!(ask(&world, "a.com", target, &[]).await.echo()["target"], expected, "{target}");
    }
    let port = world.http.port();
    for (target, status, expected) in [
        ("/moved/x", 301, format!("http://example.org:{port}/moved/x")),
        ("/secure/x?q=1", 302, "https://a.com/s/x?q=1".to_owned()),
    ] {
        let reply = ask(&world, "a.com", target, &[]).await;
        assert_eq!((reply.status.as_u16(), reply.headers["location"].to_str().unwrap()), (status, expected.as_str()));
    }
}

#[tokio::test]
async fn backends_share_requests_by_weight_and_what_is_none_is_an_error() {
    let world = world(&["v1", "v2"]).await;
    service(&world.api, "empty", &[], None);
    service(&world.api, "down", &[nowhere().await], None);
    let rule = |path: &str, backends: Value| json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": backends});
    let changed = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "backend", "value": "v2"}]}}]);
    let rules = json!([
        rule(
            "/shared",
            json!([{"name": "v1", "port": 8080, "weight": 3}, {"name": "v2", "port": 8080, "weight": 1, "filters": changed}])
        ),
        rule("/missing", to("missing")),
        rule("/port", json!([{"name": "v1", "port": 9}])),
        rule("/kind", json!([{"name": "v1", "port": 8080, "kind": "Bucket", "group": "example.com"}])),
        rule("/none", json!([])),
        rule("/zero", json!([{"name": "v1", "port": 8080, "weight": 0}])),
        rule("/empty", to("empty")),
        rule("/down", to("down")),
        rule("/", to("v1")),
    ]);
    route(&world.api, "weights", json!({"rules": rules}));
    until(&world, "a.com", "/", "v1").await;
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..200 {
        let reply = ask(&world, "a.com", "/shared", &[]).await;
        let service = reply.served_by();
        assert_eq!(reply.saw("backend"), if service == "v2" { "v2" } else { "none" });
        *seen.entry(service).or_default() += 1;
    }
    // Six standard deviations around 150.
    assert!((113..=187).contains(&seen["v1"]) && seen["v1"] + seen["v2"] == 200, "{seen:?}");
    for (path, expected) in [
        ("/missing", "500"),
        ("/port", "500"),
        ("/kind", "500"),
        ("/none", "500"),
        ("/zero", "500"),
        ("/empty", "503"),
        ("/down", "502"),
    ] {
        assert_eq!(ask(&world, "a.com", path, &[]).await.served_by(), expected, "{path}");
    }
    service(&world.api, "missing", &[echo("missing").await], None);
    until(&world, "a.com", "/missing", "missing").await;
}

#[tokio::test]
async fn another_namespace_is_reached_where_it_grants_that() {
    let world = world(&["v1"]).await;
    let far = |kind: &str, name: &str, object: Value| {
        let group = if kind == "services" { "/api/v1" } else { "/apis/discovery.k8s.io/v1" };
        world.api.put(&format!("{group}/namespaces/far/{kind}/{name}"), object);
    };
    let pod: SocketAddr = echo("far").await;
    far(
        "services",
        "web",
        json!({"metadata": {"name": "web", "namespace": "far"}, "spec": {"ports": [{"name": "http", "port": 8080}]}}),
    );
    far(
        "endpointslices",
        "web",
        json!({
            "metadata": {"name": "web", "namespace": "far", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"name": "http", "port": pod.port(), "protocol": "TCP"}],
        }),
    );
    route(&world.api, "r", json!({"rules": [{"backendRefs": [{"name": "web", "namespace": "far", "port": 8080}]}]}));
    until(&world, "a.com", "/", "500").await;
    let grants = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/far/referencegrants/g";
    let spec = json!({"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "ns"}],
                      "to": [{"group": "", "kind": "Service", "name": "web"}]});
    world.api.put(grants, json!({"metadata": {"name": "g", "namespace": "far"}, "spec": spec}));
    until(&world, "a.com", "/", "far").await;
    world.api.remove(grants);
    until(&world, "a.com", "/", "500").await;
}

#[tokio::test]
async fn listeners_for_tls_show_their_certificates() {
    let world = world(&["v1"]).await;
    let (named, any) = (made("named.com"), made("any.com"));
    for (name, made) in [("named", &named), ("any", &any)] {
        secret(&world.api, name, &made.cert.pem(), &made.signing_key.serialize_pem());
    }
    let listener = |name: &str, hostname: Option<&str>| {
        json!({"name": name, "port": world.https.port(), "protocol": "HTTPS", "hostname": hostname,
               "tls": {"mode": "Terminate", "certificateRefs": [{"name": name}]}})
    };
    gateway(&world.api, "gw", json!([listener("named", Some("*.named.com")), listener("any", None)]));
    until_shown(&world, "a.b.named.com", &named).await;
    until_shown(&world, "any.com", &any).await;
    until_shown(&world, "other.com", &any).await;
}

#[tokio::test]
async fn a_port_is_open_while_a_gateway_listens_there() {
    let world = world(&["v1"]).await;
    let other = nowhere().await;
    ingress(&world.api, "i", json!(null), json!({"rules": [rule("a.com", &[("Prefix", "/", "v1")])]}));
    route(
        &world.api,
        "r",
        json!({"rules": [{"matches": [{"path": {"type": "Exact", "value": "/x"}}], "backendRefs": to("v1")}]}),
    );
    gateway(&world.api, "gw", json!([{"name": "http", "port": other.port(), "protocol": "HTTP"}]));
    until(&world, "a.com", "/", "v1").await;
    let waiting = async {
        while TcpStream::connect(other).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("the port");
    let there = |path: &'static str| async move {
        let stream = TcpStream::connect(other).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "a.com").body(Full::<Bytes>::default()).unwrap();
        Reply::read(sender.send_request(request).await.unwrap()).await.served_by()
    };
    assert_eq!(there("/x").await, "v1");
    assert_eq!(there("/").await, "404", "Ingresses are not served there");
    world.api.remove(&format!("{API}/namespaces/ns/gateways/gw"));
    let waiting = async {
        while TcpStream::connect(other).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("it is closed");
}

#[tokio::test]
async fn routes_are_served_once_the_api_is_installed_and_until_it_is_not() {
    let api = api();
    service(&api, "v1", &[echo("v1").await], None);
    let world = World::start(api).await;
    gateway(&world.api, "gw", json!([{"name": "http", "port": world.http.port(), "protocol": "HTTP"}]));
    route(&world.api, "r", json!({"rules": [{"backendRefs": to("v1")}]}));
    assert_eq!(ask(&world, "a.com", "/", &[]).await.served_by(), "404");
    install(&world.api);
    until(&world, "a.com", "/", "v1").await;
    world.api.remove(DEFINITION);
    until(&world, "a.com", "/", "404").await;
}
