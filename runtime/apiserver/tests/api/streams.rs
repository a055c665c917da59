//! What is on the nodes, through a dialer that stands for them: logs, upgrades and proxies, and what is said when there is
//! no way.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::common;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{Api, admin, node, read, user};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kiln_apiserver::{BoxFuture, DialError, Dialer, Stream, Target};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A node that tells what it was asked, on whichever target.
#[derive(Default)]
struct Nodes {
    dialled: Mutex<Vec<String>>,
    accepted: Mutex<Vec<String>>,
}

impl Dialer for Nodes {
    fn dial<'a>(&'a self, node: &'a str, target: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>> {
        Box::pin(async move {
            self.dialled.lock().unwrap().push(format!("{node} {target:?}"));
            match (node, target) {
                ("far", _) => Err(DialError::Unreachable("there is no tunnel to node \"far\"".into())),
                (_, Target::Address(address)) if address.ends_with(":81") => {
                    Err(DialError::Refused(format!("dial tcp {address}: connect: connection refused")))
                }
                _ => {
                    let (near, far) = tokio::io::duplex(64 << 10);
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(far), service_fn(answer))
                        .with_upgrades();
                    tokio::spawn(serving);
                    Ok(Box::new(near) as Stream)
                }
            }
        })
    }

    fn accept(&self, node: String, _: Stream) -> BoxFuture<'static, ()> {
        self.accepted.lock().unwrap().push(node);
        Box::pin(async {})
    }

    fn id(&self) -> &str {
        "one"
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            stream.write_all(line.as_bytes()).await.unwrap();
            let mut buffer = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..n]).await.unwrap();
            }
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v4.channel.k8s.io");
        return Ok(response.body(Full::default()).unwrap());
    }
    let refusal =
        |code: StatusCode, text: &'static str| Ok(Response::builder().status(code).body(Full::from(text)).unwrap());
    match request.uri().path() {
        "/containerLogs/default/waiting/a" => refusal(
            StatusCode::BAD_REQUEST,
            "container \"a\" in pod \"waiting\" is waiting to start: ContainerCreating",
        ),
        "/containerLogs/default/absent/a" => refusal(StatusCode::NOT_FOUND, "pod \"absent\" does not exist"),
        "/moved" => Ok(Response::builder().status(302).header("location", "/here?x=1").body(Full::default()).unwrap()),
        _ => {
            let headers = request.headers().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let names: Vec<String> = headers
                .iter()
                .filter(|(n, _)| !["host", "content-length"].contains(&n.as_str()))
                .map(|(n, v)| format!("{n}={}", v.to_str().unwrap()))
                .collect();
            let text = format!("{line}|{}|{}", names.join(","), String::from_utf8_lossy(&body));
            let response = Response::builder().header("x-own", "kept").header("access-control-allow-origin", "*");
            Ok(response.body(Full::from(text)).unwrap())
        }
    }
}

