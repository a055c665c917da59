//! The Container Runtime Interface: how the kubelet speaks to containerd, or to any other runtime behind a unix socket.
//!
//! A [`Runtime`] is a cloneable handle with a method for each call of the CRI's two services. It connects when it is first
//! used, and again when the runtime was restarted; a call that fails in between is an error for the caller to retry. The
//! messages are [`messages`], which are the types of this module too. Nothing here knows what a Pod is.

mod client;
mod error;
pub mod messages;

pub use client::{Runtime, Stream};
pub use error::CriError;
pub use messages::*;
