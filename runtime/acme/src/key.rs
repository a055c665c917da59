//! The key of an account, and what it signs (RFC 7515, RFC 7638).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::AcmeError;

/// The bytes of a coordinate of P-256.
const COORDINATE: usize = 32;

/// An account's key: ECDSA P-256.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    /// Both coordinates, as a JWK has them.
    point: [String; 2],
}

impl AccountKey {
    /// The key of a PEM text (PKCS#8).
    ///
    /// # Errors
    /// [`AcmeError::Key`] or [`AcmeError::Pki`] where it holds none of P-256.
    pub fn from_pem(pem: &str) -> Result<Self, AcmeError> {
        let der = kiln_pki::private_key_der(pem)?;
        let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der(), &SystemRandom::new());
        let pair = read.map_err(|error| AcmeError::Key(error.to_string()))?;
        // An uncompressed point: a byte that says so, then the coordinates.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(COORDINATE);
        let point = [x, y].map(encoded);
        Ok(Self { pair, point })
    }

    /// The public key as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        let [x, y] = &self.point;
        json!({"crv": "P-256", "kty": "EC", "x": x, "y": y})
    }

    /// What a name is to answer to a token (RFC 8555, 8.1).
    pub(crate) fn authorization(&self, token: &str) -> String {
        let [x, y] = &self.point;
        // Its members are in the order of their names, as the thumbprint wants them.
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        format!("{token}.{}", encoded(digest(&SHA256, jwk.as_bytes()).as_ref()))
    }

    /// A JWS in its flattened form, by ES256.
    pub(crate) fn sign(&self, header: &Value, payload: &str) -> Result<String, AcmeError> {
        let (header, payload) = (encoded(header.to_string().as_bytes()), encoded(payload.as_bytes()));
        let signed = self.pair.sign(&SystemRandom::new(), format!("{header}.{payload}").as_bytes());
        let signature = signed.map_err(|_| AcmeError::Key("it can't sign".to_owned()))?;
        Ok(json!({"protected": header, "payload": payload, "signature": encoded(signature.as_ref())}).to_string())
    }
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountKey").finish_non_exhaustive()
    }
}

/// base64url as ACME writes bytes.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_is_signed_can_be_verified_with_the_jwk() {
        let key = AccountKey::from_pem(&kiln_pki::PrivateKey::generate().unwrap().to_pem()).unwrap();
        let jws: Value = serde_json::from_str(&key.sign(&json!({"alg": "ES256"}), "{}").unwrap()).unwrap();
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap();
        assert_eq!(part(&jws["protected"]), br#"{"alg":"ES256"}"#);
        let jwk = key.jwk();
        let point = [vec![4], part(&jwk["x"]), part(&jwk["y"])].concat();
        let signed = format!("{}.{}", jws["protected"].as_str().unwrap(), jws["payload"].as_str().unwrap());
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        assert!(public.verify(signed.as_bytes(), &part(&jws["signature"])).is_ok());
        assert!(AccountKey::from_pem("nonsense").is_err());
    }

    #[test]
    fn an_answer_is_the_token_and_the_keys_thumbprint() {
        let key = AccountKey::from_pem(&kiln_pki::PrivateKey::generate().unwrap().to_pem()).unwrap();
        // serde_json writes members in the order of their names too.
        let thumbprint = encoded(digest(&SHA256, key.jwk().to_string().as_bytes()).as_ref());
        assert_eq!(key.authorization("token"), format!("token.{thumbprint}"));
    }
}
