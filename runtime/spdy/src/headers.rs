//! Header blocks: lists of names and values, compressed as one zlib stream for each direction.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::{SpdyError, dictionary};

/// Names and values, in their order. Names are lower case.
pub type Headers = Vec<(String, String)>;

/// The most bytes of a block, uncompressed: a few names of streams are all that there ever is.
const MAX_BLOCK: usize = 64 << 10;
/// The window of deflate, and so the least buffer that can be used as a ring.
const WINDOW: usize = 32 << 10;
/// The most bytes of a stored block.
const MAX_STORED: usize = u16::MAX as usize;
/// How zlib begins when it uses no dictionary and the fastest compression.
const ZLIB: [u8; 2] = [0x78, 0x01];
/// A stored block of nothing, which makes readers give out what they have.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// Compresses blocks, if one can call it that.
#[derive(Default)]
pub(crate) struct Writer {
    begun: bool,
}

impl Writer {
    /// The next block of the stream.
    pub(crate) fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::with_capacity(128);
        let length = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&u32::try_from(n).unwrap_or(0).to_be_bytes());
        length(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name, value] {
                length(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 16);
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(&ZLIB);
        }
        for chunk in plain.chunks(MAX_STORED) {
            let len = chunk.len() as u16;
            out.push(0);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(chunk);
        }
        out.extend_from_slice(&FLUSH);
        out
    }
}

/// Reads the peer's blocks.
pub(crate) struct Reader {
    inflate: Box<DecompressorOxide>,
    /// The last 32 KiB that were read, which later blocks refer to: a ring.
    window: Box<[u8]>,
    at: usize,
    begun: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { inflate: Box::default(), window: vec![0; WINDOW].into_boxed_slice(), at: 0, begun: false }
    }

    /// The headers of the next block of the stream.
    pub(crate) fn block(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut input = block;
        if !std::mem::replace(&mut self.begun, true) {
            input = self.begin(input)?;
        }
        let mut plain = Vec::new();
        loop {
            let (status, used, made) =
                decompress(&mut self.inflate, input, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            let end = self.at + made;
            plain.extend_from_slice(&self.window[self.at..end]);
            self.at = end % WINDOW;
            input = &input[used..];
            if plain.len() > MAX_BLOCK {
                return Err(SpdyError::Protocol("a header block is too long"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if input.is_empty() => break,
                _ => return Err(SpdyError::Protocol("a header block does not decompress")),
            }
        }
        parse(&plain)
    }

    /// Reads zlib's own header, and puts the dictionary where the first block looks for what went before.
    fn begin<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], SpdyError> {
        let ([cmf, flags], rest) =
            input.split_first_chunk().ok_or(SpdyError::Protocol("a header block is too short"))?;
        if cmf & 0x0f != 8 || (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 != 0 {
            return Err(SpdyError::Protocol("a header block is not zlib's"));
        }
        if flags & 0x20 == 0 {
            return Ok(rest);
        }
        let (id, rest) = rest.split_first_chunk().ok_or(SpdyError::Protocol("a header block is too short"))?;
        if u32::from_be_bytes(*id) != dictionary::ID {
            return Err(SpdyError::Protocol("a header block uses an unknown dictionary"));
        }
        let dictionary = dictionary::bytes();
        self.window[..dictionary.len()].copy_from_slice(&dictionary);
        self.at = dictionary.len();
        Ok(rest)
    }
}

fn parse(plain: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = plain;
    let short = SpdyError::Protocol("a header block is cut short");
    let Some(count) = number(&mut rest) else { return Err(short) };
    let mut headers = Headers::new();
    for _ in 0..count {
        let (Some(name), Some(value)) = (text(&mut rest), text(&mut rest)) else { return Err(short) };
        headers.push((name.to_ascii_lowercase(), value));
    }
    Ok(headers)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let len = number(rest)?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn headers(of: &[(&str, &str)]) -> Headers {
        of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_one_writes_the_other_reads_block_by_block() {
        let (mut writer, mut reader) = (Writer::default(), Reader::new());
        let long = "x".repeat(60_000);
        for sent in
            [headers(&[("streamtype", "stdin")]), headers(&[]), headers(&[("a", &long)]), headers(&[("p", "80")])]
        {
            assert_eq!(reader.block(&writer.block(&sent)).unwrap(), sent);
        }
    }

    #[test]
    fn any_zlib_reads_what_is_written() {
        let mut writer = Writer::default();
        let mut stream = writer.block(&headers(&[("port", "8080")]));
        stream.extend(writer.block(&headers(&[("port", "8081")])));
        let mut plain = [0; 40];
        flate2::read::ZlibDecoder::new(stream.as_slice()).read_exact(&mut plain).unwrap();
        assert_eq!(plain[..20], *b"\0\0\0\x01\0\0\0\x04port\0\0\0\x048080");
        assert_eq!(plain[20..], *b"\0\0\0\x01\0\0\0\x04port\0\0\0\x048081");
    }

    /// Two blocks as another implementation (zlib at its best compression) writes them with the dictionary: the
    /// first takes words out of it, the second refers to the first.
    #[test]
    fn blocks_that_need_the_dictionary_are_read() {
        let mut reader = Reader::new();
        for (block, expected) in BLOCKS {
            assert_eq!(reader.block(block).unwrap(), headers(expected));
        }
    }

    type Block = (&'static [u8], &'static [(&'static str, &'static str)]);
    const BLOCKS: [Block; 2] = [
        (
            &[
                0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0xe5, 0x0e, 0x70, 0x3a, 0x2b, 0x29, 0x4a, 0x4d, 0xcc, 0x85,
                0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0xc6, 0x52, 0xc6, 0x70, 0x21, 0x1c, 0x07, 0x00, 0x00, 0x00, 0xff,
                0xff,
            ],
            &[("streamtype", "error"), ("content-type", "text/plain")],
        ),
        (
            &[
                0xc2, 0xae, 0xb1, 0xb8, 0x24, 0x05, 0x2c, 0x05, 0x2c, 0xcf, 0x8b, 0xc0, 0x59, 0xc7, 0xc2, 0xc0, 0xc2,
                0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
            ],
            &[("streamtype", "stdin"), ("port", "8080")],
        ),
    ];

    #[test]
    fn nonsense_is_refused() {
        let rows: [(&[u8], &str); 6] = [
            (&[], "too short"),
            (&[0x78], "too short"),
            (&[0x79, 0x01], "not zlib's"),
            (&[0x78, 0xbb, 1, 2, 3, 4], "unknown dictionary"),
            (&[0x78, 0x01, 0xff], "does not decompress"),
            (&[0x78, 0x01, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 9], "cut short"),
        ];
        for (block, expected) in rows {
            let error = Reader::new().block(block).unwrap_err().to_string();
            assert!(error.contains(expected), "{block:x?}: {error}");
        }
    }

    #[test]
    fn a_block_that_swells_is_given_up() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut zlib, &vec![0; 10 << 20]).unwrap();
        let error = Reader::new().block(&zlib.finish().unwrap()).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
