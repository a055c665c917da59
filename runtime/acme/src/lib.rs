//! Certificates from an ACME server (RFC 8555), for names that are proven over HTTP (`http-01`).
//!
//! ```text
//! AccountKey, Server -> Session -> order -> Order::answers, to be served -> prove -> certificate -> PEM
//! ```
//!
//! In come names, an account's key and a request for a certificate; out go the answers that the server will look for at the names, and
//! the certificate with its chain. Requests are signed, nonces are kept, and what the server says of waiting is heeded. When a
//! certificate is wanted, where it is kept and who serves the answers is others' matter: [`marks`] has the words that these share.

mod error;
mod key;
pub mod marks;
mod order;
mod session;

pub use error::{AcmeError, Problem};
pub use key::AccountKey;
pub use order::Order;
pub use session::{Server, Session};

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
