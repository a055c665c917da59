//! What can go wrong with compiling the runtime, and the class that the command line turns into an exit code.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Choice;
use crate::{packages, profile::Arch};

/// A coarse kind of [`Error`], for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An argument or the workspace is wrong.
    BadInput,
    /// The tools are missing or the compile failed.
    Build,
    /// Reading or writing on this machine failed, a full disk included.
    Io,
    /// The packages of the private toolchain; its own classes apply.
    Packages(packages::Class),
}

/// Everything that can go wrong with compiling the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cargo to compile with.
    #[error("cannot run `{program}`: {source}; install Rust (cargo), or give a finished binary with --runtime-binary")]
    NoCargo {
        /// What was tried to run.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The workspace is not one of Kiln.
    #[error("{path}: {reason}; run imager in a Kiln checkout", path = .path.display())]
    BadWorkspace {
        /// What was looked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tools that were asked for cannot compile for this architecture.
    #[error("toolchain `{choice}` cannot compile for {arch}: {reason}")]
    Unavailable {
        /// Tools asked for.
        choice: Choice,
        /// Architecture asked for.
        arch: Arch,
        /// What is missing, and how to get it.
        reason: String,
    },
    /// The private toolchain was made for other hosts.
    #[error(
        "the private toolchain does not run here: {reason}; give a finished binary with --runtime-binary, or install the Rust target and zig"
    )]
    UnsupportedHost {
        /// What does not fit.
        reason: String,
    },
    /// The given or made binary cannot be a board's `kiln`.
    #[error("{path}: {reason}", path = .path.display())]
    BadBinary {
        /// The binary.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The compile failed.
    #[error("compiling kiln for {arch} failed ({status}):\n{output}\n  to repeat it: sh {script}", script = .script.display())]
    Compile {
        /// For which architecture.
        arch: Arch,
        /// How the command ended.
        status: String,
        /// A script that runs the same command in the same environment.
        script: PathBuf,
        /// The last lines of its stderr, indented.
        output: String,
    },
    /// The disk that holds the cache is full.
    #[error("no space left on the disk of {path}: the toolchain and its build need about 2.5 GB; free some, or move the cache with --cache", path = .path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// `--locked`, and the lock has no pins for the private toolchain, or pins for another list of packages.
    #[error("imager.lock does not pin the toolchain's section `{section}`; run `imager update-lock`")]
    NotLocked {
        /// The section.
        section: String,
    },
    /// The packages of the private toolchain cannot be had.
    #[error(transparent)]
    Packages(packages::Error),
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

impl From<packages::Error> for Error {
    /// A full disk is one, whoever met it.
    fn from(error: packages::Error) -> Self {
        match error {
            packages::Error::Io { action, path, source } => Self::io(action, path)(source),
            error => Self::Packages(error),
        }
    }
}

impl Error {
    /// The class that the exit code is chosen by.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::BadWorkspace { .. } | Self::BadBinary { .. } => Class::BadInput,
            Self::NoCargo { .. } | Self::Unavailable { .. } | Self::UnsupportedHost { .. } | Self::Compile { .. } => {
                Class::Build
            }
            Self::NotLocked { .. } => Class::Packages(packages::Class::Verification),
            Self::NoSpace { .. } | Self::Io { .. } => Class::Io,
            Self::Packages(error) => Class::Packages(error.class()),
        }
    }

    /// Wraps an I/O error with what was being done to which path; a full disk becomes [`Error::NoSpace`].
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { action, path, source },
        }
    }
}
