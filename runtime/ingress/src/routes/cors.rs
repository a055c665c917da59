//! Which scripts of other origins may use what a rule serves, as its CORS filter says (WHATWG Fetch, "HTTP CORS protocol").

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, request};

/// Seconds that a browser may keep an answer, unless the filter says.
const MAX_AGE: i64 = 5;

/// What scripts may.
#[derive(Debug)]
pub(crate) struct Cors {
    /// Whole origins, and those with a `*` in place of what stands there.
    origins: Vec<String>,
    methods: Allowed,
    headers: Allowed,
    exposed: Option<HeaderValue>,
    has_credentials: bool,
    max_age: HeaderValue,
}

/// Names that are allowed.
#[derive(Debug)]
enum Allowed {
    Any,
    /// As the header has them; none if there are none.
    These(Option<HeaderValue>),
}

impl Allowed {
    fn new(names: &[String]) -> Self {
        if names.iter().any(|name| name == "*") { Self::Any } else { Self::These(joined(names)) }
    }

    /// What a script is told that asks for these. A `*` would not hold for requests with credentials.
    fn told(&self, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::Any => asked.cloned(),
            Self::These(names) => names.clone(),
        }
    }
}

fn joined(names: &[String]) -> Option<HeaderValue> {
    HeaderValue::try_from(names.join(", ")).ok().filter(|value| !value.is_empty())
}

impl Cors {
    pub(crate) fn new(filter: &kiln_gateway::Cors) -> Self {
        Self {
            origins: filter.allow_origins.clone(),
            methods: Allowed::new(&filter.allow_methods),
            headers: Allowed::new(&filter.allow_headers),
            exposed: joined(&filter.expose_headers),
            has_credentials: filter.allow_credentials.unwrap_or(false),
            max_age: filter.max_age.unwrap_or(MAX_AGE).into(),
        }
    }

    /// The headers of the answer to a browser that asks whether a script may do something; none if it does not ask that.
    pub(crate) fn preflight(&self, request: &request::Parts) -> Option<HeaderMap> {
        let origin = request.headers.get(header::ORIGIN)?;
        let method = request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method != Method::OPTIONS {
            return None;
        }
        let mut headers = HeaderMap::new();
        self.apply(Some(origin), &mut headers);
        if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
            let told = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.told(Some(method))),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.told(asked)),
                (header::ACCESS_CONTROL_MAX_AGE, Some(self.max_age.clone())),
            ];
            headers.extend(told.into_iter().filter_map(|(name, value)| Some((name, value?))));
        }
        Some(headers)
    }

    /// Has an answer say what the script may that asked for it, whatever the endpoint said of that.
    pub(crate) fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            headers.remove(name);
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| self.lets_in(origin)) else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.has_credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = &self.exposed {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    fn lets_in(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        self.origins.iter().any(|allowed| match allowed.split_once('*') {
            None => allowed.eq_ignore_ascii_case(origin),
            Some(("", "")) => true,
            Some((before, after)) => {
                let rest = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                let is_of_host = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
                rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_of_host))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_let_in_whole_or_by_a_wildcard_for_its_labels() {
        let cors = |allowed: &str| {
            Cors::new(&kiln_gateway::Cors { allow_origins: vec![allowed.to_owned()], ..Default::default() })
        };
        for (allowed, origin, expected) in [
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://x.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://.bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*.bar.com", "https://evil.com/.bar.com", false),
            ("https://*", "https://foo.com", true),
            ("https://*", "https://foo.com:1", false),
            ("*", "null", true),
            ("*", "https://foo.com:1", true),
        ] {
            assert_eq!(cors(allowed).lets_in(&HeaderValue::from_static(origin)), expected, "{allowed} {origin}");
        }
    }
}
