//! The way to the server of an aggregated API: TLS that trusts what the APIService says and shows this server's certificate as
//! a front proxy, and connections that wait for the next request.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::http::header::{ACCEPT, HOST, IF_NONE_MATCH, USER_AGENT};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use kiln_apimachinery::meta;
use kiln_pki::tls::any_certificate;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::told::Told;
use crate::backends::{self, Backend};
use crate::dialer::Stream;
use crate::http::body::{Body, full};
use crate::server::ApiServer;
use crate::user::UserInfo;
use crate::webhooks::trust;

/// Connections that wait.
const KEPT: usize = 8;
/// How long a connection waits at most: less than servers let it, so that seldom one goes as it is used.
const IDLE: Duration = Duration::from_secs(45);
/// How long a certificate is shown before another one is made.
const CERTIFICATE: SignedDuration = SignedDuration::from_hours(12);

/// What of an APIService says where its server is and how it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    /// PEM in base64; empty for the CAs that the system trusts.
    ca_bundle: String,
    insecure: bool,
}

impl Place {
    /// Reads an APIService; `None` if this server answers for it.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let service = meta::at(object, &["spec", "service"]).filter(|s| s.is_object())?;
        let text = |key: &str| meta::text(object, &["spec", key]).to_owned();
        let port = service.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
        Some(Self {
            group: text("group"),
            version: text("version"),
            namespace: meta::text(service, &["namespace"]).to_owned(),
            service: meta::text(service, &["name"]).to_owned(),
            port: port.unwrap_or(443),
            ca_bundle: text("caBundle"),
            insecure: meta::at(object, &["spec", "insecureSkipTLSVerify"]) == Some(&Value::Bool(true)),
        })
    }

    /// Where the group and version is.
    pub(super) fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// The name that the server's certificate must have.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// The way to one server, for one group and version.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) place: Place,
    tls: Mutex<Option<(Timestamp, Arc<ClientConfig>)>>,
    idle: Mutex<Vec<(Instant, SendRequest<Body>)>>,
    told: RwLock<Arc<Told>>,
}

impl Link {
    pub(super) fn new(place: Place) -> Self {
        Self { place, tls: Mutex::default(), idle: Mutex::default(), told: RwLock::default() }
    }

    /// What the server has told of its resources.
    pub(crate) fn told(&self) -> Arc<Told> {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, told: Told) {
        *self.told.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(told);
    }

    /// Connections to where the server was are of no use.
    pub(super) fn moved(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn tls(&self, server: &ApiServer) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let now = server.now();
        if let Some((made, config)) = known.as_ref()
            && (SignedDuration::ZERO..CERTIFICATE).contains(&now.duration_since(*made))
        {
            return Ok(config.clone());
        }
        let builder = if self.place.insecure {
            any_certificate(Arc::new(ring::default_provider())).map_err(|e| e.to_string())?
        } else {
            trust::builder(&self.place.ca_bundle)?
        };
        let config = match &server.config().front_proxy {
            None => builder.with_no_client_auth(),
            Some(proxy) => {
                let identity = (proxy.identity)()?;
                let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| e.to_string())?;
                builder.with_client_auth_cert(chain, key).map_err(|e| e.to_string())?
            }
        };
        let config = Arc::new(config);
        *known = Some((now, config.clone()));
        Ok(config)
    }

    /// What is ready behind the Service.
    pub(super) async fn backends(&self, server: &ApiServer) -> Result<Vec<Backend>, String> {
        backends::resolve(server, &self.place.namespace, &self.place.service, self.place.port).await
    }

    /// Opens a connection to one of them.
    pub(super) async fn connect(&self, server: &ApiServer, backend: &Backend) -> Result<Stream, String> {
        let config = self.tls(server)?;
        let name = ServerName::try_from(self.place.host()).map_err(|e| e.to_string())?;
        let stream = backend.dial(server).await?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let cause = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            match cause {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    format!("tls: failed to verify certificate: x509: {why}")
                }
                _ => format!("tls: {error}"),
            }
        })?;
        Ok(Box::new(stream))
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, sender)| !sender.is_closed() && since.elapsed() < IDLE);
        // One that is not ready has an answer under way.
        let at = idle.iter().position(|(_, sender)| sender.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((Instant::now(), sender));
        }
    }

    /// Sends a request over a connection that waits, or a new one to any backend.
    pub(super) async fn send(
        &self,
        server: &ApiServer,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        if let Ok(host) = HeaderValue::from_str(&self.place.host()) {
            request.headers_mut().insert(HOST, host);
        }
        while let Some(mut sender) = self.take() {
            // The server may close the connection at this very moment: what reads only is asked again.
            let again = repeatable(&request);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message().or(again) {
                    Some(back) => request = back,
                    None => return Err(failed.into_error().to_string()),
                },
            }
        }
        let backend = self.backends(server).await?.swap_remove(0);
        let stream = self.connect(server, &backend).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the server of an aggregated API broke");
            }
        });
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        self.keep(sender);
        Ok(response)
    }

    /// Asks one backend, or any, for something, in the aggregator's own name.
    pub(super) async fn get(
        &self,
        server: &ApiServer,
        backend: Option<&Backend>,
        path: &str,
        accept: &str,
        tag: &str,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::get(path)
            .header(HOST, self.place.host())
            .header(USER_AGENT, "kube-aggregator")
            .header(ACCEPT, accept);
        if !tag.is_empty() {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let mut request = request.body(full("")).map_err(|e| e.to_string())?;
        identify(request.headers_mut(), &UserInfo::system("system:kube-aggregator"));
        match backend {
            None => self.send(server, request).await,
            Some(backend) => {
                let stream = self.connect(server, backend).await?;
                crate::subresources::proxy::send(stream, request).await.map_err(|e| e.to_string())
            }
        }
    }
}

/// A copy of a request that may be sent twice.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(full(""));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Says who makes a request, as a front proxy does.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    user.groups.iter().for_each(|group| add("x-remote-group", group));
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        values.iter().for_each(|value| add(&name, value));
    }
}

/// A key as part of a header's name: what may not stand there is written in hexadecimal digits.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_proxy_says_all_that_is_known_of_the_user() {
        let mut user = UserInfo::new("jane@example.com", &["dev", "ops"]);
        user.uid = "42".into();
        user.extra.insert("example.com/scope%".into(), vec!["a".into(), "b".into()]);
        let mut headers = HeaderMap::new();
        identify(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("X-Remote-User"), ["jane@example.com"]);
        assert_eq!(all("X-Remote-Uid"), ["42"]);
        assert_eq!(all("X-Remote-Group"), ["dev", "ops", "system:authenticated"]);
        assert_eq!(all("X-Remote-Extra-example.com%2Fscope%25"), ["a", "b"]);
    }
}
