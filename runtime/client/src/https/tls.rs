//! What TLS believes and shows.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Auth, Trust};
use crate::error::ClientError;

/// Believes the given CA alone.
fn only(ca_pem: &str) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the CA certificate", ca_pem)? {
        roots.add(certificate).map_err(|error| ClientError::Config(format!("the CA certificate: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Config(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots))
}

/// A configuration that believes what it is told to, or else the given CA alone.
pub(super) fn config(trust: Option<Trust>, ca_pem: &str, auth: &Auth) -> Result<Arc<ClientConfig>, ClientError> {
    let builder = trust.map_or_else(|| only(ca_pem), |trust| Ok(trust.0))?;
    let mut config = match auth {
        Auth::Certificate { certificate_pem, key_pem } => {
            let chain = certificates("the client certificate", certificate_pem)?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|error| ClientError::Config(format!("the client key: {error}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| ClientError::Config(format!("the client certificate and key: {error}")))?
        }
        Auth::Anonymous | Auth::Bearer(_) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| ClientError::Config(format!("{what}: {error}")))?;
    if found.is_empty() {
        return Err(ClientError::Config(format!("{what}: there is no PEM certificate in it")));
    }
    Ok(found)
}
