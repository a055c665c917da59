//! The heads of answers.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version, response};

use crate::proxy::is_hop_by_hop;
use crate::upstream::UpstreamError;

/// The most headers of an answer.
const MOST_HEADERS: usize = 128;

/// A head.
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) framing: Framing,
    /// Whether the connection stays.
    pub(super) is_kept: bool,
}

/// Where the body ends, unless an answer of this kind has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where it says so itself.
    Chunked,
    /// With the connection.
    Close,
}

/// The head at the beginning of these bytes, if it is whole, and how many bytes are done with: informational answers before it
/// are passed over.
pub(super) fn find(bytes: &Bytes) -> Result<(Option<Head>, usize), UpstreamError> {
    let mut used = 0;
    loop {
        match parse(&bytes.slice(used..))? {
            None => return Ok((None, used)),
            Some((head, end)) => {
                used += end;
                if !head.parts.status.is_informational() || head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Ok((Some(head), used));
                }
            }
        }
    }
}

fn parse(bytes: &Bytes) -> Result<Option<(Head, usize)>, UpstreamError> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let end = match config.parse_response_with_uninit_headers(&mut answer, bytes, &mut headers) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(UpstreamError::Malformed("it has too many headers")),
        Err(_) => return Err(UpstreamError::Malformed("its head can't be read")),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(UpstreamError::Malformed("it has no status"))?;
    let is_new = answer.version == Some(1);
    let mut reader = Reader { headers: HeaderMap::with_capacity(answer.headers.len() + 2), ..Reader::new(is_new) };
    for field in answer.headers.iter() {
        reader.take(field, bytes)?;
    }
    let upgrades = status == StatusCode::SWITCHING_PROTOCOLS;
    let (headers, framing, is_kept) = reader.finish(upgrades);
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, Version::HTTP_11, headers);
    Ok(Some((Head { parts, framing, is_kept }, end)))
}

/// Takes headers in.
struct Reader {
    headers: HeaderMap,
    length: Option<u64>,
    /// The last coding is chunked; or it is some other.
    coding: Option<bool>,
    is_kept: bool,
    /// Names in `Connection`.
    named: Vec<HeaderName>,
    upgrade: Option<HeaderValue>,
}

impl Reader {
    fn new(is_kept: bool) -> Self {
        Self { headers: HeaderMap::new(), length: None, coding: None, is_kept, named: Vec::new(), upgrade: None }
    }

    /// Values are parts of what was read.
    fn take(&mut self, field: &httparse::Header<'_>, bytes: &Bytes) -> Result<(), UpstreamError> {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| UpstreamError::Malformed("a header has no proper name"))?;
        let start = (field.value.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        // An empty value may be a slice of nothing.
        let value = if field.value.is_empty() { Bytes::new() } else { bytes.slice(start..start + field.value.len()) };
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| UpstreamError::Malformed("a header has no proper value"))?;
        match name {
            header::CONTENT_LENGTH => {
                let text = value.to_str().unwrap_or_default();
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let length = text.parse().ok().filter(|_| digits);
                let length = length.ok_or(UpstreamError::Malformed("its length is no number"))?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(UpstreamError::Malformed("it has two lengths"));
                }
                if self.length.replace(length).is_none() {
                    self.headers.insert(name, value);
                }
            }
            header::TRANSFER_ENCODING => {
                let last = value.to_str().unwrap_or_default().rsplit(',').next().unwrap_or_default();
                self.coding = Some(last.trim().eq_ignore_ascii_case("chunked"));
            }
            header::CONNECTION => {
                for token in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                    match token {
                        t if t.eq_ignore_ascii_case("close") => self.is_kept = false,
                        t if t.eq_ignore_ascii_case("keep-alive") || t.eq_ignore_ascii_case("upgrade") => {}
                        t => self.named.extend(HeaderName::from_bytes(t.as_bytes()).ok()),
                    }
                }
            }
            header::UPGRADE => self.upgrade = Some(value),
            name if is_hop_by_hop(&name) => {}
            name => _ = self.headers.append(name, value),
        }
        Ok(())
    }

    fn finish(mut self, upgrades: bool) -> (HeaderMap, Framing, bool) {
        for name in &self.named {
            self.headers.remove(name);
        }
        if let Some(protocol) = self.upgrade.filter(|_| upgrades) {
            self.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            self.headers.insert(header::UPGRADE, protocol);
        }
        match (self.coding, self.length) {
            // With both, the length is not to be believed, and the connection neither (RFC 9112, 6.3).
            (Some(chunked), length) => {
                self.headers.remove(header::CONTENT_LENGTH);
                let framing = if chunked { Framing::Chunked } else { Framing::Close };
                (self.headers, framing, self.is_kept && chunked && length.is_none())
            }
            (None, Some(length)) => (self.headers, Framing::Length(length), self.is_kept),
            (None, None) => (self.headers, Framing::Close, self.is_kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (u16, Framing, bool, HeaderMap, usize);

    fn read(text: &str) -> Result<Option<Read>, String> {
        let (head, used) = find(&Bytes::copy_from_slice(text.as_bytes())).map_err(|error| error.to_string())?;
        Ok(head.map(|head| (head.parts.status.as_u16(), head.framing, head.is_kept, head.parts.headers, used)))
    }

    #[test]
    fn heads_say_where_the_body_ends_and_whether_the_connection_stays() {
        for (text, status, framing, is_kept) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", 200, Framing::Length(5), true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Framing::Length(5), false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n", 200, Framing::Length(5), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n", 200, Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 200, Framing::Close, false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                200,
                Framing::Chunked,
                false,
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\nx:\r\n\r\n", 404, Framing::Close, true),
        ] {
            let (found, how, kept, headers, used) = read(text).unwrap().unwrap();
            assert_eq!((found, how, kept, used), (status, framing, is_kept, text.len()), "{text}");
            assert!(headers.get("transfer-encoding").is_none() && headers.get("connection").is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_not_whole_is_waited_for_and_what_is_wrong_is_refused() {
        assert!(read("HTTP/1.1 200 OK\r\nContent-Le").unwrap().is_none());
        assert!(read("HTTP/1.1 100 Continue\r\n\r\n").unwrap().is_none());
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_about_the_connection_goes_no_further() {
        let text = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nX-Other: 2\r\n\
                    Upgrade: h2c\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n";
        let (_, _, _, headers, _) = read(text).unwrap().unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["set-cookie", "x-other"]);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        let text = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let (_, _, _, headers, _) = read(text).unwrap().unwrap();
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }
}
