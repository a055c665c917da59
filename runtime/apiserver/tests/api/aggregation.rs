//! APIs that another server answers for: whether they are available, what is passed on and what discovery tells of them.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use crate::common;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::{Answer, Api, Watch, admin, map, user};
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kiln_apiserver::{BoxFuture, DialError, Dialer, FrontProxy, ProxyIdentity, Stream, Target};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const BASE: &str = "/apis/wardle.example.com/v1alpha1";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

type Reply = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// The server of an aggregated API, on the one node that there is.
struct Sample {
    port: AtomicU16,
    ca: String,
    /// What it was asked, as `METHOD URI user groups certificate`.
    seen: Mutex<Vec<String>>,
    /// What a watch is sent.
    lines: Mutex<Option<mpsc::UnboundedReceiver<Bytes>>>,
    /// It has the discovery of its time only.
    old: bool,
}

impl Dialer for Sample {
    fn dial<'a>(&'a self, node: &'a str, target: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>> {
        assert_eq!((node, target), ("pi", Target::Address("10.42.0.5:443")));
        Box::pin(async {
            let stream = TcpStream::connect(("127.0.0.1", self.port.load(Ordering::Relaxed))).await;
            stream.map(|s| Box::new(s) as Stream).map_err(|e| DialError::Refused(format!("connect: {e}")))
        })
    }

    fn accept(&self, _: String, _: Stream) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn id(&self) -> &str {
        ""
    }
}

fn full(text: impl Into<Bytes>) -> Reply {
    Full::new(text.into()).boxed_unsync()
}

fn json_of(value: &Value) -> Response<Reply> {
    Response::builder().header("content-type", "application/json").body(full(value.to_string())).unwrap()
}

impl Sample {
    async fn answer(self: Arc<Self>, who: String, mut request: Request<Incoming>) -> Response<Reply> {
        let header =
            |name: &str| request.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        let groups = header("x-remote-group").join(",");
        let line =
            format!("{} {} {} {groups} {who}", request.method(), request.uri(), header("x-remote-user").join(","));
        for secret in ["authorization", "impersonate-user"] {
            assert!(header(secret).is_empty(), "{secret}");
        }
        self.seen.lock().unwrap().push(line.clone());
        if request.headers().contains_key("upgrade") {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..n]).await.unwrap();
                }
            });
            let response = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "echo");
            return response.body(full("")).unwrap();
        }
        let resources = json!([{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]}]);
        match request.uri().path() {
            "/apis" if !self.old => {
                let resource = json!({"resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"]});
                let versions = json!([{"version": "v1alpha1", "freshness": "Current", "resources": [resource]}]);
                let list = json!({
                    "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
                    "items": [{"metadata": {"name": "wardle.example.com"}, "versions": versions}],
                });
                let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                Response::builder().header("content-type", media).body(full(list.to_string())).unwrap()
            }
            "/openapi/v3" if !self.old => json_of(&json!({"paths": {
                "apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=AB"},
            }})),
            "/openapi/v3/apis/wardle.example.com/v1alpha1" => json_of(&json!({"openapi": "3.0.0"})),
            BASE | "/apis/metrics.k8s.io/v1beta1" => {
                json_of(&json!({"kind": "APIResourceList", "apiVersion": "v1", "resources": resources}))
            }
            path if path.ends_with("/moved") => {
                Response::builder().status(302).header("location", "/elsewhere").body(full("")).unwrap()
            }
            path if path.ends_with("/flunders") && request.uri().query() == Some("watch=1") => {
                let lines = self.lines.lock().unwrap().take().unwrap();
                let frames = tokio_stream(lines).map(|line| Ok(Frame::data(line)));
                Response::new(StreamBody::new(frames).boxed_unsync())
            }
            path if path.ends_with("/flunders") || path.ends_with("/nodes") => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                json_of(&json!({"line": line, "length": body.len()}))
            }
            _ => Response::builder().status(StatusCode::NOT_FOUND).body(full("404 page not found")).unwrap(),
        }
    }
}

