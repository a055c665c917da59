//! SPDY/3.1, which nobody speaks any more but Kubernetes: exec, attach and port-forward multiplex their streams by it on an
//! upgraded HTTP/1.1 connection, and so does the streaming server of a container runtime.
//!
//! In comes a byte stream, out come streams with headers: [`Session::open`] makes one, [`Incoming::accept`] takes one of the
//! peer's. Both roles are here; which end is which only decides the stream's numbers. Header blocks are read as anyone may
//! write them (zlib with SPDY's dictionary) and written as stored blocks, which every reader takes. As in Kubernetes' own
//! implementation there is no flow control by windows: a stream that is not read stops the connection, and the peers know.

mod dictionary;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod session;
mod stream;

pub use headers::Headers;
pub use session::{Incoming, Role, Session};
pub use stream::Stream;

/// A session or one of its streams failed.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// The connection broke.
    #[error("the SPDY connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// The peer does not keep to the protocol; the text says how.
    #[error("the peer does not speak SPDY/3.1: {0}")]
    Protocol(&'static str),
    /// The session has ended.
    #[error("the SPDY session has ended")]
    Closed,
    /// The peer refused the stream with this status.
    #[error("the peer reset the stream with status {0}")]
    Reset(u32),
}
