//! Frames on the wire.

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::SpdyError;
use crate::headers::{Headers, Reader, Writer};

const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const ID: u32 = 0x7fff_ffff;
/// The sender has nothing more to say on the stream.
const FIN: u8 = 0x01;
/// The most bytes of a control frame: what is longer is no header block of ours.
const MAX_CONTROL: usize = 256 << 10;
/// The most bytes of data that are handed on at once; longer frames come in several pieces.
pub(crate) const MAX_DATA: usize = 32 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// A frame. Those that nobody needs (settings, windows, priorities) are left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A new stream.
    Open { id: u32, headers: Headers, fin: bool },
    /// The answer to a new stream.
    Reply { id: u32, headers: Headers, fin: bool },
    /// A stream is given up.
    Reset { id: u32, status: u32 },
    /// To be sent back by the peer.
    Ping { id: u32 },
    /// No streams will be made any more.
    GoAway,
    /// More headers, or only an end.
    Headers { id: u32, fin: bool },
    /// Bytes of a stream.
    Data { id: u32, bytes: Bytes, fin: bool },
}

/// Writes frames after one another.
#[derive(Default)]
pub(crate) struct Encoder(Writer);

impl Encoder {
    /// Appends a frame.
    pub(crate) fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        let flags = |fin: &bool| if *fin { FIN } else { 0 };
        match frame {
            Frame::Open { id, headers, fin } => {
                let block = self.0.block(headers);
                control(out, SYN_STREAM, flags(fin), 10 + block.len());
                out.put_u32(*id);
                out.put_u32(0);
                out.put_u16(0);
                out.extend_from_slice(&block);
            }
            Frame::Reply { id, headers, fin } => {
                let block = self.0.block(headers);
                control(out, SYN_REPLY, flags(fin), 4 + block.len());
                out.put_u32(*id);
                out.extend_from_slice(&block);
            }
            Frame::Reset { id, status } => {
                control(out, RST_STREAM, 0, 8);
                out.put_u32(*id);
                out.put_u32(*status);
            }
            Frame::Ping { id } => {
                control(out, PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::GoAway => {
                control(out, GOAWAY, 0, 8);
                out.put_u64(0);
            }
            Frame::Headers { id, fin } => {
                let block = self.0.block(&Headers::new());
                control(out, HEADERS, flags(fin), 4 + block.len());
                out.put_u32(*id);
                out.extend_from_slice(&block);
            }
            Frame::Data { id, bytes, fin } => {
                out.put_u32(*id);
                out.put_u32(u32::from(flags(fin)) << 24 | length(bytes.len()));
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// Lengths have 24 bits; nothing longer is ever written.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX) & 0x00ff_ffff
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, len: usize) {
    out.put_u16(CONTROL | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length(len));
}

/// Reads frames one after another.
pub(crate) struct Decoder<R> {
    input: R,
    headers: Reader,
    /// What of a data frame is still to come: its stream, bytes, and whether it ends the stream.
    data: Option<(u32, usize, bool)>,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Decoder<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, headers: Reader::new(), data: None, buffer: BytesMut::new() }
    }

    /// The next frame, or `None` at the end. Not to be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some((id, left, fin)) = self.data.take() {
                let bytes = self.take(left.min(MAX_DATA)).await?;
                let left = left - bytes.len();
                if left > 0 {
                    self.data = Some((id, left, fin));
                }
                return Ok(Some(Frame::Data { id, bytes, fin: fin && left == 0 }));
            }
            let mut head = [0; 8];
            match self.input.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let [a, b, c, d, flags, len @ ..] = head;
            let (fin, len) = (flags & FIN != 0, u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize);
            if a & 0x80 == 0 {
                self.data = Some((u32::from_be_bytes([a, b, c, d]) & ID, len, fin));
                continue;
            }
            if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
                return Err(SpdyError::Protocol("another version"));
            }
            if len > MAX_CONTROL {
                return Err(SpdyError::Protocol("a control frame is too long"));
            }
            let body = self.take(len).await?;
            if let Some(frame) = self.control(u16::from_be_bytes([c, d]), fin, &body)? {
                return Ok(Some(frame));
            }
        }
    }

    async fn take(&mut self, len: usize) -> Result<Bytes, SpdyError> {
        self.buffer.resize(len, 0);
        self.input.read_exact(&mut self.buffer).await?;
        Ok(self.buffer.split().freeze())
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Option<Frame>, SpdyError> {
        let short = SpdyError::Protocol("a control frame is too short");
        let word = |at: usize| body.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let Some(first) = word(0) else { return if kind == 4 { Ok(None) } else { Err(short) } };
        let id = first & ID;
        Ok(Some(match kind {
            SYN_STREAM => {
                let block = body.get(10..).ok_or(short)?;
                Frame::Open { id, headers: self.headers.block(block)?, fin }
            }
            SYN_REPLY => Frame::Reply { id, headers: self.headers.block(&body[4..])?, fin },
            RST_STREAM => Frame::Reset { id, status: word(4).ok_or(short)? },
            PING => Frame::Ping { id: first },
            GOAWAY => Frame::GoAway,
            HEADERS => {
                self.headers.block(&body[4..])?;
                Frame::Headers { id, fin }
            }
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Vec<Frame>, SpdyError> {
        let (mut decoder, mut frames) = (Decoder::new(bytes), Vec::new());
        while let Some(frame) = decoder.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn all() -> Vec<Frame> {
        let headers = || vec![("streamtype".to_owned(), "data".to_owned())];
        vec![
            Frame::Open { id: 1, headers: headers(), fin: false },
            Frame::Reply { id: 1, headers: Headers::new(), fin: true },
            Frame::Data { id: 1, bytes: Bytes::from_static(b"hello"), fin: false },
            Frame::Data { id: 1, bytes: Bytes::new(), fin: true },
            Frame::Headers { id: 1, fin: true },
            Frame::Reset { id: 3, status: 5 },
            Frame::Ping { id: 7 },
            Frame::GoAway,
        ]
    }

    #[tokio::test]
    async fn every_frame_is_read_as_it_was_written() {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        all().iter().for_each(|frame| encoder.encode(frame, &mut out));
        assert_eq!(read(&out).await.unwrap(), all());
        // Cut anywhere, it is an end or an error, and never a panic.
        for cut in 0..out.len() {
            _ = read(&out[..cut]).await;
        }
    }

    #[tokio::test]
    async fn a_long_data_frame_comes_in_pieces_and_only_the_last_ends_the_stream() {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        let bytes = Bytes::from(vec![b'x'; MAX_DATA * 2 + 1]);
        encoder.encode(&Frame::Data { id: 5, bytes, fin: true }, &mut out);
        let sizes: Vec<(usize, bool)> = read(&out)
            .await
            .unwrap()
            .iter()
            .map(|f| match f {
                Frame::Data { bytes, fin, .. } => (bytes.len(), *fin),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [(MAX_DATA, false), (MAX_DATA, false), (1, true)]);
    }

    #[tokio::test]
    async fn what_nobody_needs_is_passed_over_and_what_is_wrong_refused() {
        // SETTINGS without entries, and a WINDOW_UPDATE.
        let rows: [(&[u8], Option<&str>); 4] = [
            (&[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0, 0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0], None),
            (&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], Some("another version")),
            (&[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1], Some("too short")),
            (&[0x80, 3, 0, 1, 0, 0xff, 0, 0], Some("too long")),
        ];
        for (bytes, expected) in rows {
            match (read(bytes).await, expected) {
                (Ok(frames), None) => assert!(frames.is_empty()),
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
                (other, _) => panic!("{bytes:x?}: {other:?}"),
            }
        }
    }
}