fn tokio_stream(mut lines: mpsc::UnboundedReceiver<Bytes>) -> impl futures_util::Stream<Item = Bytes> {
    futures_util::stream::poll_fn(move |cx| lines.poll_recv(cx))
}

fn authority() -> (String, Issuer<'static, KeyPair>, RootCertStore) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    (ca.pem(), Issuer::new(params, key), roots)
}

struct World {
    api: Api,
    sample: Arc<Sample>,
}

impl World {
    async fn new() -> Self {
        Self::with(false, "sample.default.svc").await
    }

    /// The server's certificate has this name.
    async fn with(old: bool, host: &str) -> Self {
        let (front_pem, front, roots) = authority();
        let (ca, issuer, _) = authority();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls =
            tls.with_client_cert_verifier(verifier).with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sample = Arc::new(Sample {
            port: AtomicU16::new(listener.local_addr().unwrap().port()),
            ca: STANDARD.encode(ca),
            seen: Mutex::default(),
            lines: Mutex::default(),
            old,
        });
        let serving = sample.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, sample) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    // Who does not trust the server goes away.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                    let (_, shown) = x509_parser::parse_x509_certificate(&shown).unwrap();
                    let who = shown.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
                    let service = service_fn(|request| {
                        let (sample, who) = (sample.clone(), who.clone());
                        async move { Ok::<_, Infallible>(sample.answer(who, request).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    // The end of a connection is the client's affair.
                    drop(http.serve_connection(TokioIo::new(stream), service).with_upgrades().await);
                });
            }
        });
        let identity = move || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "front-proxy-client");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let certificate_pem = params.signed_by(&key, &front).unwrap().pem();
            Ok(ProxyIdentity { certificate_pem, key_pem: key.serialize_pem() })
        };
        let proxy = FrontProxy {
            ca_pem: front_pem,
            allowed_names: vec!["front-proxy-client".into()],
            identity: Arc::new(identity),
        };
        let dialer = sample.clone();
        let api = Api::with(|config| (config.front_proxy, config.dialer) = (Some(proxy), dialer)).await;
        Self { api, sample }
    }

    async fn register(&self, group: &str, version: &str, trust: Value) {
        let mut spec = json!({
            "group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": "default", "name": "sample", "port": 7443},
        });
        spec.as_object_mut().unwrap().extend(trust.as_object().unwrap().clone());
        let object = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": spec});
        self.api.post(SERVICES, object).await.good();
    }

    fn trusted(&self) -> Value {
        json!({"caBundle": self.sample.ca})
    }

    async fn service(&self) {
        let ports = json!([{"name": "https", "port": 7443, "targetPort": 443}]);
        let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": ports}});
        self.api.post("/api/v1/namespaces/default/services", service).await.good();
    }

    async fn slice(&self, ready: bool) {
        let endpoint = json!({"addresses": ["10.42.0.5"], "nodeName": "pi", "conditions": {"ready": ready}});
        let slice = json!({
            "metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}}, "addressType": "IPv4",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP"}], "endpoints": [endpoint],
        });
        self.api.post(SLICES, slice).await.good();
    }

    async fn watch(&self, name: &str) -> Watch {
        self.api.watch(&format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}")).await
    }

    /// One with everything that makes the API available.
    async fn ready() -> Self {
        let world = Self::new().await;
        world.all_ready().await;
        world
    }

    async fn all_ready(&self) {
        self.service().await;
        self.slice(true).await;
        self.register("wardle.example.com", "v1alpha1", self.trusted()).await;
        becomes(&mut self.watch(NAME).await, "Passed").await;
    }

    /// Waits until discovery tells what the server has.
    async fn discovered(&self) -> Value {
        loop {
            let all = aggregated(&self.api).await;
            let found = group(&all, "wardle.example.com").cloned();
            if let Some(found) = found.filter(|g| g["versions"][0].get("resources").is_some()) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until the API is available or not for a reason; gives the message.
async fn becomes(watch: &mut Watch, reason: &str) -> String {
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(condition) = conditions.iter().find(|c| c["type"] == "Available" && c["reason"] == reason) {
            return condition["message"].as_str().unwrap().to_owned();
        }
    }
}

async fn aggregated(api: &Api) -> Value {
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    api.send(admin(), "GET", "/apis", &accept, Value::Null).await.good()
}

fn group<'a>(all: &'a Value, name: &str) -> Option<&'a Value> {
    all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == name)
}

