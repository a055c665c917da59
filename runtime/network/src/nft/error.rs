//! What can go wrong between here and the kernel.

use std::io;

use nix::errno::Errno;

/// Why the kernel's tables were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no socket to the kernel's netfilter: the process lacks CAP_NET_ADMIN, or the kernel has no nfnetlink.
    #[error("no socket to netfilter: {0}")]
    Open(#[source] io::Error),
    /// The batch could not be sent, or the answer not be read.
    #[error("speaking to netfilter: {0}")]
    Io(#[source] io::Error),
    /// The kernel refused an object; nothing of the batch was applied.
    #[error("netfilter refused {object}: {errno}{}{}", hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default(), more(*others))]
    Refused {
        /// What was to be done with which object, as `to add rule of chain input in table ip kiln`.
        object: String,
        /// The kernel's error.
        errno: Errno,
        /// What the kernel said besides.
        hint: Option<String>,
        /// How many others it refused too.
        others: usize,
    },
    /// The kernel neither applied the batch nor said why not.
    #[error("netfilter did not answer")]
    Silent,
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", and {others} more") }
}

impl NftError {
    /// Whether something that was named is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::ENOENT, .. })
    }
}

impl From<Errno> for NftError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}
