//! A cluster's secrets on the user's machine, and what of them goes on a card.
//!
//! [`init`] makes a directory with the CA, a join token and the admin's kubeconfig, so that every card can be written
//! before any board boots. [`Cluster::card`] gives the files for one card's CONFIG partition: an agent gets the CA's
//! certificate and a token, a server the CA's key and the tokens' hashes. The key goes nowhere else.

mod card;
mod error;
mod init;

pub use card::{CardSpec, Cluster, node_toml, server_url};
pub use error::ClusterError;
pub use init::{Created, InitOptions, init};

/// File names in a cluster's directory; `CA` and after also below `/cluster/` on a card.
mod names {
    pub(super) const CA: &str = "ca.crt";
    pub(super) const KEY: &str = "ca.key";
    pub(super) const TOKENS: &str = "bootstrap-tokens.json";
    pub(super) const TOKEN: &str = "token";
    pub(super) const KUBECONFIG: &str = "admin.kubeconfig";
}
