//! Keys, certificates and secrets of a cluster.
//!
//! In come requests (names, CSRs, times), out go PEM texts and yes-or-no answers with a reason. The clock is a parameter
//! everywhere; files are touched only by [`files`]. [`tls`] has settings for rustls. Used by the runtime, and by `imager cluster init`.
//!
//! All keys made here are ECDSA P-256. The hash that pins a CA is SHA-256 over the DER of its certificate.

pub mod account_key;
mod authority;
mod certificate;
mod csr;
mod error;
pub mod files;
pub mod kubeconfig;
mod pem;
pub mod sealed;
pub mod secret;
mod signer;
pub mod tls;
mod wish;

pub use authority::{Authority, CA_LIFETIME, Issued, LEAF_LIFETIME, NODE_USER_PREFIX, NODES_GROUP};
pub use certificate::{Certificate, key_matches};
pub use csr::{Csr, PrivateKey};
pub use error::PkiError;
pub use pem::{ca_hash, certificate_der, certificates_der, private_key_der};
pub use signer::Signer;
pub use wish::{Wish, issue};
