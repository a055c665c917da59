//! What a request is for: its host and its path, as rules see them.

use std::borrow::Cow;

use http::header;
use http::request::Parts;
use http::uri::PathAndQuery;

/// A path and query: the client's own, which is shared with its request, or another.
#[derive(Clone)]
pub(super) enum Target {
    Same(PathAndQuery),
    Other(String),
}

impl std::ops::Deref for Target {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Same(target) => target.as_str(),
            Self::Other(target) => target,
        }
    }
}

/// The host, in lower case and without a port; empty if the request names none. None if the request names several or, though it
/// must, none at all.
pub(super) fn host(parts: &Parts) -> Option<Cow<'_, str>> {
    let named = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut values = parts.headers.get_all(header::HOST).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => value.to_str().ok()?,
                (None, _) if parts.version < http::Version::HTTP_11 => "",
                _ => return None,
            }
        }
    };
    let named = named.rsplit('@').next().unwrap_or(named);
    let name = match named.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => named.split(':').next().unwrap_or(named),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    Some(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

/// The path without `.` and `..`, so that none leads out of what a rule covers (RFC 3986, 5.2.4 and 6.2.2.3).
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    let has_dots = path.split('/').any(|segment| dots(segment) > 0);
    if !has_dots {
        return Cow::Borrowed(path);
    }
    let mut segments = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = dots(segment) > 0;
        match dots(segment) {
            0 => segments.push(segment),
            1 => {}
            _ => _ = segments.pop(),
        }
    }
    if ends_open {
        segments.push("");
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// How many dots a segment is, each as it is or escaped; 0 if it is something else, or more than two.
fn dots(segment: &str) -> usize {
    if !matches!(segment.as_bytes().first(), Some(b'.' | b'%')) || segment.len() > 6 {
        return 0;
    }
    let (mut rest, mut count) = (segment.as_bytes(), 0);
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return 0,
        };
        count += 1;
    }
    if count > 2 { 0 } else { count }
}

/// The path and query for the endpoint: `covered` bytes of the path give way to `with`.
pub(super) fn rewritten(path: &str, query: Option<&str>, covered: usize, with: &str) -> String {
    let rest = path.get(covered..).unwrap_or_default();
    let with = if rest.starts_with('/') { with.trim_end_matches('/') } else { with };
    let slash = if with.is_empty() && !rest.starts_with('/') { "/" } else { "" };
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    [slash, with, rest, mark, query].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_host_is_told_without_its_port_and_in_lower_case() {
        for (uri, hosts, expected) in [
            ("/", &["foo.com"][..], Some("foo.com")),
            ("/", &["FOO.com:8080"], Some("foo.com")),
            ("/", &["foo.com."], Some("foo.com")),
            ("/", &["[2001:DB8::1]:80"], Some("2001:db8::1")),
            ("/", &[""], Some("")),
            ("/", &[], None),
            ("/", &["a.com", "b.com"], None),
            ("http://a.com/x", &["b.com"], Some("a.com")),
        ] {
            assert_eq!(host(&parts(uri, hosts)).as_deref(), expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn no_dots_lead_out_of_a_path() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b/..", "/a/"),
            ("/../../x", "/x"),
            ("/a/./b/.", "/a/b/"),
            ("/a/...", "/a/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a%2fb", "/a%2fb"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn the_covered_part_of_a_path_gives_way() {
        for (path, covered, with, expected) in [
            ("/api/v1", 4, "", "/v1"),
            ("/api", 4, "", "/"),
            ("/api/", 4, "", "/"),
            ("/api/v1", 4, "/new", "/new/v1"),
            ("/api/v1", 4, "/new/", "/new/v1"),
            ("/api", 4, "/new/", "/new/"),
            ("/x", 0, "/new", "/new/x"),
        ] {
            assert_eq!(rewritten(path, None, covered, with), expected, "{path} {with}");
        }
        assert_eq!(rewritten("/api/x", Some("q=1"), 4, ""), "/x?q=1");
    }
}
