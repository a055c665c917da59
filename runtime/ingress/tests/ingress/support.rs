//! A world: an API, an ingress on free ports, and pods.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use kiln_ingress::{Config, Listening};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// More than anything here takes, and less than a person waits.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) api: FakeApi,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    _end: DropGuard,
}

/// An API with our class and no Ingress.
pub(crate) fn api() -> FakeApi {
    let api = FakeApi::new();
    let class = json!({
        "metadata": {"name": "kiln", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": kiln_ingress::CONTROLLER},
    });
    api.put("/apis/networking.k8s.io/v1/ingressclasses/kiln", class);
    api
}

pub(crate) fn config() -> Config {
    Config {
        node: "here".to_owned(),
        address: Some([127, 0, 0, 1].into()),
        http_port: 0,
        https_port: 0,
        connections: 20_000,
        trusted: Vec::new(),
        access_log: false,
        external_names: kiln_ingress::ExternalNames::No,
        metrics: None,
        tell: Arc::new(|_| {}),
    }
}

impl World {
    /// An ingress for what is in the API; its table is there when this returns.
    pub(crate) async fn start(api: FakeApi) -> Self {
        Self::start_with(api, config()).await
    }

    pub(crate) async fn start_with(api: FakeApi, config: Config) -> Self {
        let (sender, mut ports) = mpsc::unbounded_channel();
        let tell = Arc::new(move |told| _ = sender.send(told));
        let shutdown = CancellationToken::new();
        let mut informers = Informers::new(api.client());
        let ingress = kiln_ingress::build(&mut informers, Config { tell, ..config }, shutdown.clone()).unwrap();
        tokio::spawn(informers.run(shutdown.clone()));
        tokio::spawn(ingress);
        let (mut http, mut https) = (None, None);
        while http.is_none() || https.is_none() {
            match tokio::time::timeout(LONG, ports.recv()).await.unwrap().unwrap() {
                Listening::Http(address) => http = Some(address),
                Listening::Https(address) => https = Some(address),
                Listening::Failed(error) => panic!("{error}"),
            }
        }
        let (http, https) = (http.unwrap(), https.unwrap());
        Self { api, http, https, _end: shutdown.clone().drop_guard(), shutdown }
    }

    /// The answer to a GET.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Reply {
        self.send(Request::get(path).header("host", host).body(Full::default()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let stream = TcpStream::connect(self.http).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Reply::read(sender.send_request(request).await.unwrap()).await
    }

    /// Waits until a GET gets what is expected.
    pub(crate) async fn until(&self, host: &str, path: &str, expected: impl Fn(&Reply) -> bool) -> Reply {
        let waiting = async {
            loop {
                let reply = self.get(host, path).await;
                if expected(&reply) {
                    return reply;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("the expected answer")
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let text = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
        Self { status: parts.status, headers: parts.headers, text }
    }

    /// Which pod answered; else the status.
    pub(crate) fn served_by(&self) -> String {
        match self.echo().get("service") {
            Some(service) => service.as_str().unwrap().to_owned(),
            None => self.status.as_u16().to_string(),
        }
    }

    /// What the pod saw.
    pub(crate) fn echo(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// What a pod saw of a header.
    pub(crate) fn saw(&self, header: &str) -> String {
        self.echo()["headers"][header].as_str().unwrap_or("none").to_owned()
    }
}

/// Puts a Service and its endpoints into the API. Its port is 8080, and called http.
pub(crate) fn service(api: &FakeApi, name: &str, endpoints: &[SocketAddr], app_protocol: Option<&str>) {
    let port = json!({"name": "http", "port": 8080, "appProtocol": app_protocol});
    let service = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"ports": [port]}});
    api.put(&format!("/api/v1/namespaces/ns/services/{name}"), service);
    slices(api, name, endpoints);
}

/// Gives a Service these endpoints: a slice for each, since each has a port of its own.
pub(crate) fn slices(api: &FakeApi, name: &str, endpoints: &[SocketAddr]) {
    for (number, endpoint) in endpoints.iter().enumerate() {
        let slice = json!({
            "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [endpoint.ip().to_string()], "nodeName": "here"}],
            "ports": [{"name": "http", "port": endpoint.port(), "protocol": "TCP"}],
        });
        api.put(&format!("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/{name}-{number}"), slice);
    }
}

/// Puts an Ingress into the API.
pub(crate) fn ingress(api: &FakeApi, name: &str, annotations: Value, spec: Value) {
    let meta = json!({"name": name, "namespace": "ns", "annotations": annotations, "creationTimestamp": "2026-01-01T00:00:00Z"});
    let ingress = json!({"metadata": meta, "spec": spec});
    api.put(&format!("/apis/networking.k8s.io/v1/namespaces/ns/ingresses/{name}"), ingress);
}

/// A rule: host, and its paths by kind, path and Service.
pub(crate) fn rule(host: &str, paths: &[(&str, &str, &str)]) -> Value {
    let path = |(kind, path, service): &(&str, &str, &str)| json!({"path": path, "pathType": kind, "backend": backend(service)});
    let paths: Vec<_> = paths.iter().map(path).collect();
    json!({"host": host, "http": {"paths": paths}})
}

pub(crate) fn backend(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 8080}}})
}

/// A pod that tells what it saw: by any path, over HTTP/1.1 or HTTP/2.
pub(crate) async fn echo(service: &str) -> SocketAddr {
    counted_echo(service).await.0
}

/// The same, and how many connections were made to it.
pub(crate) async fn counted_echo(service: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let name = service.to_owned();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let address = pod(move |stream| {
        count.fetch_add(1, Ordering::Relaxed);
        let name = name.clone();
        async move {
            let service = service_fn(move |request| seen(name.clone(), request));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (address.await, connections)
}

/// What a pod of a Service tells of a request.
pub(crate) async fn seen(service: String, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::builder().status(499).body(Full::default()).unwrap());
    };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let headers: serde_json::Map<_, _> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap_or_default())))
        .collect();
    let proto = if parts.version == Version::HTTP_2 { "HTTP/2.0" } else { "HTTP/1.1" };
    let target = parts.uri.path_and_query().map(ToString::to_string);
    let text = json!({
        "service": service,
        "method": parts.method.as_str(),
        "target": target,
        "proto": proto,
        "headers": headers,
        "body": body,
    });
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::from(text.to_string())).unwrap())
}

/// A pod that does this with each connection.
pub(crate) async fn pod<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address that nobody listens at.
pub(crate) async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
