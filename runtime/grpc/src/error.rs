//! Why a call failed.

use std::fmt;

/// A call that got no answer, or a refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// There was no connection; nothing was asked.
    #[error("{0}")]
    Unreached(String),
    /// The connection ended, or the server is unavailable: what was asked may have happened or not.
    #[error("{0}")]
    Broken(String),
    /// The server's answer is no.
    #[error("rpc error: code = {code} desc = {message}")]
    Refused {
        /// The kind of refusal.
        code: Code,
        /// The server's words.
        message: String,
    },
}

impl CallError {
    /// Whether the server refused with this code.
    pub fn is(&self, wanted: Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }
}

/// A status code of gRPC. It is shown by the name that gRPC's Go library gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// It succeeded.
    pub const OK: Self = Self(0);
    /// An error without a code of its own.
    pub const UNKNOWN: Self = Self(2);
    /// It took too long.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// What was asked for is not there.
    pub const NOT_FOUND: Self = Self(5);
    /// Something is used up, or a message is too long.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// A number is outside of what is there.
    pub const OUT_OF_RANGE: Self = Self(11);
    /// The server does not have the call.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// The server can't serve now.
    pub const UNAVAILABLE: Self = Self(14);
}

const NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({})", self.0),
        }
    }
}
