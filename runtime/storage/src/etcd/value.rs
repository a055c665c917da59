//! Values as they lie in etcd.
//!
//! A write's revision is known only once etcd has carried it out, so the bytes are kept as they were given, with a
//! trailer that says where the revision's digits go; they are put there when the value is read.

use bytes::Bytes;

use crate::types::{NewValue, Revision};

/// The last byte of each value: what the trailer looks like.
const FORMAT: u8 = 1;
/// Checksum, offset and format.
const TRAILER: usize = 9;
/// The offset of a value without digits.
const NONE: u32 = u32::MAX;

/// The value to put.
pub(super) fn encode(value: &NewValue) -> Bytes {
    let NewValue { bytes, revision_at } = value;
    let offset = revision_at.map_or(NONE, |at| u32::try_from(at.min(bytes.len())).unwrap_or(NONE - 1));
    let mut whole = Vec::with_capacity(bytes.len() + TRAILER);
    whole.extend_from_slice(bytes);
    whole.extend_from_slice(&checksum(bytes, offset).to_le_bytes());
    whole.extend_from_slice(&offset.to_le_bytes());
    whole.push(FORMAT);
    Bytes::from(whole)
}

/// The final bytes of a value that was put at this revision. `None`: it was not [`encode`] that made it.
pub(super) fn decode(stored: &[u8], revision: Revision) -> Option<Bytes> {
    let (bytes, trailer) = stored.split_last_chunk::<TRAILER>()?;
    let (sum, rest) = trailer.split_first_chunk::<4>()?;
    let (offset, format) = rest.split_first_chunk::<4>()?;
    let offset = u32::from_le_bytes(*offset);
    if *format != [FORMAT] || u32::from_le_bytes(*sum) != checksum(bytes, offset) {
        return None;
    }
    let revision_at = (offset != NONE).then_some(usize::try_from(offset).unwrap_or(usize::MAX));
    Some(crate::types::finish(bytes, revision_at, revision))
}

fn checksum(bytes: &[u8], offset: u32) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(bytes);
    sum.update(&offset.to_le_bytes());
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_put_in_its_place_when_a_value_is_read() {
        let value = NewValue { bytes: b"{\"resourceVersion\":\"\"}".to_vec(), revision_at: Some(20) };
        assert_eq!(&*decode(&encode(&value), 17).unwrap(), b"{\"resourceVersion\":\"17\"}");
        assert_eq!(&*decode(&encode(&NewValue::plain("x")), 17).unwrap(), b"x");
        assert_eq!(&*decode(&encode(&NewValue::default()), 17).unwrap(), b"");
    }

    #[test]
    fn a_value_that_something_else_put_or_that_is_damaged_is_told_apart() {
        let mut damaged = encode(&NewValue::plain("value")).to_vec();
        damaged[2] ^= 1;
        for stored in [&b""[..], b"{}", b"a long value of another program", &damaged] {
            assert_eq!(decode(stored, 2), None);
        }
    }
}
