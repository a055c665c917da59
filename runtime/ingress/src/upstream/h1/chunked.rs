//! Bodies that say themselves where they end (RFC 9112, 7.1). Extensions and trailers are passed over.

/// The most bytes of a chunk's first line, and of all trailers.
const MOST_LINE: u32 = 4 << 10;
const MOST_TRAILERS: u32 = 64 << 10;

/// Where in such a body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the line with a chunk's size; how many of its bytes were digits, and how many there were.
    Size { size: u64, digits: u8, line: u32 },
    /// In the rest of that line.
    Extension { size: u64, line: u32 },
    /// In a chunk; so much of it is left.
    Data(u64),
    /// In the line end behind a chunk.
    DataEnd,
    /// In the trailers: bytes of this line, and of all.
    Trailer { line: u32, all: u32 },
    /// Behind the body.
    Over,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0, line: 0 }
    }
}

impl Chunked {
    /// Goes over bytes that are no data, until data or the end. Answers how many they were; no more than `bytes` has.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(self, Self::Data(_) | Self::Over) {
                return Ok(at);
            }
            *self = self.step(*byte)?;
        }
        Ok(bytes.len())
    }

    fn step(self, byte: u8) -> Result<Self, &'static str> {
        Ok(match (self, byte) {
            (Self::Size { size, digits, line }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                if digits >= 15 {
                    return Err("a chunk is too large");
                }
                Self::Size { size: size << 4 | digit, digits: digits + 1, line: line + 1 }
            }
            (Self::Size { digits: 0, .. }, _) => return Err("a chunk has no size"),
            (Self::Size { size, line, .. }, b'\r' | b';' | b' ' | b'\t') => Self::Extension { size, line },
            (Self::Size { size, .. } | Self::Extension { size, .. }, b'\n') => match size {
                0 => Self::Trailer { line: 0, all: 0 },
                size => Self::Data(size),
            },
            (Self::Size { .. }, _) => return Err("a chunk's size is no number"),
            (Self::Extension { size, line }, _) => {
                if line >= MOST_LINE {
                    return Err("a chunk's first line is too long");
                }
                Self::Extension { size, line: line + 1 }
            }
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::default(),
            (Self::DataEnd, _) => return Err("a chunk is longer than it says"),
            (Self::Trailer { line, all }, b'\r') => Self::Trailer { line, all },
            (Self::Trailer { line: 0, .. }, b'\n') => Self::Over,
            (Self::Trailer { all, .. }, b'\n') => Self::Trailer { line: 0, all },
            (Self::Trailer { all, .. }, _) if all >= MOST_TRAILERS => return Err("its trailers are too large"),
            (Self::Trailer { line, all }, _) => Self::Trailer { line: line + 1, all: all + 1 },
            (state @ (Self::Data(_) | Self::Over), _) => state,
        })
    }

    /// Takes so many of `available` bytes as data as there are.
    pub(super) fn take(&mut self, available: usize) -> usize {
        let Self::Data(left) = self else { return 0 };
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
        *left -= taken as u64;
        if *left == 0 {
            *self = Self::DataEnd;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool), &'static str> {
        let (mut state, mut data) = (Chunked::default(), Vec::new());
        for piece in bytes.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() && state != Chunked::Over {
                rest = &rest[state.skip(rest)?..];
                let taken = state.take(rest.len());
                data.extend_from_slice(&rest[..taken]);
                rest = &rest[taken..];
            }
        }
        Ok((data, state == Chunked::Over))
    }

    #[test]
    fn chunks_are_put_together_however_they_arrive() {
        let body = b"5\r\nhello\r\n1;name=\"x\"\r\n \r\nA \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..body.len() {
            assert_eq!(decode(body, step), Ok((b"hello 0123456789".to_vec(), true)), "{step}");
        }
        assert_eq!(decode(b"5\r\nhel", 100), Ok((b"hel".to_vec(), false)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for body in [&b"x\r\n"[..], b"\r\n", b"-1\r\n", b"5\r\nhelloX\r\n", b"ffffffffffffffff\r\n", b"1g\r\n"] {
            assert!(decode(body, 100).is_err(), "{body:?}");
        }
        let long = [b"1;".to_vec(), vec![b'x'; 5_000]].concat();
        assert!(decode(&long, 100).is_err());
    }
}