async fn api() -> (Api, Arc<Nodes>) {
    let nodes = Arc::new(Nodes::default());
    let api = Api::with(|config| config.dialer = nodes.clone()).await;
    for name in ["near", "far"] {
        let addresses = json!([{"type": "InternalIP", "address": "192.168.1.7"}]);
        let object = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
        api.post("/api/v1/nodes", object).await.good();
    }
    for (name, node) in [("p", "near"), ("waiting", "near"), ("absent", "near"), ("away", "far"), ("nowhere", "")] {
        let mut spec = json!({"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 8080}]}]});
        if !node.is_empty() {
            spec["nodeName"] = node.into();
        }
        api.post(PODS, json!({"metadata": {"name": name}, "spec": spec})).await.good();
        let ip = [json!({"ip": "10.42.0.5"})];
        let status = json!({"status": {"podIP": "10.42.0.5", "podIPs": ip}});
        api.patch("merge", &format!("{PODS}/{name}/status"), status).await.good();
    }
    (api, nodes)
}

const PODS: &str = "/api/v1/namespaces/default/pods";

impl Nodes {
    fn dialled(&self) -> Vec<String> {
        std::mem::take(&mut self.dialled.lock().unwrap())
    }
}

#[tokio::test]
async fn logs_come_from_the_node_and_its_refusals_are_told_as_the_reference_does() {
    let (api, nodes) = api().await;
    let query =
        "follow=true&tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z&timestamps=true&limitBytes=9&previous=false";
    let log = api.get(&format!("{PODS}/p/log?{query}")).await;
    let path = "/containerLogs/default/p/a?follow=true&timestamps=true&sinceTime=2026-01-01T00%3A00%3A00Z&tailLines=5\
                &limitBytes=9";
    assert_eq!((log.code, log.text()), (200, format!("GET {path}||")));
    assert_eq!(log.headers["content-type"], "text/plain");
    assert_eq!(nodes.dialled(), ["near Kubelet"]);
    let waiting = api.get(&format!("{PODS}/waiting/log")).await.failed(400);
    assert_eq!(waiting, "container \"a\" in pod \"waiting\" is waiting to start: ContainerCreating");
    let absent = api.get(&format!("{PODS}/absent/log")).await.failed(404);
    assert_eq!(absent, "the server could not find the requested resource ( pods/log absent)");
    let away = api.get(&format!("{PODS}/away/log")).await.failed(503);
    assert_eq!(away, "there is no tunnel to node \"far\"");
    assert_eq!(api.get(&format!("{PODS}/nowhere/log")).await.text(), "");
}

#[tokio::test]
async fn a_pod_is_reached_by_its_address_and_port_without_the_senders_secrets() {
    let (api, nodes) = api().await;
    let rows = [
        ("p/proxy/a%2Fb/?q=1", "10.42.0.5:8080", "/a%2Fb/?q=1"),
        ("p:9000/proxy/", "10.42.0.5:9000", "/"),
        ("http:p:9000/proxy/x", "10.42.0.5:9000", "/x"),
    ];
    for (path, address, seen) in rows {
        let got = api.get(&format!("{PODS}/{path}")).await;
        assert_eq!(got.code, 200, "{path}: {}", got.text());
        assert!(got.text().starts_with(&format!("GET {seen}|")), "{path}: {}", got.text());
        assert_eq!(nodes.dialled(), [format!("near Address({address:?})")]);
        assert_eq!(got.headers["x-own"], "kept");
        assert!(!got.headers.contains_key("access-control-allow-origin"));
    }
    let asked = read(api.raw(admin(), "OPTIONS", &format!("{PODS}/p/proxy/x"), &[], "").await).await;
    assert!(asked.text().starts_with("OPTIONS /x|"), "{}", asked.text());
    let headers = [("authorization", "Bearer secret"), ("x-mine", "1")];
    let sent = api.raw(admin(), "POST", &format!("{PODS}/p/proxy/form"), &headers, "body").await;
    let sent = read(sent).await;
    assert!(sent.text().starts_with("POST /form|") && sent.text().ends_with("|body"), "{}", sent.text());
    assert!(!sent.text().contains("secret"), "{}", sent.text());
    assert!(sent.text().contains("x-forwarded-uri=/api/v1/namespaces/default/pods/p/proxy/form"), "{}", sent.text());
}

#[tokio::test]
async fn what_a_proxy_cannot_reach_is_said_and_what_it_must_not_reach_refused() {
    let (api, _) = api().await;
    let refused = api.get(&format!("{PODS}/p:81/proxy/")).await.failed(503);
    assert_eq!(refused, "error trying to reach service: dial tcp 10.42.0.5:81: connect: connection refused");
    assert_eq!(api.get(&format!("{PODS}/a:b:c/proxy/")).await.failed(400), "invalid pod request \"a:b:c\"");
    let here = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    api.patch("merge", &format!("{PODS}/p/status"), here).await.good();
    assert_eq!(api.get(&format!("{PODS}/p/proxy/")).await.failed(400), "address not allowed");
}

#[tokio::test]
async fn links_lead_back_through_the_proxy() {
    let (api, _) = api().await;
    let bare = api.get(&format!("{PODS}/p/proxy?x=1")).await;
    assert_eq!((bare.code, bare.headers["location"].to_str().unwrap()), (301, &*format!("{PODS}/p/proxy/?x=1")));
    let moved = api.get(&format!("{PODS}/p/proxy/moved")).await;
    assert_eq!(moved.code, 302);
    assert!(moved.headers["location"].to_str().unwrap().ends_with(&format!("{PODS}/p/proxy/here?x=1")));
}

#[tokio::test]
async fn a_nodes_own_port_is_its_kubelet_and_another_its_address() {
    let (api, nodes) = api().await;
    for (path, dialled) in [
        ("near/proxy/healthz", "near Kubelet"),
        ("near:10250/proxy/healthz", "near Kubelet"),
        ("near:9100/proxy/healthz", "near Address(\"192.168.1.7:9100\")"),
    ] {
        assert!(api.get(&format!("/api/v1/nodes/{path}")).await.text().starts_with("GET /healthz|"));
        assert_eq!(nodes.dialled(), [dialled]);
    }
    assert_eq!(api.get("/api/v1/nodes/none/proxy/").await.failed(404), "nodes \"none\" not found");
}

#[tokio::test]
async fn a_service_leads_to_a_pod_of_its_own_and_to_nothing_else() {
    let (api, nodes) = api().await;
    let ports = json!([{"name": "web", "port": 80, "targetPort": 8080}]);
    api.post("/api/v1/namespaces/default/services", json!({"metadata": {"name": "s"}, "spec": {"ports": ports}}))
        .await
        .good();
    let path = "/api/v1/namespaces/default/services";
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let subsets = |target: &str, ip: &str| {
        let address = json!({"ip": ip, "targetRef": {"kind": "Pod", "namespace": "default", "name": target}});
        json!({"metadata": {"name": "s"},
            "subsets": [{"addresses": [address], "ports": [{"name": "web", "port": 8080}]}]})
    };
    api.post(endpoints, subsets("p", "10.42.0.5")).await.good();
    for id in ["s:web", "s:80", "http:s:web"] {
        let got = api.get(&format!("{path}/{id}/proxy/x")).await;
        assert!(got.text().starts_with("GET /x|"), "{id}: {}", got.text());
        assert_eq!(nodes.dialled(), ["near Address(\"10.42.0.5:8080\")"]);
    }
    let none = api.get(&format!("{path}/s:81/proxy/")).await.failed(503);
    assert_eq!(none, "no service port 81 found for service \"s\"");
    // An address that is no pod's: someone wants to get where he may not.
    api.put(&format!("{endpoints}/s"), subsets("p", "192.168.1.1")).await.good();
    let none = api.get(&format!("{path}/s:web/proxy/")).await.failed(503);
    assert_eq!(none, "no endpoints available for service \"s:web\"");
    assert!(nodes.dialled().is_empty());
}

/// A connection to the server, whose every request is the administrator's.
async fn connect(api: &Api, who: kiln_apiserver::UserInfo) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = api.server.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, who) = (server.clone(), who.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(server.call(who, Request::from_parts(parts, body)).await)
        }
    });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades(),
    );
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

