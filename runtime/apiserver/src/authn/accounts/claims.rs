//! The claims under `kubernetes.io`: whose token it is, and what it is bound to.

use kiln_apimachinery::{Status, meta, random};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::authn::jwt::Claims;

/// An object that a token names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

impl Named {
    /// The name and uid of an object.
    pub(crate) fn of(object: &Value) -> Self {
        Self { name: meta::name(object).into(), uid: meta::uid(object).into() }
    }
}

/// What a token stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Named>,
    #[serde(rename = "serviceaccount")]
    pub(crate) service_account: Named,
    /// When a pod's token should have been renewed, in seconds.
    #[serde(rename = "warnafter", default, skip_serializing_if = "Option::is_none")]
    pub(crate) warn_after: Option<i64>,
}

impl Bound {
    /// Reads the claim; `None` if it is not there or of another form.
    pub(crate) fn read(claims: &Claims) -> Option<Self> {
        let bound: Self = serde_json::from_value(claims.0.get("kubernetes.io")?.clone()).ok()?;
        Some(bound).filter(|b| !b.namespace.is_empty() && !b.service_account.name.is_empty())
    }
}

/// A token's times, in seconds.
pub(crate) struct Times {
    pub(crate) now: i64,
    pub(crate) expires: i64,
}

/// The claims of a new token, and its id.
pub(crate) fn new(issuer: &str, audiences: &[String], bound: &Bound, times: &Times) -> Result<(Value, String), Status> {
    let id = random::uid().map_err(Status::internal)?;
    let subject = format!("{}{}:{}", super::USER_PREFIX, bound.namespace, bound.service_account.name);
    let claims = json!({
        "aud": audiences, "exp": times.expires, "iat": times.now, "iss": issuer, "jti": id,
        "kubernetes.io": bound, "nbf": times.now, "sub": subject,
    });
    Ok((claims, id))
}
