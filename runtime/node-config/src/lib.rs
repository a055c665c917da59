//! `node.toml`: what one card says about its node.
//!
//! The only crate that `imager` and the runtime share. Text comes in, a checked [`NodeConfig`] or a [`ConfigError`] with
//! file, line and column goes out; nothing here reads files, the network or the clock.
//!
//! The keys are rows of one table ([`schema`]): the parser refuses what isn't in it, the editor ([`edit`]) takes a value's
//! type from it, and the message for a wrong key names the nearest row.

mod build;
mod decode;
pub mod edit;
mod error;
pub mod flags;
mod net;
mod per_family;
pub mod schema;
mod section;
pub mod token;
mod types;
pub mod validate;

pub use error::{ConfigError, Problem};
pub use net::{Cidr, DEFAULT_PORT, InterfaceMatch, ServerUrl};
pub use per_family::{Family, PerFamily};
pub use token::Token;
pub use types::{
    Cluster, Console, Interface, Method, Network, Node, NodeConfig, Role, Server, ServerAddress, Time, default_name,
};
