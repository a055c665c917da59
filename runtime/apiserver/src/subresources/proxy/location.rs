//! What a proxied URL names, and how links lead back through the proxy.

/// How a backend is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Scheme, name and port in `name`, `name:port` or `scheme:name:port`; `None` for anything else.
pub(crate) fn split(id: &str) -> Option<(Scheme, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    (!name.is_empty()).then_some((scheme, name, port))
}

/// Splits a path behind its `count` first segments: what the server reads of it, and the rest, as it was written.
pub(crate) fn rest(path: &str, count: usize) -> (&str, &str) {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).nth(count - 1);
    path.split_at(ends.unwrap_or(path.len()))
}

/// Where a redirection or link of the backend leads, seen from the client; `None` where it stays as it is. Only one to the host that
/// the client asked keeps its host.
pub(super) fn rewritten(to: &str, public: &str, backend: &str, host: &str) -> Option<String> {
    let from = match to.find("://") {
        Some(at) => at + 3,
        None if to.starts_with("//") => 2,
        None => 0,
    };
    let until = if from == 0 { 0 } else { to[from..].find(['/', '?', '#']).map_or(to.len(), |at| from + at) };
    let (authority, path) = (&to[from..until], &to[until..]);
    let elsewhere = !authority.is_empty() && authority != backend && authority != host;
    if elsewhere || !path.starts_with('/') {
        return None;
    }
    let before = if authority == host { &to[..until] } else { "" };
    let public = if path.starts_with(public) { "" } else { public };
    Some(format!("{before}{public}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_a_scheme_before_them_and_a_port_behind() {
        let rows = [
            ("pod", Some((Scheme::Http, "pod", ""))),
            ("pod:80", Some((Scheme::Http, "pod", "80"))),
            ("https:pod:443", Some((Scheme::Https, "pod", "443"))),
            ("http:pod:", Some((Scheme::Http, "pod", ""))),
            (":pod:80", Some((Scheme::Http, "pod", "80"))),
            ("ftp:pod:80", None),
            (":80", None),
            ("a:b:c:d", None),
            ("", None),
        ];
        for (id, expected) in rows {
            assert_eq!(split(id), expected, "{id}");
        }
    }

    #[test]
    fn the_rest_of_a_path_is_what_follows_the_proxy() {
        let head = "/api/v1/namespaces/d/pods/p/proxy";
        for tail in ["", "/", "/a%2Fb/c", "//x"] {
            assert_eq!(rest(&format!("{head}{tail}"), 7), (head, tail));
        }
        assert_eq!(rest("/api/v1/nodes/n/proxy/stats/", 5), ("/api/v1/nodes/n/proxy", "/stats/"));
    }

    #[test]
    fn redirections_to_the_same_host_stay_behind_the_proxy() {
        let public = "/api/v1/namespaces/d/pods/p/proxy";
        let rows = [
            ("/login?x=1", Some("/api/v1/namespaces/d/pods/p/proxy/login?x=1")),
            ("http://10.0.0.5:80/login", Some("/api/v1/namespaces/d/pods/p/proxy/login")),
            ("https://hub:6443/login", Some("https://hub:6443/api/v1/namespaces/d/pods/p/proxy/login")),
            ("//10.0.0.5:80/a", Some("/api/v1/namespaces/d/pods/p/proxy/a")),
            ("http://example.org/login", None),
            ("login", None),
        ];
        for (to, expected) in rows {
            assert_eq!(rewritten(to, public, "10.0.0.5:80", "hub:6443").as_deref(), expected, "{to}");
        }
    }
}
