//! What can go wrong in PID 1, worded for someone in front of a console or with the card in a laptop.

use std::io;
use std::path::{Path, PathBuf};

/// A failed duty of PID 1. `Display` says what and why; [`Error::help`] says what a person can do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A system call or file operation on a path failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The verb: "mount", "open", ...
        what: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A helper program could not do its work.
    #[error("{program} failed ({status}): {output}")]
    Command {
        /// The program's path.
        program: String,
        /// Its exit status, in words.
        status: String,
        /// The last lines that it printed.
        output: String,
    },
    /// Bytes on a disk or in a file are not what they must be.
    #[error("{what}: {why}")]
    Malformed {
        /// Where the bytes came from.
        what: String,
        /// What is wrong with them.
        why: String,
    },
    /// Something that must exist (a disk, a partition, a kernel parameter) is not there.
    #[error("{what}")]
    Missing {
        /// What is missing.
        what: String,
        /// What a person can do about it.
        help: &'static str,
    },
    /// `node.toml` is wrong; the text holds line and column.
    #[error("{0}")]
    Config(String),
    /// A bug: a phase panicked. The message is the panic's.
    #[error("internal error: {0}")]
    Panic(String),
}

impl Error {
    /// An [`Error::Io`] for a `std::io` operation.
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { what, path: path.as_ref().to_path_buf(), source }
    }

    /// An [`Error::Io`] for a system call through nix.
    pub(crate) fn sys(what: &'static str, path: impl AsRef<Path>, errno: nix::Error) -> Self {
        Self::io(what, path, io::Error::from_raw_os_error(errno as i32))
    }

    /// An [`Error::Malformed`].
    pub(crate) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), why: why.into() }
    }

    /// What a person can do; one or two sentences for `join-status.txt`.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => match source.raw_os_error() {
                Some(libc::EIO) => {
                    "The medium gives read or write errors, or its content was changed. Flash the card anew; if that does not help, replace it."
                }
                Some(libc::ENOSPC) => "The medium is full. Remove files from it, or use a larger one.",
                Some(libc::EROFS) => "The medium is write-protected. Check the card's lock switch.",
                Some(libc::ENODEV) => {
                    "The kernel lacks a driver or file system for this. Rebuild the image for this board."
                }
                _ => "Check the medium and the image; the board tries again by itself.",
            },
            Self::Command { .. } => {
                "Read the program's message above. If the STATE partition is damaged beyond repair, flash the card anew: the board keeps its name."
            }
            Self::Malformed { .. } => "The image on the medium is damaged. Flash it anew.",
            Self::Missing { help, .. } => help,
            Self::Config(_) => {
                "Put the card into a computer, correct node.toml on the CONFIG partition, and boot again."
            }
            Self::Panic(_) => {
                "This is a bug in Kiln; please report it with this text. The board tries again by itself."
            }
        }
    }
}

/// The crate's result.
pub(crate) type Result<T> = std::result::Result<T, Error>;
