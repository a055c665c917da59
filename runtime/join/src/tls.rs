//! TLS configurations and certificates that can change while they are in use.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::UNIX_EPOCH;

use kiln_pki::tls::any_certificate;
use kiln_pki::{Certificate, PkiError, certificate_der, certificates_der, private_key_der};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The one TLS provider of the runtime.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// For fetching the CA before anything is trusted: every certificate passes. Nothing secret may go over it.
pub(crate) fn untrusting() -> ClientConfig {
    supported(any_certificate(provider())).with_no_client_auth()
}

/// Trusts this CA (PEM) alone, at any time: for asking what time it is.
///
/// # Errors
/// [`PkiError`] where the CA can't be used.
pub(crate) fn pinned_at_any_time(ca_pem: &str) -> Result<ClientConfig, PkiError> {
    let mut roots = RootCertStore::empty();
    let unusable = |why: String| PkiError::Decode { what: "CA certificate", why };
    roots.add(certificate_der(ca_pem)?).map_err(|e| unusable(e.to_string()))?;
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| unusable(e.to_string()))?;
    let builder = supported(ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions());
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AtItsOwnTime(inner))).with_no_client_auth())
}

fn supported<T>(builder: Result<T, rustls::Error>) -> T {
    match builder {
        Ok(builder) => builder,
        // The provider is ring's, which has the cipher suites of TLS 1.2 and 1.3; rustls refuses only ones that lack them.
        Err(e) => unreachable!("ring supports no TLS version: {e}"),
    }
}

/// Checks everything but the time: the clock read is the certificate's own start of validity.
#[derive(Debug)]
struct AtItsOwnTime(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AtItsOwnTime {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let bad = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let start = Certificate::from_der(end_entity).map_err(bad)?.not_before;
        let start = UnixTime::since_unix_epoch(start.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.0.verify_server_cert(end_entity, intermediates, name, ocsp, start)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Certificate and key as rustls uses them.
///
/// # Errors
/// [`PkiError`] where one of the two can't be used.
pub fn certified_key(certificate_pem: &str, key_pem: &str) -> Result<CertifiedKey, PkiError> {
    let chain = certificates_der(certificate_pem)?;
    let key = private_key_der(key_pem)?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|e| PkiError::Decode { what: "private key", why: e.to_string() })?;
    Ok(CertifiedKey::new(chain, key))
}

/// A server's certificate that can be replaced between two handshakes.
pub struct HotCertificate(RwLock<Arc<CertifiedKey>>);

impl HotCertificate {
    /// Starts with this one.
    pub fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(HotCertificate(RwLock::new(Arc::new(key))))
    }

    /// Handshakes from now on get this one.
    pub fn replace(&self, key: CertifiedKey) {
        // The lock guards one pointer, which is whole even if a writer panicked.
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(key);
    }
}

impl fmt::Debug for HotCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HotCertificate")
    }
}

impl ResolvesServerCert for HotCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }
}
