//! gzip, RFC 1952: what charts are packed with, and Helm's records of releases.

const NONE: &str = "file does not appear to be a gzipped archive";

/// Unpacks.
///
/// # Errors
/// When the bytes are not packed so, or hold more than `most` bytes.
pub fn unpack(bytes: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let [0x1f, 0x8b, 8, flags, ..] = *bytes else { return Err(NONE.to_owned()) };
    let mut at = 10;
    if flags & 4 != 0 {
        let length = bytes.get(at..at + 2).ok_or(NONE)?;
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    // A name and a comment, each with a zero behind it.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let rest = bytes.get(at..).ok_or(NONE)?;
            at += rest.iter().position(|byte| *byte == 0).ok_or(NONE)? + 1;
        }
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    let packed = bytes.get(at..).ok_or(NONE)?;
    let unpacked = miniz_oxide::inflate::decompress_to_vec_with_limit(packed, most);
    unpacked.map_err(|error| format!("cannot unpack the archive: {error}"))
}

/// Packs.
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    packed.extend(checksum(bytes).to_le_bytes());
    // Modulo 2^32, as the format has it.
    packed.extend((bytes.len() as u32).to_le_bytes());
    packed
}

/// CRC-32.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let text = b"some text, some text, some text";
        assert_eq!(unpack(&pack(text), 100).as_deref(), Ok(&text[..]));
        assert!(unpack(&pack(text), 10).is_err());
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert!(unpack(b"", 10).is_err() && unpack(&[0x1f, 0x8b, 8, 31], 10).is_err());
    }
}
