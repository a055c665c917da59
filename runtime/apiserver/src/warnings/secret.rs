//! Secrets with a certificate and a key: whether both can be read and belong together, in the words of Go's `crypto/tls`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::meta;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

pub(super) fn check(secret: &Value, out: &mut Vec<String>) {
    if meta::text(secret, &["type"]) != "kubernetes.io/tls" {
        return;
    }
    let part = |key: &str| STANDARD.decode(meta::text(secret, &["data", key])).unwrap_or_default();
    out.extend(pair(&part("tls.crt"), &part("tls.key")).err());
}

fn blocks(text: &[u8]) -> Vec<Pem> {
    Pem::iter_from_buffer(text).filter_map(Result::ok).collect()
}

fn labels(blocks: &[Pem]) -> String {
    let labels: Vec<&str> = blocks.iter().map(|b| b.label.as_str()).collect();
    format!("[{}]", labels.join(" "))
}

/// Whether a chain of certificates and a private key are a pair.
fn pair(chain: &[u8], key: &[u8]) -> Result<(), String> {
    let (certificates, skipped): (Vec<_>, Vec<_>) = blocks(chain).into_iter().partition(|b| b.label == "CERTIFICATE");
    let Some(first) = certificates.first() else {
        return Err(match skipped.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".into(),
            [one] if one.label.ends_with("PRIVATE KEY") => "tls: failed to find certificate PEM data in certificate input, \
                                                            but did find a private key; PEM inputs may have been switched"
                .into(),
            many => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following \
                 types: {}",
                labels(many)
            ),
        });
    };
    let found = blocks(key);
    let private = found.iter().find(|b| b.label == "PRIVATE KEY" || b.label.ends_with(" PRIVATE KEY"));
    let Some(private) = private else {
        return Err(match found.as_slice() {
            [] => "tls: failed to find any PEM data in key input".into(),
            [one] if one.label == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".into()
            }
            many => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the \
                 following types: {}",
                labels(many)
            ),
        });
    };
    let (_, certificate) =
        X509Certificate::from_der(&first.contents).map_err(|_| "x509: malformed certificate".to_owned())?;
    let read = PrivateKeyDer::try_from(private.contents.as_slice());
    let read = read.map_err(|_| "tls: failed to parse private key: asn1: structure error".to_owned())?;
    // Keys that this server can't use are taken to be good.
    let Ok(usable) = any_supported_type(&read) else { return Ok(()) };
    match usable.public_key() {
        Some(public) if public.as_ref() != certificate.public_key().raw => {
            let other = SubjectPublicKeyInfo::from_der(public.as_ref());
            let same = other.is_ok_and(|(_, k)| k.algorithm.algorithm == certificate.public_key().algorithm.algorithm);
            let what = if same { "private key does not match" } else { "private key type does not match" };
            Err(format!("tls: {what} public key{}", if same { "" } else { " type" }))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_keys_that_are_no_pairs_are_told() {
        let one = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        assert_eq!(pair(chain.as_bytes(), key.as_bytes()), Ok(()));
        let why = |chain: &str, key: &str| pair(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(why("", &key), "tls: failed to find any PEM data in certificate input");
        assert_eq!(why(&chain, "x"), "tls: failed to find any PEM data in key input");
        assert!(why(&key, &chain).ends_with("PEM inputs may have been switched"));
        assert_eq!(why(&chain, &chain), "tls: found a certificate rather than a key in the PEM for the private key");
        let stranger = other.signing_key.serialize_pem();
        assert_eq!(why(&chain, &stranger), "tls: private key does not match public key");
    }
}
