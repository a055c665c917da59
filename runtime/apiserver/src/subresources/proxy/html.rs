//! Links in proxied pages, as far as they begin at the root of the backend's host, lead through the proxy. A page flows on as it
//! comes in: only a tag that is not whole yet is kept back.

use std::io::Write;

use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use ::http::{HeaderMap, Response};
use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder};
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Incoming};

use crate::http::body::{Body, BoxError};
use crate::http::stream as streaming;

/// The most of a tag or comment that is kept back; what is longer is none.
const LONGEST: usize = 1 << 20;

/// Attributes that hold a URL, by their elements (HTML 4 and 5).
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose contents are text, whatever they look like.
const TEXTS: &[&str] = &["script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"];

/// Where a link leads through the proxy; `None` where it stays as it is.
pub(super) type Rewrite = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a page is packed in.
enum Packing {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>),
}

impl Packing {
    /// That of a response; `None` for one that nobody here can open.
    fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?")) {
            "" | "identity" => Some(Self::Plain),
            "gzip" => Some(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            "deflate" => Some(Self::Deflate(DeflateDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    fn open(&mut self, data: Bytes) -> std::io::Result<Bytes> {
        let opened = match self {
            Self::Plain => return Ok(data),
            Self::Gzip(decoder) => {
                unpack(decoder, &data)?;
                decoder.get_mut()
            }
            Self::Deflate(decoder) => {
                unpack(decoder, &data)?;
                decoder.get_mut()
            }
        };
        Ok(std::mem::take(opened).into())
    }
}

fn unpack(decoder: &mut impl Write, data: &[u8]) -> std::io::Result<()> {
    decoder.write_all(data)?;
    decoder.flush()
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim() == "text/html"
}

/// The response with its page's links rewritten, if it is a page.
pub(super) fn rewritten(response: Response<Incoming>, rewrite: Rewrite) -> Response<Body> {
    let packing = if is_html(response.headers()) { Packing::of(response.headers()) } else { None };
    let Some(packing) = packing else { return response.map(|body| body.map_err(Into::into).boxed()) };
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(CONTENT_ENCODING);
    Response::from_parts(parts, page(body, packing, rewrite))
}

/// The body of a page with its links rewritten. Where the page breaks off, so does this.
fn page<B>(body: B, packing: Packing, rewrite: Rewrite) -> Body
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let page = Page { body, packing, rewriter: Rewriter { rewrite, kept: Vec::new(), within: None }, ended: false };
    let next = |mut page: Page<B>| async move { page.next().await.map(|data| (data, page)) };
    streaming::fallible(stream::unfold(page, next))
}

struct Page<B> {
    body: B,
    packing: Packing,
    rewriter: Rewriter,
    ended: bool,
}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin> Page<B> {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        while !self.ended {
            match self.step().await {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Some(Ok(out.into())),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    async fn step(&mut self) -> Result<Vec<u8>, BoxError> {
        let frame = self.body.frame().await.transpose().map_err(Into::into)?;
        self.ended = frame.is_none();
        let data = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        let data = self.packing.open(data)?;
        Ok(self.rewriter.feed(&data, self.ended))
    }
}

struct Rewriter {
    rewrite: Rewrite,
    /// The beginning of what is not whole yet.
    kept: Vec<u8>,
    /// The element whose text is being read.
    within: Option<&'static str>,
}

/// What begins at a `<`.
enum Markup {
    /// A tag or comment of this many bytes.
    Whole(usize),
    /// More must come to tell.
    Part,
    /// A `<` and no more.
    Text,
}

impl Rewriter {
    /// Takes the next part of a page; answers what can be sent on.
    fn feed(&mut self, data: &[u8], last: bool) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.kept);
        input.extend_from_slice(data);
        let mut out = Vec::with_capacity(input.len() + 64);
        let mut rest = input.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            let len = match self.markup(rest) {
                Markup::Whole(len) => len,
                Markup::Part if last || rest.len() > LONGEST => 1,
                Markup::Part => {
                    self.kept = rest.to_vec();
                    return out;
                }
                Markup::Text => 1,
            };
            let (tag, after) = rest.split_at(len);
            self.tag(tag, &mut out);
            rest = after;
        }
        out.extend_from_slice(rest);
        out
    }

    fn markup(&self, rest: &[u8]) -> Markup {
        if let Some(element) = self.within {
            // Nothing but its own end ends it.
            let end = [b"</", element.as_bytes()].concat();
            let seen = rest.len().min(end.len());
            return match rest[..seen].eq_ignore_ascii_case(&end[..seen]) {
                true if seen < end.len() => Markup::Part,
                true => closed(rest),
                false => Markup::Text,
            };
        }
        match rest {
            [b'<'] | [b'<', b'!'] | [b'<', b'!', b'-'] => Markup::Part,
            [b'<', b'!', b'-', b'-', text @ ..] => match text.windows(3).position(|end| end == b"-->") {
                Some(at) => Markup::Whole(4 + at + 3),
                None => Markup::Part,
            },
            [b'<', b'a'..=b'z' | b'A'..=b'Z', ..] => closed(rest),
            _ => Markup::Text,
        }
    }

    /// Writes a tag, with its links rewritten.
    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        if self.within.is_some() {
            if tag.len() > 1 {
                self.within = None;
            }
            return out.extend_from_slice(tag);
        }
        let Some(Ok(text)) = tag.strip_prefix(b"<").filter(|_| tag.len() > 1).map(std::str::from_utf8) else {
            return out.extend_from_slice(tag);
        };
        let name_end = text.find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>')).unwrap_or(text.len());
        let name = text[..name_end].to_ascii_lowercase();
        if let Some(element) = TEXTS.iter().find(|element| **element == name)
            && !text.ends_with("/>")
        {
            self.within = Some(element);
        }
        let Some((_, links)) = LINKS.iter().find(|(element, _)| *element == name) else {
            return out.extend_from_slice(tag);
        };
        out.push(b'<');
        let mut written = 0;
        for (attribute, start, end) in attributes(text, name_end) {
            let value = &text[start..end];
            let wanted = links.iter().any(|link| attribute.eq_ignore_ascii_case(link));
            if let Some(to) = wanted.then(|| (self.rewrite)(value)).flatten() {
                out.extend_from_slice(&text.as_bytes()[written..start]);
                out.extend_from_slice(to.as_bytes());
                written = end;
            }
        }
        out.extend_from_slice(&text.as_bytes()[written..]);
    }
}

