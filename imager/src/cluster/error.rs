//! What can go wrong with a cluster's directory.

use std::{io, path::PathBuf};

use kiln_node_config::{edit::EditError, token::TokenError};
use kiln_pki::PkiError;
use thiserror::Error;

/// Why a cluster's directory could not be made or used.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The directory has something in it; a cluster's CA is never written over.
    #[error("{} is there already and not empty; a cluster's CA is never written over", directory.display())]
    Exists {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory lacks a file that every cluster has.
    #[error("{} is not a cluster's directory: it has no {file}", directory.display())]
    NotACluster {
        /// The directory.
        directory: PathBuf,
        /// The file that is missing.
        file: &'static str,
    },
    /// A file in the directory is not what it should be.
    #[error("{}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong; never repeats the text.
        source: TokenError,
    },
    /// The token given on the command line is no token.
    #[error("--token: {0}")]
    GivenToken(TokenError),
    /// A token belongs to another CA: the agent would refuse to join.
    #[error("the join token is for the CA {found}, and the CA in {} is {expected}", directory.display())]
    OtherCa {
        /// The cluster's directory.
        directory: PathBuf,
        /// Hash of its CA.
        expected: String,
        /// Hash in the token.
        found: String,
    },
    /// The server's address is neither a name, an address nor a URL.
    #[error("`{text}`: {why}")]
    Server {
        /// As given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name cannot be a cluster's.
    #[error("`{0}` cannot be a cluster's name: it takes 1 to 63 letters, digits, hyphens and dots")]
    Name(String),
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] EditError),
    /// Keys or certificates cannot be made or read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file or directory could not be written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ClusterError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What the reader can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("choose another directory".to_owned()),
            Self::NotACluster { directory, .. } => {
                Some(format!("make one with `imager cluster init {}`", directory.display()))
            }
            Self::OtherCa { .. } => Some("use the token of the same cluster".to_owned()),
            Self::Server { .. } => {
                Some("write it as https://192.168.1.10:6443, a name, an address, or `discover`".to_owned())
            }
            _ => None,
        }
    }
}
