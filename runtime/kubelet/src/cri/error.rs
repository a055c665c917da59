//! Why a call of the runtime failed.

use std::time::Duration;

use kiln_grpc::{CallError, Code};

/// A call of the runtime that failed. The text is what upstream's events and statuses show.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CriError {
    /// The runtime's socket does not answer, or its connection broke. Worth a retry once the runtime is back; what was asked
    /// may have happened.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unavailable(String),
    /// The runtime refused or failed, in its own words.
    #[error("rpc error: code = {code} desc = {message}")]
    Refused {
        /// The kind of failure.
        code: Code,
        /// The runtime's words.
        message: String,
    },
    /// No answer came within this time.
    #[error("rpc error: code = DeadlineExceeded desc = context deadline exceeded")]
    Timeout(Duration),
}

impl CriError {
    /// What was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NOT_FOUND, .. })
    }

    /// The runtime does not have this call.
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused { code: Code::UNIMPLEMENTED, .. })
    }

    /// The runtime is not there.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The call, or a command that the runtime ran for it, took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Refused { code: Code::DEADLINE_EXCEEDED, .. })
    }

    /// What went wrong, without gRPC's wrapping.
    pub fn message(&self) -> String {
        match self {
            Self::Unavailable(message) | Self::Refused { message, .. } => message.clone(),
            Self::Timeout(_) => "context deadline exceeded".to_owned(),
        }
    }
}

impl From<CallError> for CriError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreached(why) | CallError::Broken(why) => Self::Unavailable(why),
            CallError::Refused { code, message } => Self::Refused { code, message },
        }
    }
}