/// The end of a tag: a `>` that is in no attribute's quotes.
fn closed(rest: &[u8]) -> Markup {
    let mut quote = None;
    let mut before = 0;
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            // Elsewhere a quote is a part of a name.
            (None, b'"' | b'\'') if before == b'=' => quote = Some(*byte),
            (None, b'>') => return Markup::Whole(at + 1),
            (None, _) => {}
        }
        if !byte.is_ascii_whitespace() {
            before = *byte;
        }
    }
    Markup::Part
}

/// The attributes of a tag from there on: their names, and where their values begin and end.
fn attributes(tag: &str, from: usize) -> Vec<(&str, usize, usize)> {
    let bytes = tag.as_bytes();
    let skip = |at: usize, is: &dyn Fn(u8) -> bool| at + bytes[at..].iter().take_while(|byte| is(**byte)).count();
    let is_space = |byte: u8| byte.is_ascii_whitespace();
    let (mut found, mut at) = (Vec::new(), from);
    loop {
        at = skip(at, &|byte| is_space(byte) || byte == b'/');
        let name_end = skip(at, &|byte| !is_space(byte) && !matches!(byte, b'/' | b'=' | b'>'));
        let name = &tag[at..name_end];
        let equals = skip(name_end, &is_space);
        match bytes.get(equals) {
            Some(b'=') => {}
            None | Some(b'>') => return found,
            Some(_) => {
                at = equals;
                continue;
            }
        }
        let value = skip(equals + 1, &is_space);
        let (start, end) = match bytes.get(value) {
            Some(quote @ (b'"' | b'\'')) => (value + 1, skip(value + 1, &|byte| byte != *quote)),
            _ => (value, skip(value, &|byte| !is_space(byte) && byte != b'>')),
        };
        found.push((name, start, end));
        at = (end + usize::from(start > value)).min(bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewriting(parts: &[&str]) -> String {
        let rewrite: Rewrite = Box::new(|link| link.starts_with('/').then(|| format!("/proxy{link}")));
        let mut rewriter = Rewriter { rewrite, kept: Vec::new(), within: None };
        let mut out = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            out.extend(rewriter.feed(part.as_bytes(), index + 1 == parts.len()));
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_from_the_root_lead_through_the_proxy() {
        let rows = [
            (r#"<a href="/x">t</a>"#, r#"<a href="/proxy/x">t</a>"#),
            ("<A\n HREF = '/x' title=/y>", "<A\n HREF = '/proxy/x' title=/y>"),
            ("<img alt='>' src=/a.png>", "<img alt='>' src=/proxy/a.png>"),
            ("<input disabled src='/a'/>", "<input disabled src='/proxy/a'/>"),
            ("<video poster=/p src=/v controls>", "<video poster=/proxy/p src=/proxy/v controls>"),
            (r#"<a href="x"><p href="/x">1 < 2 <b>"#, r#"<a href="x"><p href="/x">1 < 2 <b>"#),
            ("<!-- <a href=/x> --><a href=/y>", "<!-- <a href=/x> --><a href=/proxy/y>"),
            (
                r#"<script src="/s.js">"<a href=/x>"</SCRIPT><a href=/y>"#,
                r#"<script src="/proxy/s.js">"<a href=/x>"</SCRIPT><a href=/proxy/y>"#,
            ),
            ("<title><a href=/x></title><link href=/l>", "<title><a href=/x></title><link href=/proxy/l>"),
            ("<a href=/x", "<a href=/x"),
            ("<a href=>", "<a href=>"),
            ("<a href=\"/x", "<a href=\"/x"),
            ("<a =/x href=/y>", "<a =/x href=/proxy/y>"),
            ("", ""),
        ];
        for (html, expected) in rows {
            assert_eq!(rewriting(&[html]), expected);
            // However it is cut.
            for at in 0..=html.len() {
                assert_eq!(rewriting(&[&html[..at], &html[at..]]), expected, "cut at {at}");
            }
        }
    }

    #[tokio::test]
    async fn a_page_that_breaks_off_does_not_end_as_if_it_were_whole() {
        let frame =
            |text: &'static str| Ok::<_, BoxError>(hyper::body::Frame::data(Bytes::from_static(text.as_bytes())));
        let gzip = || Packing::Gzip(MultiGzDecoder::new(Vec::new()));
        let rows = [
            (Packing::Plain, vec![frame("<a href=/x>"), frame("more")], Some("<a href=/proxy/x>more")),
            (Packing::Plain, vec![frame("<a href=/x>"), Err("gone".into())], None),
            (gzip(), vec![frame("this is not gzip at all")], None),
        ];
        for (packing, frames, expected) in rows {
            let rewrite: Rewrite = Box::new(|link| Some(format!("/proxy{link}")));
            let body = page(http_body_util::StreamBody::new(stream::iter(frames)), packing, rewrite);
            let read = body.collect().await.ok().map(|whole| whole.to_bytes());
            assert_eq!(read.as_deref(), expected.map(str::as_bytes));
        }
    }

    #[test]
    fn pages_are_unpacked_as_they_come() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"<a href=/x>").unwrap();
        let packed: Bytes = packed.finish().unwrap().into();
        let mut packing = Packing::Gzip(MultiGzDecoder::new(Vec::new()));
        let (first, second) = (packing.open(packed.slice(..15)).unwrap(), packing.open(packed.slice(15..)).unwrap());
        assert_eq!([first, second].concat(), b"<a href=/x>");
        let headers = |value| HeaderMap::from_iter([(CONTENT_ENCODING, ::http::HeaderValue::from_static(value))]);
        assert!(Packing::of(&headers("br")).is_none());
    }
}
