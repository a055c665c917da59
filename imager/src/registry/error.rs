//! What can go wrong with a registry.

use std::{io, path::PathBuf};

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is neither a file nor an image's name.
    #[error("`{text}` is neither a file here nor an image's name: {message}")]
    Reference {
        /// As given.
        text: String,
        /// What is wrong with it as a name.
        message: String,
    },
    /// The file with credentials is wrong.
    #[error("{}: {message}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The registry does not answer.
    #[error("{url}: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The registry refuses.
    #[error("{url}: the registry refuses ({status}); credentials are taken from --registry-auth")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status of HTTP.
        status: u16,
    },
    /// The registry says something that it must not.
    #[error("{url}: {message}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// There is no such image.
    #[error("there is no image {reference} at its registry")]
    Missing {
        /// The image.
        reference: String,
    },
    /// The image is not made for such machines.
    #[error("image {reference} is for {}, not for {wanted}", found.join(", "))]
    OtherMachine {
        /// The image.
        reference: String,
        /// The architecture that it should be for.
        wanted: String,
        /// Those that it is for.
        found: Vec<String>,
    },
    /// What came does not have its digest.
    #[error("{url}: expected {expected}, got {got}")]
    Digest {
        /// What was asked for.
        url: String,
        /// The digest that it was asked for by.
        expected: String,
        /// The digest of what came.
        got: String,
    },
    /// `--locked`, and the lock does not have it.
    #[error("image {reference} for {arch} is not in the lock; build once without --locked, and commit the lock")]
    Unlocked {
        /// The image.
        reference: String,
        /// The architecture.
        arch: String,
    },
    /// `--offline`, and it is not in the cache.
    #[error("image {reference} is not in the cache, and --offline forbids to fetch it")]
    Offline {
        /// The image.
        reference: String,
    },
    /// A file of the cache could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RegistryError {
    /// An error of the system about a path.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RegistryError {
        let path = path.into();
        move |source| RegistryError::Io { doing, path, source }
    }
}
