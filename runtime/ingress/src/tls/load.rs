//! Certificates out of Secrets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The name in the default certificate.
const DEFAULT_NAME: &str = "ingress.kiln.local";

/// Why a Secret is no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// It lacks one of its two parts.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A part is no PEM.
    #[error("{0} can't be read: {1}")]
    Pem(&'static str, rustls_pki_types::pem::Error),
    /// The certificate is none.
    #[error("tls.crt can't be read: {0}")]
    Certificate(String),
    /// The two parts are not of each other.
    #[error("tls.key is not the key of tls.crt")]
    Mismatch,
    /// The key is of no kind that TLS here knows.
    #[error("tls.key can't be used: {0}")]
    Key(rustls::Error),
    /// The default certificate can't be made.
    #[error("making the default certificate: {0}")]
    Make(rcgen::Error),
}

/// A certificate, and the names that it is for.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) names: Arc<[String]>,
}

/// Reads a Secret.
///
/// # Errors
/// If it holds no certificate with its key.
pub(crate) fn load(secret: &Secret, provider: &CryptoProvider) -> Result<Loaded, CertificateError> {
    let part = |name: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name)).map(|data| data.0.as_slice());
        data.filter(|data| !data.is_empty()).ok_or(CertificateError::Missing(name))
    };
    let (certificate, key) = (part(CERTIFICATE)?, part(KEY)?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| CertificateError::Pem(CERTIFICATE, error))?;
    let first = chain.first().ok_or(CertificateError::Missing(CERTIFICATE))?;
    let names = names(first)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CertificateError::Pem(KEY, error))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
        error => CertificateError::Key(error),
    })?;
    Ok(Loaded { key: Arc::new(key), names: names.into() })
}

/// The DNS names of a certificate.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, CertificateError> {
    let wrong = |error: String| CertificateError::Certificate(error);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| wrong(error.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|error| wrong(error.to_string()))?;
    let names = names.into_iter().flat_map(|extension| &extension.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(dns.collect())
}

/// The certificate that is shown where no other fits.
pub(super) fn self_signed(provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, CertificateError> {
    let made = rcgen::generate_simple_self_signed([DEFAULT_NAME.to_owned()]).map_err(CertificateError::Make)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certified = CertifiedKey::from_der(vec![made.cert.der().clone()], key, provider);
    certified.map(Arc::new).map_err(CertificateError::Key)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(certificate: &str, key: &str) -> Secret {
        let data =
            [(CERTIFICATE, certificate), (KEY, key)].map(|(name, text)| (name.to_owned(), ByteString(text.into())));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn a_secret_is_read_with_its_names_and_a_wrong_one_says_what_is_wrong() {
        let provider = rustls::crypto::ring::default_provider();
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned(), format!("*.{name}")]).unwrap();
        let (a, b) = (made("a.com"), made("b.com"));
        let (certificate, key) = (a.cert.pem(), a.signing_key.serialize_pem());
        let loaded = load(&secret(&certificate, &key), &provider).unwrap();
        assert_eq!(*loaded.names, ["a.com", "*.a.com"]);
        for (certificate, key, expected) in [
            ("", key.as_str(), "it has no tls.crt"),
            (&certificate, "", "it has no tls.key"),
            ("no PEM", &key, "it has no tls.crt"),
            (&certificate, "no PEM", "tls.key can't be read"),
            (&certificate, &b.signing_key.serialize_pem(), "tls.key is not the key of tls.crt"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, "tls.crt can't be read"),
        ] {
            let error = load(&secret(certificate, key), &provider).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }
}
