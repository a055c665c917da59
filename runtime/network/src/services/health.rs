//! What load balancers ask the node over HTTP: at a port of each Service that keeps its clients' addresses, whether the node has
//! endpoints of it; and at the proxy's own port, whether the proxy does its work and the node is to get new connections at all.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kiln_client::{Clock, ObjectRef};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a change may wait to be programmed before the proxy counts as stuck: twice kube-proxy's period.
const LATE: Duration = Duration::from_secs(60);
/// How long after a failure a port is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many may ask at a time.
const CONNECTIONS: usize = 32;
/// The taint of a node that the cluster autoscaler is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// What is answered. Shared by the proxy, which writes it, and the listeners.
pub(crate) struct Health {
    clock: Clock,
    shutdown: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    services: HashMap<ObjectRef, Asked>,
    /// Since when changes wait to be programmed.
    queued: Option<Timestamp>,
    updated: Option<Timestamp>,
    eligible: bool,
}

/// A Service that is asked for.
struct Asked {
    port: u16,
    endpoints: usize,
    stop: CancellationToken,
}

/// One answer.
struct Answer {
    ok: bool,
    weight: Option<usize>,
    body: String,
}

/// Gives the answer to a path.
type Answering = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

impl Health {
    pub(crate) fn new(clock: Clock, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { clock, shutdown, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes wait.
    pub(crate) fn queued(&self) {
        let now = self.clock.now();
        self.state().queued.get_or_insert(now);
    }

    /// All changes are programmed.
    pub(crate) fn updated(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        (state.queued, state.updated) = (None, Some(now));
    }

    /// The node as it is now.
    pub(crate) fn set_node(&self, node: Option<&Node>) {
        let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref()).into_iter().flatten();
        let tainted = taints.into_iter().any(|taint| taint.key == TO_BE_DELETED);
        self.state().eligible = node.is_some_and(|node| node.metadata.deletion_timestamp.is_none()) && !tainted;
    }

    /// A Service is asked for at a port, and has this many endpoints here.
    pub(crate) fn set(self: &Arc<Self>, service: &ObjectRef, port: u16, endpoints: usize) {
        let mut state = self.state();
        match state.services.get_mut(service) {
            Some(asked) if asked.port == port => asked.endpoints = endpoints,
            _ => {
                let stop = self.shutdown.child_token();
                let asked = Asked { port, endpoints, stop: stop.clone() };
                if let Some(old) = state.services.insert(service.clone(), asked) {
                    old.stop.cancel();
                }
                let (health, service) = (self.clone(), service.clone());
                let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
                // At once: whoever sees what is programmed may ask.
                let listener = listen(address);
                let what = format!("the health check of {service}");
                let answer: Answering = Arc::new(move |_| health.service(&service));
                tokio::spawn(async move { serve(address, listener, &what, answer, &stop).await });
            }
        }
    }

    /// A Service is not asked for any more.
    pub(crate) fn remove(&self, service: &ObjectRef) {
        if let Some(asked) = self.state().services.remove(service) {
            asked.stop.cancel();
        }
    }

    /// No other Services are asked for.
    pub(crate) fn retain(&self, services: &BTreeSet<ObjectRef>) {
        self.state().services.retain(|service, asked| {
            let stays = services.contains(service);
            if !stays {
                asked.stop.cancel();
            }
            stays
        });
    }

    /// Answers for the proxy until the shutdown.
    pub(crate) async fn serve(self: &Arc<Self>, address: SocketAddr) {
        let health = self.clone();
        let answer: Answering = Arc::new(move |path| match path {
            "/healthz" => Some(health.proxy(true)),
            "/livez" => Some(health.proxy(false)),
            _ => None,
        });
        serve(address, listen(address), "the health of the service proxy", answer, &self.shutdown).await;
    }

    fn is_healthy(&self) -> bool {
        let now = self.clock.now();
        self.state().queued.is_none_or(|since| now.duration_since(since).unsigned_abs() < LATE)
    }

    fn service(&self, service: &ObjectRef) -> Option<Answer> {
        let endpoints = self.state().services.get(service)?.endpoints;
        let healthy = self.is_healthy();
        let name = |text: &str| json!(text).to_string();
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\
             \"serviceProxyHealthy\": {healthy}\n}}",
            name(&service.namespace),
            name(&service.name),
        );
        Some(Answer { ok: endpoints > 0 && healthy, weight: Some(endpoints), body })
    }

    fn proxy(&self, with_node: bool) -> Answer {
        let (healthy, now) = (self.is_healthy(), self.clock.now());
        let state = self.state();
        let ok = healthy && (state.eligible || !with_node);
        let updated = if ok { Some(now) } else { state.updated };
        let text =
            |time: Option<Timestamp>| time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string());
        // Both families are programmed together.
        let family = json!({"lastUpdated": text(state.updated), "healthy": healthy});
        let mut body = json!({
            "lastUpdated": text(updated),
            "currentTime": now.to_string(),
            "healthy": healthy,
            "status": {"IPv4": family, "IPv6": family},
        });
        if with_node {
            body["nodeEligible"] = json!(state.eligible);
        }
        Answer { ok, weight: None, body: body.to_string() }
    }
}

/// Answers requests at an address until told to stop. `answer` is given the path.
async fn serve(
    address: SocketAddr,
    mut listener: io::Result<TcpListener>,
    what: &str,
    answer: Answering,
    stop: &CancellationToken,
) {
    let serving = async {
        loop {
            match listener {
                Ok(listener) => accept(listener, &answer).await,
                Err(error) => tracing::warn!(%address, %error, "cannot listen for {what}; will try again"),
            }
            tokio::time::sleep(RETRY).await;
            listener = listen(address);
        }
    };
    tokio::select! {
        () = serving => {}
        () = stop.cancelled() => {}
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = match std::net::TcpListener::bind(address) {
        // A kernel without IPv6.
        Err(error) if address.is_ipv6() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers connections, a few at a time: a load balancer's question is short, and one that dawdles is cut off.
async fn accept(listener: TcpListener, answer: &Answering) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a question for health was not heard");
                return;
            }
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let response = response(answer(request.uri().path()));
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            _ = tokio::time::timeout(PATIENCE, connection).await;
        });
    }
}

fn response(answer: Option<Answer>) -> Response<Full<Bytes>> {
    let Some(answer) = answer else {
        let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found\n")));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = if answer.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    if let Some(weight) = answer.weight {
        headers.insert("x-load-balancing-endpoint-weight", http::HeaderValue::from(weight));
    }
    response
}
