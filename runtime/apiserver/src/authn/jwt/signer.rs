//! The private key that signs this cluster's tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::keys::Key;

/// A key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text holds no PEM block of the wanted kind.
    #[error("no PEM block `{0}` in the text; give the whole file with its BEGIN and END lines")]
    Pem(&'static str),
    /// The key is none that tokens can be signed with.
    #[error("the key that signs service account tokens must be an ECDSA key on P-256 in PKCS#8: {0}")]
    Kind(String),
    /// The system gave no randomness, or the key did not sign.
    #[error("signing with the key of service account tokens failed")]
    Sign,
}

/// Signs with ES256.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
    public: Key,
    random: SystemRandom,
}

impl Signer {
    /// The signer of a PKCS#8 key in PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let blocks = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes());
        let key = blocks.filter_map(Result::ok).find(|p| p.label == "PRIVATE KEY");
        Self::from_pkcs8(&key.ok_or(KeyError::Pem("PRIVATE KEY"))?.contents)
    }

    /// A new key that is gone with the process: for tests, and for a server that nobody gave one.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(pkcs8.map_err(|_| KeyError::Sign)?.as_ref())
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|e| KeyError::Kind(e.to_string()))?;
        let public = Key::p256(pair.public_key().as_ref());
        Ok(Self { pair, public, random })
    }

    /// The key's other half.
    pub(crate) fn public(&self) -> &Key {
        &self.public
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": self.public.signs_with(), "kid": self.public.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&self.random, signed.as_bytes()).map_err(|_| KeyError::Sign)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
