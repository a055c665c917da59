//! How messages stand in a body.

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message;

/// A message with the five bytes that gRPC puts before it: not compressed, and its length.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The message at the buffer's head, if it is there as a whole.
///
/// # Errors
/// A text when the bytes are no message.
pub fn take<M: Message + Default>(buffer: &mut BytesMut) -> Result<Option<M>, String> {
    let Some((head, _)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if buffer.len() - 5 < length {
        return Ok(None);
    }
    if compressed != 0 {
        return Err("the answer is compressed, which was not asked for".to_owned());
    }
    let mut message = buffer.split_to(5 + length);
    message.advance(5);
    M::decode(message.freeze()).map(Some).map_err(|error| error.to_string())
}
