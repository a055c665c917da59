//! Kubernetes' protobuf: an envelope that names version and kind, and in it a message whose numbers are in the table. What is
//! read is the JSON value that a JSON client would have sent; what is written is, byte for byte, what Kubernetes would write.

mod read;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
mod write;

pub use read::decode;
pub use write::{ListWriter, WatchWriter, encode, message};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages; real objects stay far below, but for schemas of custom resources.
const MAX_DEPTH: usize = 100;

/// A body that can't be read, or an object that can't be written; the text says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes do not begin like a Kubernetes object.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// A length or number goes past the end, or a wire type is unknown.
    #[error("the body is truncated or malformed")]
    Malformed,
    /// Text that is no UTF-8.
    #[error("field {0} holds text that is not UTF-8")]
    Text(String),
    /// A kind that the table has not.
    #[error("no protobuf message is known for {0}")]
    UnknownKind(String),
    /// Messages nested too deep.
    #[error("messages are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// More values than a body can be allowed to unfold into.
    #[error("the body holds too many values")]
    TooMany,
    /// A value that is not of its field's type; no object that was checked has one.
    #[error("field {0} holds a value that is not of its type")]
    Type(String),
}
