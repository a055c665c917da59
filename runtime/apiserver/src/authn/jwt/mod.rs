//! JSON web tokens in compact form: reading, checking and signing. In flows a text and keys, out flow claims whose signature
//! is good; what the claims mean is for [`super::accounts`] and [`super::oidc`] to say.

pub(crate) mod keys;
pub(crate) mod signer;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use keys::{Algorithm, Key};

/// How far the clocks of issuer and server may be apart, in seconds.
pub(crate) const LEEWAY: i64 = 60;
/// How far ahead of the clock a token of this cluster may have been made, in seconds: a day. Only the cluster's own servers sign
/// such tokens, so one of the future says that the clock has been put back, and all pods would be locked out till it caught up.
const PUT_BACK: i64 = 24 * 60 * 60;

/// A token that was taken apart, its signature not checked.
pub(crate) struct Unverified<'a> {
    header: Map<String, Value>,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart; `None` for any other text.
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let map = |text: &str| serde_json::from_slice::<Map<String, Value>>(&bytes(text)?).ok();
        Some(Self { header: map(header)?, claims: Claims(map(claims)?), signed, signature: bytes(signature)? })
    }

    /// The claims, which may be anybody's.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The id of the key that is said to have signed it; empty if none is named.
    pub(crate) fn key_id(&self) -> &str {
        self.header.get("kid").and_then(Value::as_str).unwrap_or_default()
    }

    /// How it is said to be signed.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_name(self.header.get("alg").and_then(Value::as_str)?)
    }

    /// True if this key signed it.
    pub(crate) fn is_signed_by(&self, key: &Key) -> bool {
        // Extensions that must be understood are none that are known here.
        !self.header.contains_key("crit")
            && self.algorithm().is_some_and(|a| key.verifies(a, self.signed.as_bytes(), &self.signature))
    }

    /// The claims, once the signature has been found good.
    pub(crate) fn into_claims(self) -> Claims {
        self.claims
    }
}

/// What a token says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(pub(crate) Map<String, Value>);

/// Why a token does not hold at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeError {
    Expired,
    NotYet,
    IssuedInFuture,
}

impl Claims {
    /// The text of a claim; empty if it is absent or none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The audiences: one text or a list.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.0.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The seconds of a time.
    pub(crate) fn seconds(&self, name: &str) -> Option<i64> {
        let value = self.0.get(name)?;
        // Fractions are allowed; as in Kubernetes they count for nothing.
        value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))
    }

    /// Whether a token of this cluster holds at `now`: to the end with [`LEEWAY`], and from [`PUT_BACK`] before it was made.
    pub(crate) fn check_times(&self, now: Timestamp) -> Result<(), TimeError> {
        let now = now.as_second();
        let at = |name: &str| self.seconds(name).filter(|s| *s != 0);
        match () {
            () if at("nbf").is_some_and(|t| now.saturating_add(PUT_BACK) < t) => Err(TimeError::NotYet),
            () if at("exp").is_some_and(|t| now.saturating_sub(LEEWAY) > t) => Err(TimeError::Expired),
            () if at("iat").is_some_and(|t| now.saturating_add(PUT_BACK) < t) => Err(TimeError::IssuedInFuture),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::signer::Signer;
    use super::*;

    fn claims(value: Value) -> Claims {
        Claims(value.as_object().unwrap().clone())
    }

    #[test]
    fn a_signed_token_is_read_back_and_a_changed_one_is_not_its_signers() {
        let signer = Signer::generate().unwrap();
        let token = signer.sign(&serde_json::json!({"iss": "i", "aud": "a"})).unwrap();
        let read = Unverified::parse(&token).unwrap();
        assert!(read.is_signed_by(signer.public()));
        assert_eq!(read.key_id(), signer.public().id);
        assert_eq!(read.claims().audiences(), ["a"]);
        assert!(!read.is_signed_by(Signer::generate().unwrap().public()));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"iss":"j"}"#));
        assert!(!Unverified::parse(&forged).unwrap().is_signed_by(signer.public()));
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode("{}"));
        assert!(!Unverified::parse(&unsigned).unwrap().is_signed_by(signer.public()));
        assert!(Unverified::parse("a.b").is_none() && Unverified::parse("a.b.c.d").is_none());
    }

    #[test]
    fn an_end_has_a_minute_of_leeway_and_a_start_a_day() {
        const DAY: i64 = 86_400;
        let now = Timestamp::from_second(1000).unwrap();
        let check = |value: Value| claims(value).check_times(now);
        assert_eq!(check(serde_json::json!({"exp": 940, "nbf": DAY + 1000, "iat": DAY + 1000})), Ok(()));
        assert_eq!(check(serde_json::json!({"exp": 939})), Err(TimeError::Expired));
        assert_eq!(check(serde_json::json!({"nbf": DAY + 1001})), Err(TimeError::NotYet));
        assert_eq!(check(serde_json::json!({"iat": DAY + 1001})), Err(TimeError::IssuedInFuture));
    }
}
