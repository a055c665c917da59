//! JSON documents over HTTPS, one at a time: the issuer is asked once an hour.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, HOST, USER_AGENT};
use ::http::{Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one document may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest document, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA is no certificate.
    #[error("the OIDC issuer's CA can't be used: {0}")]
    Ca(String),
    /// The system has no CAs, and none was given.
    #[error("this system has no CA certificates; give the OIDC issuer's CA with --oidc-ca-file")]
    NoSystemCas,
    /// rustls refused the settings.
    #[error("TLS to the OIDC issuer can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

pub(super) struct Fetcher {
    tls: Arc<ClientConfig>,
}

impl Fetcher {
    /// One that trusts this CA, or the system's.
    pub(super) fn new(ca_pem: Option<&str>) -> Result<Self, TrustError> {
        let roots = match ca_pem {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|e| TrustError::Ca(e.to_string()))?;
                    roots.add(certificate).map_err(|e| TrustError::Ca(e.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(TrustError::Ca("there is no PEM certificate in it".into()));
                }
                roots
            }
            None => kiln_pki::tls::system_roots().ok_or(TrustError::NoSystemCas)?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// The document at an https URL; the error is a sentence.
    pub(super) async fn json(&self, url: &str) -> Result<Value, String> {
        match tokio::time::timeout(PATIENCE, self.get(url)).await {
            Ok(result) => result.map_err(|e| format!("GET {url}: {e}")),
            Err(_) => Err(format!("GET {url}: no answer within {PATIENCE:?}")),
        }
    }

    async fn get(&self, url: &str) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let uri: Uri = url.parse()?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or("no https URL")?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((bare.as_str(), uri.port_u16().unwrap_or(443))).await?;
        let stream = TlsConnector::from(self.tls.clone()).connect(ServerName::try_from(bare)?, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(uri.path_and_query().map_or("/", |p| p.as_str()))
            .header(HOST, uri.authority().map_or(host.as_str(), |a| a.as_str()))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "kiln")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await?.to_bytes();
        connection.abort();
        if !code.is_success() {
            return Err(format!("{code}").into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
