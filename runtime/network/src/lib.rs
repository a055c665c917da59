//! The network of a node: ways between nodes' pods, Services, the service load balancer and network policy, programmed into the kernel.
//!
#![doc = include_str!("conformance.md")]

pub mod announce;
mod cidr;
pub mod nft;
pub mod overlay;
pub mod policy;
mod remove;
mod rtnetlink;
pub mod services;
mod wireguard;

pub use cidr::{Cidr, InvalidCidr};
pub use remove::{RemoveError, remove};
