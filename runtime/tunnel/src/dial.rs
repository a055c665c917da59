//! One connection to one server, upgraded to a tunnel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Connection, PATH, PROTOCOL, SERVER_ID};

/// How long TCP, TLS and the upgrade may take together.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most of a refusal that is read.
const REFUSAL: usize = 4096;

/// Who the node is, and whom it believes.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// `https://host:port` of the server that the node joined.
    pub server: String,
    /// The cluster's CA, PEM.
    pub ca_pem: String,
    /// The node's client certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why a server does not upgrade a connection as it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// The server's URL, a certificate or a key can't be used.
    #[error("{0}")]
    Config(String),
    /// The server can't be reached, or proves to be another.
    #[error("connecting: {0}")]
    Connect(#[from] io::Error),
    /// The connection is there, and HTTP failed on it.
    #[error("asking for the upgrade: {0}")]
    Http(#[from] hyper::Error),
    /// The server answered with something else.
    #[error("the server answered {0}: {1}")]
    Refused(StatusCode, String),
    /// It took too long.
    #[error("the server did not answer in time")]
    Timeout,
}

/// A connection that a server has upgraded.
pub(crate) struct Dialled {
    pub(crate) connection: Connection,
    /// What tells this server from its peers.
    pub(crate) server_id: String,
}

/// Host without brackets, and port, of `https://host:port`.
pub(crate) fn address(server: &str) -> Option<(String, u16)> {
    let rest = server.strip_prefix("https://")?.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (rest, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Opens a tunnel to a server, which is asked for by its URL.
pub(crate) async fn dial(server: &str, identity: &Identity) -> Result<Dialled, TunnelError> {
    ask(server, identity, PATH, PROTOCOL).await
}

/// Has a request to a server upgraded.
pub(crate) async fn ask(server: &str, identity: &Identity, path: &str, to: &str) -> Result<Dialled, TunnelError> {
    tokio::time::timeout(TIMEOUT, attempt(server, identity, path, to)).await.unwrap_or(Err(TunnelError::Timeout))
}

async fn attempt(server: &str, identity: &Identity, path: &str, to: &str) -> Result<Dialled, TunnelError> {
    let unusable = || TunnelError::Config(format!("server {server:?} is not of the form https://host:port"));
    let (host, port) = address(server).ok_or_else(unusable)?;
    // The zone of a link-local address is this machine's own affair.
    let name = host.split('%').next().unwrap_or_default().to_owned();
    let name = ServerName::try_from(name).map_err(|_| unusable())?;
    let tls = config(identity)?;
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "the connection that asked for an upgrade");
        }
    });
    let request = Request::get(path)
        .header(HOST, format!("{}:{port}", if host.contains(':') { "[server]" } else { host.as_str() }))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, to)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|e| TunnelError::Config(e.to_string()))?;
    let response = sender.send_request(request).await?;
    upgraded(response).await
}

async fn upgraded(response: Response<Incoming>) -> Result<Dialled, TunnelError> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let text = Limited::new(response.into_body(), REFUSAL).collect().await;
        let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return Err(TunnelError::Refused(status, String::from_utf8_lossy(&text).into_owned()));
    }
    let server_id = response.headers().get(SERVER_ID).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let connection = Box::new(TokioIo::new(hyper::upgrade::on(response).await?));
    Ok(Dialled { connection, server_id })
}

fn config(identity: &Identity) -> Result<Arc<ClientConfig>, TunnelError> {
    let unusable = |what: &str, why: String| TunnelError::Config(format!("{what}: {why}"));
    let read = |what: &str, pem: &str| -> Result<Vec<CertificateDer<'static>>, TunnelError> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| unusable(what, e.to_string()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in read("the CA certificate", &identity.ca_pem)? {
        roots.add(certificate).map_err(|e| unusable("the CA certificate", e.to_string()))?;
    }
    let chain = read("the client certificate", &identity.certificate_pem)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
        .map_err(|e| unusable("the client key", e.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable("TLS", e.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| unusable("the client certificate and key", e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The URL of an address, for [`dial`].
pub(crate) fn url(host: &str, port: u16) -> String {
    if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") }
}
