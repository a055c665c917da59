//! JSON for people: with line breaks and indentation, as the query or a browser asks for.

use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use ::http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::body::{Body, full};

/// Programs behind which there is a reader.
const READERS: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// Documents that the reference always writes for readers.
const ALWAYS: [&str; 2] = ["/", "/version"];

/// True if the answer is for a reader: `pretty` of the query, or else who asks.
pub(crate) fn wanted(path: &str, asked: Option<&str>, request: &HeaderMap) -> bool {
    match asked {
        _ if ALWAYS.contains(&path) => true,
        Some(text) => matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => {
            let agent = request.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            READERS.iter().any(|reader| agent.starts_with(reader))
        }
    }
}

/// The same answer with its JSON indented. Streams and compressed bodies stay as they are.
pub(crate) async fn indented(response: Response<Body>) -> Response<Body> {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let whole = response.body().size_hint().exact().is_some_and(|size| size > 0);
    if !json || !whole || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A body of a known size is in memory; one that fails all the same is cut short, as it would have been.
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, full(indent(&bytes)))
}

/// Two blanks for each level, and one behind each colon.
fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    let mut opened = false;
    for &byte in json {
        if in_text {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(byte, b'}' | b']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        // What is empty stays on its line.
        if opened != closes {
            line(&mut out, depth);
        }
        opened = matches!(byte, b'{' | b'[');
        out.push(byte);
        match byte {
            b'{' | b'[' => depth += 1,
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            b'"' => in_text = true,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_its_texts_are_left_alone() {
        let json = br#"{"a":{},"b":[1,{"c":"x{\",:}"}],"d":[]}"#;
        let expected =
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": \"x{\\\",:}\"\n    }\n  ],\n  \"d\": []\n}";
        assert_eq!(String::from_utf8(indent(json)).unwrap(), expected);
    }

    #[test]
    fn readers_get_it_unless_they_say_otherwise() {
        let agent = |text: &str| HeaderMap::from_iter([(USER_AGENT, text.parse().unwrap())]);
        assert!(wanted("/api", None, &agent("curl/8.14")) && !wanted("/api", None, &agent("kubectl/v1.36")));
        assert!(wanted("/api", Some("true"), &agent("x")) && !wanted("/api", Some("false"), &agent("curl/8.14")));
        assert!(wanted("/version", None, &agent("x")));
    }
}
