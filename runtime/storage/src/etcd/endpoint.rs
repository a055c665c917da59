//! Where etcd is, and one connection to it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use kiln_grpc::{Connection, Options};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::types::StorageError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a connection is probed, and how long the answer may take: a peer whose machine is gone says nothing.
const PROBE: Duration = Duration::from_secs(5);
/// Bytes in flight: lists come at the speed of the network.
const WINDOW: u32 = 4 << 20;

/// Address of one member of etcd: `https://host:2379`, or `http://` without encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no endpoint of etcd; write it as https://192.168.1.10:2379");
        let uri: Uri = text.trim().trim_end_matches('/').parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong());
        }
        Ok(Self { https, host: host.to_owned(), port: uri.port_u16().unwrap_or(2379) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}:{}", if self.https { "s" } else { "" }, self.host, self.port)
    }
}

/// Files for TLS, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CAs that etcd's certificate may be signed by.
    pub ca: Option<PathBuf>,
    /// The client's certificate, with those that lead to its CA.
    pub certificate: Option<PathBuf>,
    /// The client certificate's key.
    pub key: Option<PathBuf>,
}

/// How to connect to any of the endpoints.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) endpoints: Vec<Endpoint>,
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// Reads the files.
    pub(super) fn new(endpoints: Vec<Endpoint>, files: &TlsFiles) -> Result<Self, StorageError> {
        if endpoints.is_empty() {
            return Err(StorageError::Etcd("no endpoint of etcd is given".to_owned()));
        }
        let tls = endpoints.iter().any(|endpoint| endpoint.https).then(|| connector(files)).transpose()?;
        Ok(Self { endpoints, tls })
    }

    /// Connects to the endpoint of this number, counted round.
    pub(super) async fn connect(&self, number: usize) -> Result<Connection, String> {
        let endpoint = &self.endpoints[number % self.endpoints.len()];
        let connected = tokio::time::timeout(CONNECT, self.dial(endpoint)).await;
        connected.unwrap_or_else(|_| Err("it does not answer".to_owned())).map_err(|why| format!("{endpoint}: {why}"))
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Connection, String> {
        let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, endpoint.port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            Some(tls) if endpoint.https => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                handshake(tls.connect(name, stream).await.map_err(|error| error.to_string())?, endpoint).await
            }
            _ => handshake(stream, endpoint).await,
        }
    }
}

fn connector(files: &TlsFiles) -> Result<TlsConnector, StorageError> {
    let failed = |path: &PathBuf, why: &dyn fmt::Display| StorageError::Etcd(format!("{}: {why}", path.display()));
    let certificates = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, StorageError> {
        let found = CertificateDer::pem_file_iter(path).map_err(|e| failed(path, &e))?.collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| failed(path, &error))?;
        if found.is_empty() { Err(failed(path, &"there is no certificate in it")) } else { Ok(found) }
    };
    let Some(ca) = &files.ca else {
        let text = "etcd's CA is not given; an endpoint with https needs --datastore-cafile";
        return Err(StorageError::Etcd(text.to_owned()));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| failed(ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| StorageError::Etcd(error.to_string()))?.with_root_certificates(roots);
    let mut config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
            config.with_client_auth_cert(certificates(certificate)?, private).map_err(|e| failed(certificate, &e))?
        }
        (None, None) => config.with_no_client_auth(),
        _ => {
            let text = "--datastore-certfile and --datastore-keyfile belong together; give both";
            return Err(StorageError::Etcd(text.to_owned()));
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn handshake<S>(stream: S, endpoint: &Endpoint) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A member that has lost the others says so, instead of serving what it remembers.
    let options = Options { probe: Some(PROBE), window: WINDOW, headers: &[("hasleader", "true")] };
    Connection::start(stream, endpoint.to_string(), options).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_without_path() {
        let read = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(read("https://etcd-1:2379/").as_deref(), Ok("https://etcd-1:2379"));
        assert_eq!(read("http://[::1]").as_deref(), Ok("http://[::1]:2379"));
        for text in ["etcd-1:2379", "postgres://x", "https://", "https://a:1/x", "https://me:secret@a:1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
