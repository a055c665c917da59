//! Where a client is sent instead, and what paths become, as HTTPRoutes say.

use http::HeaderValue;

use super::{Client, target};
use crate::routes::{PathChange, Redirect};

/// The URL that a client is to ask for instead. `path` is that of the request, with how many bytes of it the rule covers.
pub(super) fn location(
    redirect: &Redirect,
    client: &Client,
    host: &str,
    (path, covered): (&str, usize),
    query: Option<&str>,
) -> HeaderValue {
    let own = if client.is_tls { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let host = redirect.host.as_deref().unwrap_or(host);
    // Another scheme leads to its own port; otherwise the client stays at the listener's.
    let port = redirect.port.or_else(|| redirect.scheme.is_none().then_some(client.port));
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = port.filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    let target = changed(redirect.path.as_ref(), path, covered, query);
    let url = [scheme, "://", open, host, close, &port, &target].concat();
    HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static("/"))
}

/// A path and query with the change made.
pub(super) fn changed(change: Option<&PathChange>, path: &str, covered: usize, query: Option<&str>) -> String {
    match change {
        None => target::rewritten(path, query, 0, ""),
        Some(PathChange::Whole(with)) => target::rewritten(path, query, path.len(), with),
        Some(PathChange::Prefix(with)) => target::rewritten(path, query, covered, with),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_client_is_sent_where_the_rule_says() {
        let path = |with: &str| Some(PathChange::Prefix(with.into()));
        let whole = |with: &str| Some(PathChange::Whole(with.into()));
        for (scheme, host, port, path, listener, is_tls, expected) in [
            (None, Some("b.com"), None, None, 80, false, "http://b.com/old/x?q=1"),
            (None, Some("b.com"), None, None, 8080, false, "http://b.com:8080/old/x?q=1"),
            (None, Some("b.com"), None, None, 443, true, "https://b.com/old/x?q=1"),
            (Some("https"), None, None, None, 8080, false, "https://a.com/old/x?q=1"),
            (Some("https"), None, Some(8443), None, 80, false, "https://a.com:8443/old/x?q=1"),
            (Some("http"), None, Some(80), None, 443, true, "http://a.com/old/x?q=1"),
            (None, None, None, path("/new"), 80, false, "http://a.com/new/x?q=1"),
            (None, None, None, path("/"), 80, false, "http://a.com/x?q=1"),
            (None, None, None, whole("/one"), 80, false, "http://a.com/one?q=1"),
        ] {
            let redirect = Redirect {
                scheme: scheme.map(Box::from),
                host: host.map(Box::from),
                port,
                path,
                status: StatusCode::FOUND,
            };
            let client = Client::new([192, 0, 2, 1].into(), listener, is_tls);
            let found = location(&redirect, &client, "a.com", ("/old/x", 4), Some("q=1"));
            assert_eq!(found, expected);
        }
    }
}
