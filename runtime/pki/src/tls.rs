//! Settings of TLS: of servers that ask clients for certificates, and of clients that believe more than one CA's chains.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::server::{ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::files;

/// The CAs that this system trusts; `None` if there are none where systems keep them. What of them can't be read is passed over.
pub fn system_roots() -> Option<RootCertStore> {
    let pem = files::system_cas()?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    Some(roots)
}

/// TLS of a server can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The client CA has no usable certificate.
    #[error("client certificates can't be checked with this CA: {0}")]
    ClientCa(#[from] VerifierBuilderError),
    /// rustls refused the settings.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] Error),
}

/// The server side of TLS for HTTP/2 and HTTP/1.1: certificates out of `certificates`, which may change them at any time, and
/// client certificates optional but checked against `client_ca`.
///
/// # Errors
/// [`ServerError`].
pub fn server(
    client_ca: RootCertStore,
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(client_ca), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Settings of a client that takes any certificate, up to what it shows of itself.
///
/// Right where nobody can know the peer's certificate beforehand, and the reference asks for none either: pods that make their
/// own (probes, the ingress, the API server's proxy), a server whose CA is about to be fetched and compared with a hash, and
/// where a user says so (`insecureSkipTLSVerify`). Whoever is in between can then read and change what is sent: no secret
/// goes over such a connection that the peer may not have. That the peer holds its certificate's key is verified all the same.
///
/// # Errors
/// If the provider knows no version of TLS.
pub fn any_certificate(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))))
}

/// Takes certificates of X.509's version 1 too, which webpki can't read, but makers of certificates still make.
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = &parsed.public_key().subject_public_key.data;
        let known = self.0.signature_verification_algorithms.mapping.iter();
        // The schemes of version 1.2 name no curve: there is an algorithm for each.
        let mut algorithms = known.filter(|(scheme, _)| *scheme == signed.scheme).flat_map(|(_, of_it)| of_it.iter());
        match algorithms.any(|algorithm| algorithm.verify_signature(key, message, signed.signature()).is_ok()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|_| CertificateError::BadEncoding.into())
}
