//! What can go wrong with packages, and the class that the command line turns into an exit code.

use std::{io, path::PathBuf};

use super::{Change, Skipped, Unsatisfied};

/// A coarse kind of [`Error`], for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An input file or argument is wrong: lock, wanted list, apt sources.
    BadInput,
    /// A mirror is unreachable, or lacks what its index promises.
    Network,
    /// A signature, hash, size, date or lock did not hold.
    Verification,
    /// Reading or writing on this machine failed, a full disk included.
    Io,
}

/// Everything that can go wrong with packages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a mirror was given nor do the host's apt sources name one.
    #[error(
        "no Debian mirror: {looked_at} names none whose path ends in /debian; give one with --mirror or KILN_MIRROR"
    )]
    NoMirror {
        /// Where was looked.
        looked_at: String,
    },
    /// The given mirror is not a URL that can be used.
    #[error("mirror `{url}` is not an http, https or file URL")]
    BadMirror {
        /// The URL as given.
        url: String,
    },
    /// The keys do not parse.
    #[error("cannot read the archive keys: {reason}")]
    Keyring {
        /// What the OpenPGP parser said.
        reason: String,
    },
    /// An `InRelease` carries no valid signature of a trusted key. Never ignored: the mirror, or someone on the way,
    /// sent something that Debian did not sign.
    #[error("{url}: not signed by a Debian archive key: {reason}; use another mirror")]
    Signature {
        /// Where the index came from.
        url: String,
        /// Why each signature was refused.
        reason: String,
    },
    /// An `InRelease` is past its `Valid-Until`: the mirror stopped being updated, or an old index is being replayed.
    #[error(
        "{url}: the index expired on {valid_until}; use a mirror that is up to date, and check this machine's clock"
    )]
    Expired {
        /// Where the index came from.
        url: String,
        /// The index's own field.
        valid_until: String,
    },
    /// An `InRelease` is dated later than this machine's clock allows for.
    #[error("{url}: the index is dated {date}, which is in the future; check this machine's clock")]
    FromTheFuture {
        /// Where the index came from.
        url: String,
        /// The index's own field.
        date: String,
    },
    /// An `InRelease` is older than one that was verified before. Suites without a `Valid-Until` never expire, so this is
    /// what shows a mirror that hides newer packages.
    #[error(
        "{url}: the index is dated {date}, and one of {seen} was seen before: the mirror is behind, or hides newer packages; \
         use another mirror, or delete {known} to start over", known = .known.display()
    )]
    Rollback {
        /// Where the index came from.
        url: String,
        /// The index's own date.
        date: String,
        /// The date of the one seen before.
        seen: String,
        /// That one, in the cache.
        known: PathBuf,
    },
    /// An `InRelease` is properly signed, but for another suite.
    #[error("{url}: asked for suite `{wanted}`, the mirror answered with `{got}`")]
    WrongSuite {
        /// Where the index came from.
        url: String,
        /// Suite asked for.
        wanted: String,
        /// Suite and codename found.
        got: String,
    },
    /// An index, `.deb` or control file does not have the form it must have.
    #[error("{what}: {reason}")]
    Malformed {
        /// URL or path.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The sources of one resolution are for more than one architecture.
    #[error("the sources are for several architectures ({architectures}); resolve each on its own")]
    MixedArchitectures {
        /// The architectures, separated by commas.
        architectures: String,
    },
    /// None of the sources could be used.
    #[error("no package index could be used:{}", list_skipped(.skipped))]
    NoIndex {
        /// Each source and its reason.
        skipped: Vec<Skipped>,
    },
    /// Something wanted, or something that it needs, cannot be had.
    #[error("cannot resolve the package list:{}{}", list(.problems), list_skipped(.skipped))]
    Unsatisfied {
        /// What, and for whom.
        problems: Vec<Unsatisfied>,
        /// Sources that were left out, a likely cause.
        skipped: Vec<Skipped>,
    },
    /// A download is not what the index or lock says.
    #[error(
        "{what}: {url}: expected {expected}, got {got}; the mirror is out of sync or the file was changed on the way"
    )]
    Mismatch {
        /// Package or index.
        what: String,
        /// Where it came from.
        url: String,
        /// Size or SHA-256 that was to be.
        expected: String,
        /// Size or SHA-256 that was.
        got: String,
    },
    /// A server could not be reached or refused.
    #[error("{what}: {url}: {reason}")]
    Download {
        /// Package or index.
        what: String,
        /// Where it should have come from.
        url: String,
        /// What the transport said.
        reason: String,
        /// Whether the server said that there is no such file.
        missing: bool,
    },
    /// Offline, and not in the cache.
    #[error("not in the cache, and --offline forbids downloads: {what}")]
    Offline {
        /// Package or index.
        what: String,
    },
    /// A `.deb` ends early.
    #[error("{path}: truncated package: {reason}; delete it and build again to fetch it anew", path = .path.display())]
    Truncated {
        /// The `.deb`.
        path: PathBuf,
        /// Which part lacks how much.
        reason: String,
    },
    /// A `.deb` is damaged or holds what a Debian package may not.
    #[error("{path}: {reason}", path = .path.display())]
    BadDeb {
        /// The `.deb`.
        path: PathBuf,
        /// What is wrong, with the member's path.
        reason: String,
    },
    /// The lock file does not parse.
    #[error("{path}: {reason}", path = .path.display())]
    BadLock {
        /// The lock file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// `--locked`, and the lock does not say what the indices say.
    #[error("{section}: the lock would change:{}\nrun `imager update-lock` to accept this", list(.changes))]
    Drift {
        /// Section of the lock, e.g. a board's name.
        section: String,
        /// Every difference.
        changes: Vec<Change>,
    },
    /// Reading or writing on this machine failed.
    #[error("{action} {path}: {source}", path = .path.display())]
    Io {
        /// What was being done, e.g. `write`.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// The class that the exit code is chosen by.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NoMirror { .. }
            | Self::BadMirror { .. }
            | Self::BadLock { .. }
            | Self::MixedArchitectures { .. }
            | Self::Unsatisfied { .. } => Class::BadInput,
            Self::Download { .. } | Self::Offline { .. } | Self::NoIndex { .. } => Class::Network,
            Self::Keyring { .. }
            | Self::Signature { .. }
            | Self::Expired { .. }
            | Self::FromTheFuture { .. }
            | Self::Rollback { .. }
            | Self::WrongSuite { .. }
            | Self::Malformed { .. }
            | Self::Mismatch { .. }
            | Self::Truncated { .. }
            | Self::BadDeb { .. }
            | Self::Drift { .. } => Class::Verification,
            Self::Io { .. } => Class::Io,
        }
    }

    /// Wraps an I/O error with what was being done to which path.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

fn list_skipped(skipped: &[Skipped]) -> String {
    skipped.iter().map(|s| format!("\n  source left out: {}: {}", s.source, s.reason)).collect()
}
