//! The outer shell: connections, bodies, content types. Nothing in here knows what a request is about.

pub(crate) mod body;
mod drain;
pub(crate) mod negotiate;
pub(crate) mod pretty;
pub(crate) mod respond;
pub(crate) mod serve;
pub(crate) mod stream;
mod websocket;
