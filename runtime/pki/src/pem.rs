//! PEM in and out, and the hash that pins a CA.

use base64::Engine as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

use crate::PkiError;
use crate::secret::hex;

/// SHA-256 of a certificate's DER, 64 lower-case hex digits: what a join token and an mDNS advert carry.
pub fn ca_hash(der: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, der).as_ref())
}

/// The first certificate of a PEM text, as DER.
///
/// # Errors
/// [`PkiError::Pem`] where there is none.
pub fn certificate_der(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| PkiError::Pem("CERTIFICATE"))
}

/// All certificates of a PEM text, as DER, in order.
///
/// # Errors
/// [`PkiError::Pem`] where there is none, or one is damaged.
pub fn certificates_der(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok().filter(|c| !c.is_empty()).ok_or(PkiError::Pem("CERTIFICATE"))
}

/// The private key of a PEM text (PKCS#8, PKCS#1 or SEC1), as DER.
///
/// # Errors
/// [`PkiError::Pem`] where there is none.
pub fn private_key_der(pem: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| PkiError::Pem("PRIVATE KEY"))
}

/// The certificate request of a PEM text, as DER.
pub(crate) fn request_der(pem: &str) -> Result<CertificateSigningRequestDer<'static>, PkiError> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| PkiError::Pem("CERTIFICATE REQUEST"))
}

/// DER as a PEM block with lines of 64 characters, as RFC 7468 wants them.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
