//! The server's side of gRPC with one call over HTTP/2 (RFC 9113), as small as that is.
//!
//! Plugins in Go dial a socket by its path and name that path as the request's authority. It is none, and HTTP libraries refuse such
//! a request. Here headers are not looked at: whatever comes on this socket is the one call that it has.

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest frame, and the longest request.
const FRAME: usize = 1 << 14;
const REQUEST: usize = 1 << 14;
/// The most requests of a connection at a time.
const STREAMS: usize = 16;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// Flags, some of which mean one thing of one kind of frame, and another of another.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// `:status: 200` and the name `content-type` by their places in HPACK's static table (RFC 7541, appendix A).
const STATUS_200: u8 = 0x80 | 8;
const CONTENT_TYPE: [u8; 2] = [0x0f, 31 - 15];

/// What is answered: a message in its frame, or a code with its reason.
pub(super) type Answer = Result<Bytes, (u16, String)>;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// Serves a connection until the peer ends it. `answer` is given each request's bytes, which are a message in its frame.
///
/// # Errors
/// If the connection breaks, or the peer speaks another protocol.
pub(super) async fn serve<F: Future<Output = Answer>>(
    mut stream: UnixStream,
    answer: impl Fn(BytesMut) -> F,
) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != *PREFACE {
        return Err(wrong("it does not begin as HTTP/2 does"));
    }
    write(&mut stream, SETTINGS, 0, 0, &[]).await?;
    let mut open: HashMap<u32, BytesMut> = HashMap::new();
    while let Some(Frame { kind, flags, stream: id, payload }) = read(&mut stream).await? {
        match kind {
            SETTINGS if flags & ACK == 0 => write(&mut stream, SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => write(&mut stream, PING, ACK, 0, &payload).await?,
            RST_STREAM => _ = open.remove(&id),
            HEADERS if open.len() >= STREAMS => return Err(wrong("too many requests at a time")),
            HEADERS => _ = open.entry(id).or_default(),
            DATA => {
                let length = u32::try_from(payload.len()).unwrap_or_default();
                if length > 0 {
                    write(&mut stream, WINDOW_UPDATE, 0, 0, &length.to_be_bytes()).await?;
                }
                let Some(request) = open.get_mut(&id) else { continue };
                request.extend_from_slice(unpadded(flags, &payload)?);
                if request.len() > REQUEST {
                    return Err(wrong("a request is too long"));
                }
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS)
            && flags & END_STREAM != 0
            && let Some(request) = open.remove(&id)
        {
            respond(&mut stream, id, answer(request).await).await?;
        }
    }
    Ok(())
}

async fn respond(stream: &mut UnixStream, id: u32, answer: Answer) -> io::Result<()> {
    let mut head = vec![STATUS_200];
    head.extend(CONTENT_TYPE);
    text(&mut head, "application/grpc");
    write(stream, HEADERS, END_HEADERS, id, &head).await?;
    let mut trailers = Vec::new();
    let mut set = |name: &str, value: &str| {
        // A literal with a name of its own, which is not to be remembered.
        trailers.push(0);
        text(&mut trailers, name);
        text(&mut trailers, value);
    };
    match answer {
        Ok(message) => {
            set("grpc-status", "0");
            write(stream, DATA, 0, id, &message).await?;
        }
        Err((code, why)) => {
            set("grpc-status", &code.to_string());
            set("grpc-message", &escaped(&why));
        }
    }
    write(stream, HEADERS, END_HEADERS | END_STREAM, id, &trailers).await
}

/// A frame; `None` when the peer has ended the connection.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Frame>> {
    let mut head = [0; 9];
    match stream.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => _ = read?,
    }
    let [a, b, c, kind, flags, d, e, f, g] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > FRAME {
        return Err(wrong("a frame is too long"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]), payload }))
}

async fn write(stream: &mut UnixStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FRAME);
    let [_, a, b, c] = length.ok_or_else(|| wrong("an answer is too long"))?.to_be_bytes();
    let [d, e, f, g] = id.to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags, d, e, f, g];
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await
}

/// What a frame holds, without what makes it longer.
fn unpadded(flags: u8, payload: &[u8]) -> io::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or_else(|| wrong("a frame is too short"))?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or_else(|| wrong("a frame is too short"))?;
    Ok(&rest[..length])
}

/// A string of HPACK (RFC 7541, 5.2), not compressed.
fn text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        out.push(rest.to_le_bytes()[0]);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push(0x80 | (rest.to_le_bytes()[0] & 0x7f));
            rest >>= 7;
        }
        out.push(rest.to_le_bytes()[0]);
    }
    out.extend_from_slice(text.as_bytes());
}

/// A message as gRPC has it in a header.
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a string never fails.
            _ => _ = write!(out, "%{byte:02X}"),
        }
        out
    })
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_their_length_before_them() {
        let encoded = |length: usize| {
            let mut out = Vec::new();
            text(&mut out, &"x".repeat(length));
            out[..out.len() - length].to_vec()
        };
        assert_eq!(encoded(5), [5]);
        assert_eq!(encoded(126), [126]);
        assert_eq!(encoded(127), [127, 0]);
        assert_eq!(encoded(300), [127, 0x80 | 45, 1]);
    }

    #[test]
    fn messages_are_printable() {
        assert_eq!(escaped("100 % \u{e9}\n"), "100 %25 %C3%A9%0A");
    }

    #[test]
    fn padding_is_left_out() {
        assert_eq!(unpadded(0, b"abc").unwrap(), b"abc");
        assert_eq!(unpadded(PADDED, b"\x02abc\0\0").unwrap(), b"abc");
        assert!(unpadded(PADDED, b"\x09abc").is_err());
        assert!(unpadded(PADDED, b"").is_err());
    }

    #[tokio::test]
    async fn who_speaks_another_protocol_or_asks_for_too_much_is_ended() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\0\0\0\0\0\x01",
        ] {
            let (mut peer, own) = UnixStream::pair().expect("a pair");
            peer.write_all(bytes).await.expect("written");
            let served = serve(own, |_| async { panic!("nothing was asked") }).await;
            assert_eq!(served.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
        }
    }
}