fn plain(answer: &Answer, code: u16) -> String {
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (code, "text/plain; charset=utf-8"));
    answer.text()
}

#[tokio::test]
async fn an_api_is_available_once_its_service_is_there_has_the_port_and_an_endpoint_that_answers() {
    let world = World::new().await;
    world.register("wardle.example.com", "v1alpha1", world.trusted()).await;
    let mut watch = world.watch(NAME).await;
    let message = becomes(&mut watch, "ServiceNotFound").await;
    assert_eq!(message, "service/sample in \"default\" is not present");
    assert_eq!(plain(&world.api.get(&format!("{BASE}/flunders")).await, 503), "service unavailable\n");
    let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
    world.api.post("/api/v1/namespaces/default/services", service).await.good();
    let message = becomes(&mut watch, "ServicePortError").await;
    assert_eq!(message, "service/sample in \"default\" is not listening on port 7443");
    world.api.delete("/api/v1/namespaces/default/services/sample").await.good();
    becomes(&mut watch, "ServiceNotFound").await;
    world.service().await;
    let message = becomes(&mut watch, "EndpointsNotFound").await;
    assert_eq!(message, "cannot find endpointslices for service/sample in \"default\"");
    world.slice(false).await;
    let message = becomes(&mut watch, "MissingEndpoints").await;
    let expected = "endpointslices for service/sample in \"default\" have no addresses with port name \"https\"";
    assert_eq!(message, expected);
    // Nobody listens where the node leads.
    let port = world.sample.port.swap(1, Ordering::Relaxed);
    let ready = json!([{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": true}]);
    world.api.patch("json", &format!("{SLICES}/sample-1"), ready).await.good();
    let message = becomes(&mut watch, "FailedDiscoveryCheck").await;
    let url = format!("https://10.42.0.5:443{BASE}");
    assert!(
        message.starts_with(&format!("failing or missing response from {url}: Get \"{url}\": connect: ")),
        "{message}"
    );
    let metrics = world.api.get("/metrics").await.text();
    assert!(metrics.contains(&format!("aggregator_unavailable_apiservice{{name=\"{NAME}\"}} 1")), "{metrics}");
    world.sample.port.store(port, Ordering::Relaxed);
    let message = becomes(&mut watch, "Passed").await;
    assert_eq!(message, "all checks passed");
    let row = world.api.row(&format!("{SERVICES}/{NAME}")).await;
    assert_eq!((&row["Service"], &row["Available"]), (&json!("default/sample"), &json!("True")));
    world.api.delete("/api/v1/namespaces/default/services/sample").await.good();
    becomes(&mut watch, "ServiceNotFound").await;
    let metrics = world.api.get("/metrics").await.text();
    let turned =
        "aggregator_unavailable_apiservice_total{name=\"v1alpha1.wardle.example.com\",reason=\"ServiceNotFound\"}";
    assert!(metrics.contains(turned), "{metrics}");
}

#[tokio::test]
async fn a_request_is_passed_on_in_the_name_of_who_made_it() {
    let world = World::ready().await;
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": ["wardle.example.com"], "resources": ["flunders"], "verbs": ["*"]}]});
    world.api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.good();
    let flunders = format!("{BASE}/namespaces/default/flunders");
    let refused = world.api.send(user("jane"), "GET", &flunders, &[], Value::Null).await;
    assert!(refused.failed(403).contains("cannot list resource \"flunders\" in API group \"wardle.example.com\""));
    let binding = json!({
        "metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": "rbac.authorization.k8s.io"},
    });
    world.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.good();
    let headers = [("x-remote-user", "root"), ("x-remote-group", "system:masters"), ("authorization", "Bearer x")];
    let answer = world.api.send(user("jane"), "POST", &format!("{flunders}?a=%20b"), &headers, map("x")).await.good();
    let expected = format!("POST {flunders}?a=%20b jane system:authenticated front-proxy-client");
    assert_eq!((&answer["line"], &answer["length"]), (&json!(expected), &json!(map("x").to_string().len())));
    let headers = [("impersonate-user", "jane")];
    let answer = world.api.send(admin(), "GET", &flunders, &headers, Value::Null).await.good();
    assert_eq!(answer["line"], format!("GET {flunders} jane system:authenticated front-proxy-client"));
    let checked = format!("GET {BASE} system:kube-aggregator system:masters,system:authenticated front-proxy-client");
    assert!(world.sample.seen.lock().unwrap().contains(&checked));
    // What leads away is not followed, and the server's own refusals stay as they are.
    let moved = world.api.get(&format!("{BASE}/moved")).await;
    assert_eq!(plain(&moved, 502), "the backend attempted to redirect this request, which is not permitted");
    assert_eq!(world.api.get(&format!("{BASE}/nothing")).await.text(), "404 page not found");
}

#[tokio::test]
async fn watches_flow_and_upgrades_are_granted() {
    let world = World::ready().await;
    let (lines, received) = mpsc::unbounded_channel();
    *world.sample.lines.lock().unwrap() = Some(received);
    let mut watch = world.api.watch(&format!("{BASE}/flunders?watch=1")).await;
    for name in ["a", "b"] {
        let event = json!({"type": "ADDED", "object": {"metadata": {"name": name}}});
        lines.send(Bytes::from(format!("{event}\n"))).unwrap();
        assert_eq!(watch.brief().await, format!("ADDED {name}"));
    }
    world.api.server.end_watches();
    assert!(watch.next().await.is_none());
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = world.api.server.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.call(admin(), request.map(|_| Bytes::new())).await) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(served.with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder().uri(format!("{BASE}/flunders/x/console")).header("host", "hub");
    let request = request.header("connection", "Upgrade").header("upgrade", "echo").body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["upgrade"]), (101, &"echo".parse().unwrap()));
}

