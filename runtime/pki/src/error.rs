//! What can go wrong with keys and certificates.

use std::path::PathBuf;

/// A key, certificate or request that can't be used. No variant carries a private key or secret.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The text holds no PEM block of the wanted kind.
    #[error("no PEM block `{0}` in the text; give the whole file with its BEGIN and END lines")]
    Pem(&'static str),
    /// The DER inside isn't a certificate, request or key.
    #[error("the {what} can't be read: {why}")]
    Decode {
        /// What was to be read.
        what: &'static str,
        /// The parser's reason.
        why: String,
    },
    /// Key and certificate are of different pairs.
    #[error("the private key doesn't belong to the certificate; use the two files that were made together")]
    KeyMismatch,
    /// The certificate can't sign others.
    #[error("the certificate `{0}` isn't a CA; give the cluster's ca.crt")]
    NotCa(String),
    /// A name for a certificate that X.509 can't hold.
    #[error("`{0}` can't be a name in a certificate; use a host name or an IP address")]
    Name(String),
    /// A request was refused by its signer's rules.
    #[error("{0}")]
    Refused(String),
    /// The signature over a request or certificate is wrong.
    #[error("the signature of the {0} is wrong; it was changed after it was made")]
    Signature(&'static str),
    /// The signing operation failed.
    #[error("signing failed: {0}")]
    Sign(String),
    /// A sealed text does not open.
    #[error("the token is not the one that the cluster's keys were sealed with, or they were changed since")]
    Sealed,
    /// The system has no randomness to give.
    #[error("the system's random number generator failed")]
    Random,
    /// A file couldn't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        PkiError::Sign(error.to_string())
    }
}
