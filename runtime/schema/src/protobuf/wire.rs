//! The wire: tagged fields one after another.

use super::ProtobufError;

/// One field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A variable-length integer, as signed.
    Integer(i64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32,
    /// Bytes with a length: text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields in some bytes, as number and content. Ends after the first error.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut out = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(out);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn item(&mut self) -> Option<(u32, Item<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        let item = match key & 7 {
            0 => Item::Integer(self.varint()?.cast_signed()),
            1 => Item::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Item::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Item::Fixed32
            }
            _ => return None,
        };
        Some((number, item))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Item<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_none() {
            self.0 = &[];
        }
        Some(item.ok_or(ProtobufError::Malformed))
    }
}

/// Writes a number of variable length.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        // Masked to seven bits.
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Writes a field's number with its wire type.
pub(crate) fn put_key(out: &mut Vec<u8>, number: u16, wire: u64) {
    put_varint(out, u64::from(number) << 3 | wire);
}

/// Writes an integer field.
pub(crate) fn put_integer(out: &mut Vec<u8>, number: u16, n: i64) {
    put_key(out, number, 0);
    put_varint(out, n.cast_unsigned());
}

/// Writes a field with a number of double precision.
pub(crate) fn put_double(out: &mut Vec<u8>, number: u16, n: f64) {
    put_key(out, number, 1);
    out.extend_from_slice(&n.to_le_bytes());
}

/// Writes a field of text or bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u16, bytes: &[u8]) {
    put_key(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a field that is a message, whose content `fill` writes.
pub(crate) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u16,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_key(out, number, 2);
    // The length is known only afterwards. Most messages are short, so that one byte is kept for it.
    let start = out.len();
    out.push(0);
    fill(out)?;
    let len = out.len() - start - 1;
    if let Some(short) = u8::try_from(len).ok().filter(|n| *n < 0x80) {
        out[start] = short;
    } else {
        let mut digits = Vec::with_capacity(5);
        put_varint(&mut digits, len as u64);
        out.splice(start..=start, digits);
    }
    Ok(())
}