#[tokio::test]
async fn discovery_and_openapi_tell_of_it_until_it_is_deleted() {
    let world = World::ready().await;
    let found = world.discovered().await;
    assert_eq!(found["versions"][0]["freshness"], "Current");
    let resource = &found["versions"][0]["resources"][0];
    let none = json!({"group": "", "version": "", "kind": ""});
    assert_eq!((&resource["resource"], &resource["responseKind"]), (&json!("flunders"), &none));
    // A priority of 2,000 is before that of metrics, and after all of Kubernetes' own.
    let names = |list: &Value| -> Vec<String> {
        list["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(&world.api.get("/apis").await.good());
    assert_eq!(all[all.len() - 2..], ["wardle.example.com", "metrics.k8s.io"]);
    let one = world.api.get("/apis/wardle.example.com").await.good();
    assert_eq!((&one["kind"], &one["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v1alpha1")));
    assert_eq!(world.api.get(BASE).await.good()["resources"][0]["name"], "flunders");
    let index = world.api.get("/openapi/v3").await.good();
    let address = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(world.api.get(address).await.good(), json!({"openapi": "3.0.0"}));
    // Another priority is another place.
    world.api.patch("merge", &format!("{SERVICES}/{NAME}"), json!({"spec": {"groupPriorityMinimum": 20}})).await.good();
    while names(&world.api.get("/apis").await.good()).last().unwrap() != "wardle.example.com" {
        tokio::task::yield_now().await;
    }
    world.api.delete(&format!("{SERVICES}/{NAME}")).await.good();
    while group(&aggregated(&world.api).await, "wardle.example.com").is_some() {
        tokio::task::yield_now().await;
    }
    world.api.get(&format!("{BASE}/flunders")).await.failed(404);
}

#[tokio::test]
async fn an_older_server_is_discovered_by_what_it_has() {
    let world = World::with(true, "sample.default.svc").await;
    world.all_ready().await;
    let found = world.discovered().await;
    let kind = json!({"group": "", "version": "", "kind": "Flunder"});
    assert_eq!(found["versions"][0]["resources"][0]["responseKind"], kind);
    let index = world.api.get("/openapi/v3").await.good();
    assert!(index["paths"].get("apis/wardle.example.com/v1alpha1").is_none());
    world.api.get("/openapi/v3/apis/wardle.example.com/v1alpha1").await.failed(404);
}

#[tokio::test]
async fn a_server_that_is_another_is_trusted_only_by_who_does_not_care() {
    let world = World::with(false, "other.default.svc").await;
    world.service().await;
    world.slice(true).await;
    world.register("wardle.example.com", "v1alpha1", world.trusted()).await;
    let mut watch = world.watch(NAME).await;
    let message = becomes(&mut watch, "FailedDiscoveryCheck").await;
    assert!(message.contains("tls: failed to verify certificate: x509: "), "{message}");
    assert_eq!(plain(&world.api.get(&format!("{BASE}/flunders")).await, 503), "service unavailable\n");
    let careless = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    world.api.patch("merge", &format!("{SERVICES}/{NAME}"), careless).await.good();
    becomes(&mut watch, "Passed").await;
}

#[tokio::test]
async fn metrics_of_a_server_of_ones_own_take_the_place_of_the_built_in_ones_and_give_it_back() {
    let world = World::new().await;
    let name = "v1beta1.metrics.k8s.io";
    let mut watch = world.watch(name).await;
    becomes(&mut watch, "Local").await;
    world.service().await;
    world.slice(true).await;
    let spec =
        json!({"service": {"namespace": "default", "name": "sample", "port": 7443}, "caBundle": world.sample.ca});
    world.api.patch("merge", &format!("{SERVICES}/{name}"), json!({"spec": spec})).await.good();
    becomes(&mut watch, "Passed").await;
    let nodes = "/apis/metrics.k8s.io/v1beta1/nodes";
    assert!(world.api.get(nodes).await.good()["line"].as_str().unwrap().starts_with(&format!("GET {nodes} admin")));
    let local = json!({"spec": {"service": null, "caBundle": null}});
    world.api.patch("merge", &format!("{SERVICES}/{name}"), local).await.good();
    let message = becomes(&mut watch, "Local").await;
    assert_eq!(message, "Local APIServices are always available");
    assert_eq!(world.api.get(nodes).await.good()["kind"], "NodeMetricsList");
    world.api.delete(&format!("{SERVICES}/{name}")).await.good();
    let again = loop {
        let event = watch.next().await.unwrap();
        if event["type"] == "ADDED" {
            break event;
        }
    };
    assert_eq!(again["object"]["spec"]["groupPriorityMinimum"], 100);
}

#[tokio::test]
async fn servers_of_apis_learn_whom_to_believe_and_it_stays_so() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let made = world.api.get(path).await.good();
    let data = &made["data"];
    assert!(data["requestheader-client-ca-file"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let lists = [
        ("requestheader-allowed-names", "[\"front-proxy-client\"]"),
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-uid-headers", "[\"X-Remote-Uid\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]"),
    ];
    for (key, expected) in lists {
        assert_eq!(data[key], expected, "{key}");
    }
    assert_eq!(data["client-ca-file"], "PEM");
    let mut watch = world
        .api
        .watch(&format!(
            "{}?watch=1&resourceVersion={}",
            path.rsplit_once('/').unwrap().0,
            made["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;
    world.api.delete(path).await.good();
    assert_eq!(watch.brief().await, "DELETED extension-apiserver-authentication");
    let again = watch.next().await.unwrap();
    assert_eq!((&again["type"], &again["object"]["data"]), (&json!("ADDED"), data));
}
