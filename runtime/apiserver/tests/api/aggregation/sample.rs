//! A world with a server of an aggregated API in it.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
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

use crate::common::{Api, Watch, admin};

pub(super) const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
pub(super) const NAME: &str = "v1alpha1.wardle.example.com";
pub(super) const BASE: &str = "/apis/wardle.example.com/v1alpha1";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

type Reply = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// The server of an aggregated API, on the one node that there is.
pub(super) struct Sample {
    pub(super) port: AtomicU16,
    ca: String,
    /// What it was asked, as `METHOD URI user groups certificate`.
    pub(super) seen: Mutex<Vec<String>>,
    /// What a watch is sent.
    pub(super) lines: Mutex<Option<mpsc::UnboundedReceiver<Bytes>>>,
    /// Its document of OpenAPI 2; null if it has none.
    pub(super) swagger: Mutex<Value>,
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
            "/openapi/v2" if !self.swagger.lock().unwrap().is_null() => {
                let text = self.swagger.lock().unwrap().to_string();
                let tag = format!("\"{}\"", text.len());
                if request.headers().get("if-none-match").is_some_and(|known| *known == tag) {
                    return Response::builder().status(StatusCode::NOT_MODIFIED).body(full("")).unwrap();
                }
                Response::builder().header("etag", tag).body(full(text)).unwrap()
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

pub(super) struct World {
    pub(super) api: Api,
    pub(super) sample: Arc<Sample>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(false, "sample.default.svc").await
    }

    /// The server's certificate has this name.
    pub(super) async fn with(old: bool, host: &str) -> Self {
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
            swagger: Mutex::default(),
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

    pub(super) async fn register(&self, group: &str, version: &str, trust: Value) {
        let mut spec = json!({
            "group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": "default", "name": "sample", "port": 7443},
        });
        spec.as_object_mut().unwrap().extend(trust.as_object().unwrap().clone());
        let object = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": spec});
        self.api.post(SERVICES, object).await.good();
    }

    pub(super) fn trusted(&self) -> Value {
        json!({"caBundle": self.sample.ca})
    }

    pub(super) async fn service(&self) {
        let ports = json!([{"name": "https", "port": 7443, "targetPort": 443}]);
        let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": ports}});
        self.api.post("/api/v1/namespaces/default/services", service).await.good();
    }

    /// Whether there is an endpoint that is ready, of a slice that is there.
    pub(super) async fn endpoint(&self, ready: bool) {
        let patch = json!([{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": ready}]);
        self.api.patch("json", &format!("{SLICES}/sample-1"), patch).await.good();
    }

    pub(super) async fn slice(&self, ready: bool) {
        let endpoint = json!({"addresses": ["10.42.0.5"], "nodeName": "pi", "conditions": {"ready": ready}});
        let slice = json!({
            "metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}}, "addressType": "IPv4",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP"}], "endpoints": [endpoint],
        });
        self.api.post(SLICES, slice).await.good();
    }

    pub(super) async fn watch(&self, name: &str) -> Watch {
        self.api.watch(&format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}")).await
    }

    /// One with everything that makes the API available.
    pub(super) async fn ready() -> Self {
        let world = Self::new().await;
        world.all_ready().await;
        world
    }

    pub(super) async fn all_ready(&self) {
        self.service().await;
        self.slice(true).await;
        self.register("wardle.example.com", "v1alpha1", self.trusted()).await;
        becomes(&mut self.watch(NAME).await, "Passed").await;
    }

    /// Waits until discovery tells what the server has.
    pub(super) async fn discovered(&self) -> Value {
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
pub(super) async fn becomes(watch: &mut Watch, reason: &str) -> String {
    loop {
        let event = watch.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(condition) = conditions.iter().find(|c| c["type"] == "Available" && c["reason"] == reason) {
            return condition["message"].as_str().unwrap().to_owned();
        }
    }
}

pub(super) async fn aggregated(api: &Api) -> Value {
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    api.send(admin(), "GET", "/apis", &accept, Value::Null).await.good()
}

pub(super) fn group<'a>(all: &'a Value, name: &str) -> Option<&'a Value> {
    all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == name)
}
