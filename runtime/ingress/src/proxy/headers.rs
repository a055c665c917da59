//! What of a request's headers is handed on, and what is added.

use std::fmt::Write as _;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use kiln_apimachinery::net::Cidr;

use super::Client;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Whether a header is about one connection only (RFC 9110, 7.6.1).
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == HTTP2_SETTINGS
}

/// Whether a header's list holds a word.
pub(super) fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// What the client wants the connection to become, if it asks for that.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(header::UPGRADE)?;
    lists(headers, &header::CONNECTION, "upgrade").then(|| wanted.clone())
}

/// Drops what is about the client's connection only.
pub(super) fn strip(headers: &mut HeaderMap) {
    // Names that the client's `Connection` lists, if it lists more than the usual.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|token| !["keep-alive", "close", "upgrade", "te"].iter().any(|usual| token.eq_ignore_ascii_case(usual)))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        // These are no client's to take away.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in &named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HTTP2_SETTINGS,
        // The answer to it was given already, when the body was asked for.
        header::EXPECT,
    ] {
        headers.remove(name);
    }
    // HTTP/2 may have it in pieces (RFC 9113, 8.2.3).
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
            headers.insert(header::COOKIE, whole);
        }
    }
}

/// Says on whose behalf the request is made. What the client says about that itself holds only if it is one of `trusted`.
pub(super) fn forward(headers: &mut HeaderMap, client: &Client, trusted: &[Cidr]) {
    let is_trusted = trusted.iter().any(|network| network.contains(client.address));
    let before = headers.remove(FOR).filter(|_| is_trusted);
    let address = client.text.clone();
    // What is set here, and the prefix.
    headers.reserve(6);
    let whole = match before.as_ref().and_then(|before| before.to_str().ok()) {
        Some(before) => {
            let mut whole = String::with_capacity(before.len() + 2 + address.len());
            _ = write!(whole, "{before}, {}", client.address);
            HeaderValue::try_from(whole).unwrap_or_else(|_| address.clone())
        }
        None => address.clone(),
    };
    headers.insert(FOR, whole);
    let host = headers.get(header::HOST).cloned();
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if is_trusted && headers.contains_key(&name) {
            return;
        }
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    };
    set(REAL_IP, Some(address));
    set(HOST, host);
    set(PROTO, Some(HeaderValue::from_static(if client.is_tls { "https" } else { "http" })));
    let port = match client.port {
        80 => HeaderValue::from_static("80"),
        443 => HeaderValue::from_static("443"),
        other => other.into(),
    };
    set(PORT, Some(port));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn client() -> Client {
        Client::new([192, 0, 2, 7].into(), 443, true)
    }

    #[test]
    fn what_is_about_one_connection_goes_no_further() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "close, X-Own, Host"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "5"),
            ("expect", "100-continue"),
            ("x-other", "2"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        strip(&mut headers);
        assert_eq!(headers, map(&[("host", "a"), ("x-other", "2"), ("cookie", "a=1; b=2")]));
    }

    #[test]
    fn who_is_not_trusted_cannot_speak_for_others() {
        let sent = [
            ("host", "a.com"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-proto", "gopher"),
        ];
        let mut headers = map(&sent);
        forward(&mut headers, &client(), &[]);
        for (name, expected) in [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-real-ip", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.com"),
            ("x-forwarded-port", "443"),
        ] {
            assert_eq!(headers[name], expected, "{name}");
        }
        let mut headers = map(&sent);
        forward(&mut headers, &client(), &["192.0.2.0/24".parse().unwrap()]);
        for (name, expected) in [
            ("x-forwarded-for", "1.2.3.4, 192.0.2.7"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-port", "443"),
        ] {
            assert_eq!(headers[name], expected, "{name}");
        }
    }
}
