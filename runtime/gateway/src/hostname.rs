//! Hostnames of listeners and routes: whole ones, and those with a wildcard for one or more labels in front.

/// The hostnames that both a listener and a route are for, in lower case. An empty one is for all; none if they have none in common.
pub fn intersection(listener: &str, route: &str) -> Option<String> {
    let (listener, route) = (listener.to_ascii_lowercase(), route.to_ascii_lowercase());
    let covers = |wide: &str, narrow: &str| {
        // What stands behind the star begins with a dot, and the star stands for at least a label.
        wide.strip_prefix('*').is_some_and(|rest| narrow.len() > rest.len() && narrow.ends_with(rest))
    };
    if listener.is_empty() || listener == route || covers(&listener, &route) {
        Some(route)
    } else if route.is_empty() || covers(&route, &listener) {
        Some(listener)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_meet_as_the_api_has_it() {
        for (listener, route, expected) in [
            ("", "", Some("")),
            ("", "a.com", Some("a.com")),
            ("a.com", "", Some("a.com")),
            ("A.com", "a.COM", Some("a.com")),
            ("a.com", "b.com", None),
            ("*.a.com", "x.a.com", Some("x.a.com")),
            ("*.a.com", "x.y.a.com", Some("x.y.a.com")),
            ("*.a.com", "a.com", None),
            ("*.a.com", "xa.com", None),
            ("x.a.com", "*.a.com", Some("x.a.com")),
            ("*.a.com", "*.x.a.com", Some("*.x.a.com")),
            ("*.x.a.com", "*.a.com", Some("*.x.a.com")),
            ("*.a.com", "*.b.com", None),
        ] {
            assert_eq!(intersection(listener, route).as_deref(), expected, "{listener} {route}");
        }
    }
}
