//! New connections to endpoints.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
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
        let verifier = Arc::new(AnyCertificate(provider.clone()));
        let config = |alpn: &[u8]| -> Result<TlsConnector, rustls::Error> {
            let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
            let dangerous = config.dangerous().with_custom_certificate_verifier(verifier.clone());
            let mut config = dangerous.with_no_client_auth();
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

/// Takes any certificate: pods make their own, and none is for the address that they are reached at. That the peer holds the
/// certificate's key is verified all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
