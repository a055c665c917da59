//! How an agent becomes a node: find the server, fetch its CA and compare it with the token's hash, set the clock, get
//! certificates by TLS bootstrapping, and keep them fresh.
//!
//! In come the node's settings; out come [`Credentials`] on disk and in hand, and [`Progress`] reports on the way. The token's
//! secret leaves this crate in one place, [`bootstrap`], over a connection that trusts nothing but the CA whose hash the token
//! carries. Retrying, backing off and what a person reads are here too; registering the node is the kubelet's part.

mod address_watch;
mod agent;
mod anonymous;
pub mod bootstrap;
mod clock;
mod connection;
mod credentials;
pub mod discovery;
mod endpoint;
mod error;
mod maintenance;
mod progress;
pub mod tls;

pub use address_watch::AddressWatch;
pub use agent::{Joined, Settings, join};
pub use anonymous::{fetch_ca, server_time};
pub use clock::{Clock, SystemClock};
pub use credentials::{Credentials, Pair, Store};
pub use endpoint::Endpoint;
pub use error::JoinError;
pub use maintenance::maintain;
pub use progress::{Progress, Step};
