//! The service as a whole, over real sockets where that matters.

mod custom;
pub(crate) mod fixture;
mod forwarding;
mod packets;
mod sockets;