fn upgrade(method: &str, path: &str, protocol: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "hub:6443");
    request.header("connection", "Upgrade").header("upgrade", protocol).body(Full::default()).unwrap()
}

#[tokio::test]
async fn exec_attach_and_port_forward_are_upgrades_that_the_node_grants() {
    let (api, _) = api().await;
    let rows = [
        (
            "POST",
            "exec?command=sh&command=-c&command=echo%20hi&stdin=true&stdout=true&stderr=false&tty=true&container=a",
            "/exec/default/p/a?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20hi",
        ),
        ("GET", "attach?stdout=1&stderr=1", "/attach/default/p/a?output=1&error=1"),
        ("POST", "portforward", "/portForward/default/p"),
        ("GET", "portforward?ports=80&ports=81", "/portForward/default/p?port=80%2C81"),
    ];
    for (method, path, seen) in rows {
        let request = upgrade(method, &format!("{PODS}/p/{path}"), "SPDY/3.1");
        let response = connect(&api, admin()).await.send_request(request).await.unwrap();
        assert_eq!(response.status(), 101, "{path}");
        assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let expected = format!("{method} {seen}");
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), expected);
        stream.write_all(b"back and forth").await.unwrap();
        let mut got = [0; 14];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"back and forth");
    }
    for (path, code, message) in [
        ("p/exec?command=id", 400, "Upgrade request required"),
        ("nowhere/exec?command=id", 400, "pod nowhere does not have a host assigned"),
        ("p/exec?command=id&container=b", 400, "container b is not valid for pod p"),
    ] {
        assert_eq!(api.get(&format!("{PODS}/{path}")).await.failed(code), message);
    }
    let request = upgrade("POST", &format!("{PODS}/away/exec?command=id"), "SPDY/3.1");
    let response = connect(&api, admin()).await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn only_nodes_give_the_server_a_way_to_themselves() {
    let (api, nodes) = api().await;
    let request = || upgrade("GET", "/kiln/v1/tunnel", "kiln-tunnel");
    let response = connect(&api, node("near")).await.send_request(request()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["x-kiln-server-id"].to_str().unwrap()), (101, "one"));
    hyper::upgrade::on(response).await.unwrap();
    while nodes.accepted.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*nodes.accepted.lock().unwrap(), ["near"]);
    for who in [user("someone"), admin(), user("system:node:near")] {
        let response = connect(&api, who).await.send_request(request()).await.unwrap();
        assert_eq!(response.status(), 403);
    }
    let plain = api.raw(node("near"), "GET", "/kiln/v1/tunnel", &[], "").await;
    assert_eq!(plain.status(), 400);
}

#[tokio::test]
async fn servers_lend_each_other_their_ways_to_nodes_and_nobody_else() {
    let (api, nodes) = api().await;
    let path = |query: &str| format!("/kiln/v1/stream?{query}");
    let request = |query: &str| upgrade("GET", &path(query), "kiln-stream");
    let server = kiln_apiserver::UserInfo::system("system:apiserver");
    let response = connect(&api, server.clone()).await.send_request(request("node=near")).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"GET /pods HTTP/1.1\r\nhost: near\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    assert_eq!(nodes.dialled(), ["near Kubelet"]);
    for (query, code) in [("node=far", 404), ("node=near&address=10.42.0.5:81", 502)] {
        let response = connect(&api, server.clone()).await.send_request(request(query)).await.unwrap();
        assert_eq!(response.status(), code, "{query}");
    }
    for who in [node("near"), admin(), user("system:apiserver")] {
        let response = connect(&api, who).await.send_request(request("node=near")).await.unwrap();
        assert_eq!(response.status(), 403);
    }
}
