//! Why there is no certificate.

use std::fmt;
use std::time::Duration;

use kiln_client::ClientError;
use kiln_pki::PkiError;
use serde::Deserialize;

/// What the names of ACME's own kinds of problems begin with.
const KINDS: &str = "urn:ietf:params:acme:error:";

/// A certificate that did not come.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The account's key is none of ECDSA P-256. Without the Secret that holds it a new one is made.
    #[error("the ACME account's key: {0}")]
    Key(String),
    /// A key or certificate can't be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The server can't be reached, or is not who it is to be.
    #[error("the ACME server: {0}")]
    Link(#[from] ClientError),
    /// The server names a URL that is not of HTTPS.
    #[error("the ACME server: {0:?} is no https URL")]
    Url(String),
    /// The server refused a request.
    #[error("the ACME server refused: {problem}")]
    Refused {
        /// Why.
        problem: Problem,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server found no proof at a name.
    #[error("{name} could not be proven: {problem}")]
    Unproven {
        /// Which.
        name: String,
        /// What it found.
        problem: Problem,
    },
    /// The server sent something that is not of RFC 8555.
    #[error("the ACME server: what it sent for {url} can't be used: {why}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server did not come to an end.
    #[error("the ACME server did not finish {0} in time")]
    Slow(String),
    /// The server takes only accounts that are bound to one of its customers, which is not supported.
    #[error("the ACME server asks for an external account (externalAccountRequired), which is not supported")]
    ExternalAccount,
}

impl AcmeError {
    /// How long the server wants to be left alone, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a server says is wrong (RFC 7807, with the parts of RFC 8555).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Its kind, a URN.
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    subproblems: Vec<Subproblem>,
}

/// What is wrong with one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Subproblem {
    detail: String,
    identifier: Identifier,
}

/// A name as the server writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Identifier {
    pub(crate) value: String,
}

impl Problem {
    /// The problem in an answer; where there is none, what the answer is.
    pub(crate) fn read(status: http::StatusCode, body: &[u8]) -> Self {
        let read = serde_json::from_slice::<Self>(body).ok();
        let found = read.filter(|problem| !problem.kind.is_empty() || !problem.detail.is_empty());
        found.unwrap_or_else(|| Self { detail: format!("it answered {status}"), ..Self::default() })
    }

    /// Whether it is of this kind of ACME's.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(KINDS) == Some(kind)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.strip_prefix(KINDS).unwrap_or(&self.kind);
        let detail = if self.detail.is_empty() { "it did not say why" } else { &self.detail };
        f.write_str(detail)?;
        if !kind.is_empty() {
            write!(f, " ({kind})")?;
        }
        for Subproblem { detail, identifier } in &self.subproblems {
            write!(f, "; {}: {detail}", identifier.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_problem_is_told_in_the_servers_words() {
        for (body, expected) in [
            (
                r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many orders"}"#,
                "too many orders (rateLimited)",
            ),
            (
                r#"{"detail":"no","subproblems":[{"detail":"forbidden","identifier":{"type":"dns","value":"a.com"}}]}"#,
                "no; a.com: forbidden",
            ),
            ("<html>", "it answered 503 Service Unavailable"),
            ("{}", "it answered 503 Service Unavailable"),
        ] {
            let problem = Problem::read(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes());
            assert_eq!(problem.to_string(), expected);
            assert_eq!(problem.is("rateLimited"), expected.contains("rateLimited"));
        }
    }
}
