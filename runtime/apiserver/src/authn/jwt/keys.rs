//! Public keys, out of PEM files and JSON web key sets, and what they verify.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The signatures that are understood, by their names in RFC 7518.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::upper_case_acronyms, reason = "the names are the RFC's")]
pub(crate) enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// All of them with their names.
    const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

/// Curves of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    Ed25519,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// For P-256 and P-384 uncompressed, with the leading 4.
    Point(Curve, Vec<u8>),
}

/// A public key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Its id in tokens and key sets; may be empty in others' sets.
    pub(crate) id: String,
    material: Material,
}

/// The DER before a P-256 point in a SubjectPublicKeyInfo.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The id that Kubernetes gives a key: the hash of its SubjectPublicKeyInfo.
fn id_of(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(spki))
}

fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|b| *b == 0).collect()
}

impl Key {
    /// A key out of an uncompressed P-256 point.
    pub(crate) fn p256(point: &[u8]) -> Self {
        let id = id_of(&[&P256_SPKI, point].concat());
        Self { id, material: Material::Point(Curve::P256, point.to_vec()) }
    }

    /// A key out of the DER of a SubjectPublicKeyInfo; `None` for kinds that are not understood.
    pub(crate) fn from_spki(der: &[u8]) -> Option<Self> {
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let material = match spki.parsed().ok()? {
            PublicKey::RSA(rsa) => Material::Rsa { n: without_zeros(rsa.modulus), e: without_zeros(rsa.exponent) },
            PublicKey::EC(point) => match point.data().len() {
                65 => Material::Point(Curve::P256, point.data().to_vec()),
                97 => Material::Point(Curve::P384, point.data().to_vec()),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { id: id_of(der), material })
    }

    /// A key out of a JSON web key; `None` for one that signs nothing or is not understood.
    pub(crate) fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if text("use").is_some_and(|u| u != "sig") {
            return None;
        }
        let point = |curve, size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == size && y.len() == size).then(|| Material::Point(curve, [&[4], &x[..], &y[..]].concat()))
        };
        let material = match (text("kty")?, text("crv").unwrap_or_default()) {
            ("RSA", _) => Material::Rsa { n: without_zeros(&bytes("n")?), e: without_zeros(&bytes("e")?) },
            ("EC", "P-256") => point(Curve::P256, 32)?,
            ("EC", "P-384") => point(Curve::P384, 48)?,
            ("OKP", "Ed25519") => Material::Point(Curve::Ed25519, bytes("x")?),
            _ => return None,
        };
        Some(Self { id: text("kid").unwrap_or_default().to_owned(), material })
    }

    /// All keys of a set that are understood.
    pub(crate) fn set(jwks: &Value) -> Vec<Self> {
        let keys = jwks.get("keys").and_then(Value::as_array);
        keys.into_iter().flatten().filter_map(Self::from_jwk).collect()
    }

    /// The key as a JSON web key.
    pub(crate) fn to_jwk(&self) -> Value {
        let encode = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        let mut jwk = Map::new();
        jwk.insert("use".into(), "sig".into());
        jwk.insert("kid".into(), self.id.clone().into());
        jwk.insert("alg".into(), self.signs_with().into());
        match &self.material {
            Material::Rsa { n, e } => {
                jwk.extend([("kty".into(), "RSA".into()), ("n".into(), encode(n)), ("e".into(), encode(e))]);
            }
            Material::Point(Curve::Ed25519, x) => {
                jwk.extend([("kty".into(), "OKP".into()), ("crv".into(), "Ed25519".into()), ("x".into(), encode(x))]);
            }
            Material::Point(curve, point) => {
                let name = if *curve == Curve::P256 { "P-256" } else { "P-384" };
                let (x, y) = point[1..].split_at(point.len() / 2);
                jwk.extend([("kty".into(), "EC".into()), ("crv".into(), name.into())]);
                jwk.extend([("x".into(), encode(x)), ("y".into(), encode(y))]);
            }
        }
        json!(jwk)
    }

    /// The algorithm that Kubernetes signs with if it has the key's other half.
    pub(crate) fn signs_with(&self) -> &'static str {
        match &self.material {
            Material::Rsa { .. } => "RS256",
            Material::Point(Curve::P256, _) => "ES256",
            Material::Point(Curve::P384, _) => "ES384",
            Material::Point(Curve::Ed25519, _) => "EdDSA",
        }
    }

    /// True if the signature is this key's.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let by_point = |point: &[u8], algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, algorithm) => algorithm.rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            (Material::Point(Curve::P256, point), Algorithm::ES256) => {
                by_point(point, &signature::ECDSA_P256_SHA256_FIXED)
            }
            (Material::Point(Curve::P384, point), Algorithm::ES384) => {
                by_point(point, &signature::ECDSA_P384_SHA384_FIXED)
            }
            (Material::Point(Curve::Ed25519, point), Algorithm::EdDSA) => by_point(point, &signature::ED25519),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::signer::Signer;
    use super::*;

    /// The example of RFC 7515, appendix A.2.
    #[test]
    fn an_rsa_signature_is_verified_by_its_key_only() {
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-\
                 SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UT\
                 o7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM\
                 Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
                     c19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5Y\
                     Kt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHl\
                     b1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI\
                     8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let key = Key::from_jwk(&json!({"kty": "RSA", "n": n, "e": "AQAB"})).unwrap();
        assert_eq!(key.signs_with(), "RS256");
        let read = super::super::Unverified::parse(token).unwrap();
        assert!(read.is_signed_by(&key));
        assert!(!read.is_signed_by(Signer::generate().unwrap().public()));
        assert_eq!(read.claims().text("iss"), "joe");
    }

    #[test]
    fn a_key_survives_the_way_through_a_key_set() {
        let key = Signer::generate().unwrap().public().clone();
        let jwk = key.to_jwk();
        assert_eq!((&jwk["kty"], &jwk["crv"], &jwk["alg"]), (&json!("EC"), &json!("P-256"), &json!("ES256")));
        let back = Key::set(&json!({"keys": [jwk, {"kty": "oct"}]}));
        assert_eq!(back.len(), 1);
        assert_eq!(back[0].to_jwk(), jwk);
    }
}
