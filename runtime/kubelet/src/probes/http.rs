//! A GET to a container, for probes and hooks: without keep-alive, and with any certificate.

use std::sync::{Arc, LazyLock};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use kiln_pki::tls::any_certificate;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::check;

/// The most bytes of an answer that are read.
const MAX_BODY: usize = 10 << 10;
/// Redirects to the same host that are followed.
const MAX_REDIRECTS: usize = 10;

/// A GET.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    https: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
    agent: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    location: Option<String>,
}

impl Request {
    /// A request as a spec has it; `ip` is the pod's. The text of an error says what is wrong with the spec.
    pub(crate) fn of(get: &HTTPGetAction, spec: &Container, ip: &str, agent: &str) -> Result<Self, String> {
        let host = get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip).to_owned();
        let path = get.path.as_deref().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
        Ok(Self {
            https: get.scheme.as_deref() == Some("HTTPS"),
            host,
            port: check::port(&get.port, spec)?,
            path,
            headers: headers.collect(),
            agent: format!("{agent}/1.36"),
        })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }

    /// The request that a redirect to the same host asks for.
    fn redirected(&self, location: &str) -> Option<Self> {
        let mut next = self.clone();
        let Some((scheme, rest)) = location.split_once("://") else {
            next.path = if location.starts_with('/') { location.to_owned() } else { format!("/{location}") };
            return Some(next);
        };
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        next.https = scheme == "https";
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (place, if next.https { 443 } else { 80 }),
        };
        next.port = port;
        next.path = format!("/{path}");
        (host.trim_matches(['[', ']']) == self.host).then_some(next)
    }
}

/// Host and port, as a URL has them.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why a connection was not made, as Go says it.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// Sends it, and follows redirects to the same host. The text of an error is that of upstream's probes.
pub(crate) async fn get(request: &Request) -> Result<Answer, String> {
    let mut request = request.clone();
    for _ in 0..MAX_REDIRECTS {
        let answer = once(&request).await?;
        let next = answer.location.as_deref().filter(|_| (300..400).contains(&answer.status));
        match next.and_then(|location| request.redirected(location)) {
            Some(next) => request = next,
            None => return Ok(answer),
        }
    }
    Err(format!("Get \"{}\": stopped after {MAX_REDIRECTS} redirects", request.url()))
}

async fn once(request: &Request) -> Result<Answer, String> {
    let failed = |why: String| format!("Get \"{}\": {why}", request.url());
    let stream = TcpStream::connect((request.host.as_str(), request.port))
        .await
        .map_err(|error| failed(format!("dial tcp {}: {}", authority(&request.host, request.port), reason(&error))))?;
    let answer = if request.https {
        let name = ServerName::try_from(request.host.clone()).map_err(|error| failed(error.to_string()))?;
        let stream = TlsConnector::from(TLS.clone()).connect(name, stream).await;
        exchange(stream.map_err(|error| failed(error.to_string()))?, request).await
    } else {
        exchange(stream, request).await
    };
    answer.map_err(|error| failed(error.to_string()))
}

async fn exchange<S>(stream: S, request: &Request) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut builder = http::Request::get(&request.path);
    let is_given = |name: &str| request.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let defaults = [
        ("Host", authority(&request.host, request.port)),
        ("User-Agent", request.agent.clone()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "close".to_owned()),
    ];
    for (name, value) in defaults.iter().filter(|(name, _)| !is_given(name)) {
        builder = builder.header(*name, value);
    }
    for (name, value) in request.headers.iter().filter(|(_, value)| !value.is_empty()) {
        builder = builder.header(name, value);
    }
    let request = builder.body(Empty::<Bytes>::new())?;
    let asking = async {
        let mut answer = sender.send_request(request).await?;
        let mut body = Vec::new();
        while let Some(frame) = answer.frame().await {
            if let Ok(data) = frame?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() >= MAX_BODY {
                break;
            }
        }
        body.truncate(MAX_BODY);
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: answer.status().as_u16(), body, location })
    };
    // The connection moves only while it is polled, and is dropped with this.
    let driving = async {
        _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = asking => answer,
        () = driving => Err("the connection ended".into()),
    }
}

/// Trusts whoever answers: a probe asks whether a container answers, not who it is.
static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let builder = any_certificate(Arc::new(rustls::crypto::ring::default_provider()));
    #[allow(clippy::expect_used, reason = "the provider has the versions that this crate is built with")]
    Arc::new(builder.expect("versions of TLS").with_no_client_auth())
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_on_the_same_host_only() {
        let request = Request {
            https: false,
            host: "10.0.0.1".to_owned(),
            port: 80,
            path: "/a".to_owned(),
            headers: Vec::new(),
            agent: String::new(),
        };
        let to = |location: &str| request.redirected(location).map(|next| next.url());
        assert_eq!(to("/b?c").as_deref(), Some("http://10.0.0.1:80/b?c"));
        assert_eq!(to("https://10.0.0.1:8443/x").as_deref(), Some("https://10.0.0.1:8443/x"));
        assert_eq!(to("http://example.org/"), None);
    }
}
