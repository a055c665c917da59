//! New connections to endpoints.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kiln_pki::tls::any_certificate;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Endpoint, Protocol};
use crate::io::Io;

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Connector {
    /// One for all endpoints.
    ///
    /// # Errors
    /// If the provider does not know the versions of TLS, which this one does.
    pub(crate) fn new(provider: &Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        // Pods make their own certificates, and none is for the address that they are reached at.
        let config = |alpn: &[u8]| -> Result<TlsConnector, rustls::Error> {
            let mut config = any_certificate(provider.clone())?.with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self { http1: config(b"http/1.1")?, http2: config(b"h2")? })
    }

    /// A new connection, within a time.
    pub(crate) async fn connect(&self, endpoint: &Endpoint, within: Duration) -> io::Result<Io> {
        let connecting = async {
            let stream = TcpStream::connect(endpoint.address()).await?;
            stream.set_nodelay(true)?;
            let tls = match endpoint.protocol() {
                Protocol::Http | Protocol::H2c => return Ok(Io::Plain(stream)),
                Protocol::Https => &self.http1,
                Protocol::H2 => &self.http2,
            };
            let name = ServerName::from(endpoint.address().ip());
            Ok(Io::Tls(Box::new(tls.connect(name, stream).await?.into())))
        };
        let connected = match tokio::time::timeout(within, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match &connected {
            Ok(_) => endpoint.connected(),
            Err(_) => endpoint.failed(),
        }
        connected
    }
}
