//! Why a request did not get what it asked for.

use kiln_apimachinery::{Reason, Status};

/// A request that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The server answered with a refusal, in its own words.
    #[error("{0}")]
    Api(Box<Status>),
    /// The server could not be reached, or the connection broke. Worth a retry.
    #[error("cannot reach {server}: {why}")]
    Connect {
        /// Where the request went.
        server: String,
        /// What the network or TLS said.
        why: String,
    },
    /// No answer came in time. Worth a retry.
    #[error("no answer to {request} in time")]
    Timeout {
        /// Method and path.
        request: String,
    },
    /// The answer is not what the API sends there.
    #[error("cannot read the answer to {request}: {why}")]
    Decode {
        /// Method and path.
        request: String,
        /// Why not.
        why: String,
    },
    /// The request could not be made: a value that is no JSON, or a path that is no URI.
    #[error("cannot make the request {request}: {why}")]
    Request {
        /// Method and path.
        request: String,
        /// Why not.
        why: String,
    },
    /// A server address, certificate, key or kubeconfig that cannot be used; the text names it.
    #[error("{0}")]
    Config(String),
}

impl ClientError {
    /// The server's refusal, if it is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    fn is(&self, reason: Reason) -> bool {
        self.status().is_some_and(|status| status.is(reason))
    }

    /// The object is not there.
    pub fn is_not_found(&self) -> bool {
        self.is(Reason::NotFound)
    }

    /// A create met an object of that name.
    pub fn is_already_exists(&self) -> bool {
        self.is(Reason::AlreadyExists)
    }

    /// The object was changed meanwhile: read it again.
    pub fn is_conflict(&self) -> bool {
        self.is(Reason::Conflict)
    }

    /// The revision is no longer kept: list anew.
    pub fn is_expired(&self) -> bool {
        self.status().is_some_and(|status| status.code == Reason::Expired.code())
    }

    /// The same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Api(status) => status.code == Reason::TooManyRequests.code() || status.code >= 500,
            Self::Connect { .. } | Self::Timeout { .. } => true,
            Self::Decode { .. } | Self::Request { .. } | Self::Config(_) => false,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Api(Box::new(status))
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
