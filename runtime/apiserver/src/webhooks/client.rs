//! One call to a webhook: where it is, whom to trust, and connections that are kept for the next call.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kiln_apimachinery::meta;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::backends::{self, Backend};
use crate::server::ApiServer;
use crate::webhooks::trust;

/// How long a conversion may take.
pub(crate) const CONVERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer, in bytes.
const LARGEST: usize = 3 * 1024 * 1024;
/// Connections that are kept for a webhook.
const KEPT: usize = 4;
/// Where a webhook is, as a `clientConfig` says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    place: Place,
    /// PEM, in base64; empty for the CAs that the system trusts.
    ca_bundle: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Url(String),
    Service { namespace: String, name: String, path: String, port: u16 },
}

impl Target {
    /// Reads a `clientConfig`.
    pub(crate) fn of(client: &Value) -> Self {
        let ca_bundle = meta::text(client, &["caBundle"]).to_owned();
        let place = match client.get("service").filter(|s| s.is_object()) {
            None => Place::Url(meta::text(client, &["url"]).to_owned()),
            Some(service) => {
                let text = |key: &str| meta::text(service, &[key]).to_owned();
                let port = service.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
                let path = text("path");
                let path = if path.starts_with('/') { path } else { format!("/{path}") };
                Place::Service { namespace: text("namespace"), name: text("name"), path, port: port.unwrap_or(443) }
            }
        };
        Self { place, ca_bundle }
    }

    /// The address that is called, whatever stands behind it.
    fn url(&self) -> String {
        match &self.place {
            Place::Url(url) => url.clone(),
            Place::Service { namespace, name, path, port } => format!("https://{name}.{namespace}.svc:{port}{path}"),
        }
    }
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// No answer in time.
    Timeout(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

/// Connections that wait for the next call, and the settings of TLS for each bundle of CAs.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Target, Vec<SendRequest<Full<Bytes>>>>>,
    tls: Mutex<HashMap<String, Arc<ClientConfig>>>,
}

impl Pool {
    fn take(&self, target: &Target) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(target)?;
        while let Some(sender) = waiting.pop() {
            // Its last answer was read whole, so it will be ready in a moment.
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        idle.remove(target);
        None
    }

    fn keep(&self, target: &Target, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.entry(target.clone()).or_default();
        if waiting.len() < KEPT {
            waiting.push(sender);
        }
    }

    fn tls(&self, bundle: &str) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(bundle) {
            return Ok(found.clone());
        }
        let made = Arc::new(trust::builder(bundle)?.with_no_client_auth());
        // Bundles change with their certificates, seldom.
        if known.len() > 64 {
            known.clear();
        }
        known.insert(bundle.to_owned(), made.clone());
        Ok(made)
    }
}

/// Sends a review and reads the answer.
pub(crate) async fn post(
    server: &ApiServer,
    target: &Target,
    body: Bytes,
    patience: Duration,
) -> Result<Value, CallError> {
    let url = format!("{}?timeout={}s", target.url(), patience.as_secs());
    let failed = |why: String| CallError::Failed(format!("Post \"{url}\": {why}"));
    match tokio::time::timeout(patience, call(server, target, &url, body)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(CallError::Timeout(format!("Post \"{url}\": context deadline exceeded"))),
    }
}

async fn call(server: &ApiServer, target: &Target, url: &str, body: Bytes) -> Result<Value, String> {
    let uri: Uri = url.parse().map_err(|e| format!("{e}"))?;
    let pool = server.pool();
    if let Some(mut sender) = pool.take(target) {
        // A connection that the other side has closed meanwhile says so here, and nothing is lost.
        if let Ok(answer) = exchange(&mut sender, &uri, body.clone()).await {
            pool.keep(target, sender);
            return answer;
        }
    }
    let mut sender = connect(server, target, &uri).await?;
    let answer = exchange(&mut sender, &uri, body).await?;
    pool.keep(target, sender);
    answer
}

/// Sends one request. The outer error is the connection's, the inner the webhook's.
async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    uri: &Uri,
    body: Bytes,
) -> Result<Result<Value, String>, String> {
    let request = Request::post(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header(HOST, uri.authority().map_or("", |a| a.as_str()))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, */*")
        .header(USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(body))
        .map_err(|e| e.to_string())?;
    sender.ready().await.map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let code = response.status();
    let bytes = match Limited::new(response.into_body(), LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(why) => return Err(why.to_string()),
    };
    if !code.is_success() {
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        let word = code.canonical_reason().unwrap_or_default();
        return Ok(Err(match text.as_str() {
            "" => format!("the server responded with the status code {} ({word})", code.as_u16()),
            text => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        }));
    }
    Ok(serde_json::from_slice(&bytes).map_err(|e| format!("the response is no JSON: {e}")))
}

async fn connect(server: &ApiServer, target: &Target, uri: &Uri) -> Result<SendRequest<Full<Bytes>>, String> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or("no https URL")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let backend = match &target.place {
        Place::Url(_) => Backend::of_url(&bare, uri.port_u16().unwrap_or(443)),
        Place::Service { namespace, name, port, .. } => {
            // Any will do.
            backends::resolve(server, namespace, name, *port).await?.swap_remove(0)
        }
    };
    let stream = backend.dial(server).await?;
    let tls = TlsConnector::from(server.pool().tls(&target.ca_bundle)?);
    let name = ServerName::try_from(bare).map_err(|e| e.to_string())?;
    let stream = tls.connect(name, stream).await.map_err(|e| format!("tls: failed to verify certificate: {e}"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}
