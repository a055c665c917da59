//! Annotations by which Ingresses ask for certificates, and those on the Secrets that get them.
//!
//! One controller writes the Secrets; every node serves their certificates, and the answers to challenges while one is being made.

use std::collections::BTreeMap;

/// On an Ingress: `true` asks for certificates for the hosts of its `spec.tls`.
pub const ASKS: &str = "kiln.dev/tls-acme";
/// On a Secret: that it is the controller's, and the directory of the server that its certificate is from.
pub const DIRECTORY: &str = "kiln.dev/acme-directory";
/// On a Secret while its certificate is being made: answers to challenges by their tokens, as JSON. They are no secrets.
pub const CHALLENGES: &str = "kiln.dev/acme-challenges";
/// On a Secret: what was tried last and did not end well yet, as JSON.
pub const ATTEMPT: &str = "kiln.dev/acme-attempt";

/// What a server asks for at each name, with a token behind it (RFC 8555, 8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// Annotations as objects have them.
type Annotations = BTreeMap<String, String>;

/// Whether an Ingress with these annotations asks for certificates.
pub fn asks(annotations: Option<&Annotations>) -> bool {
    annotations.and_then(|all| all.get(ASKS)).is_some_and(|text| text.trim() == "true")
}

/// The answers to challenges that a Secret with these annotations holds, by their tokens.
pub fn answers(annotations: Option<&Annotations>) -> BTreeMap<String, String> {
    let text = annotations.and_then(|all| all.get(CHALLENGES));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The token that a request's path asks for, if it is one.
pub fn token(path: &str) -> Option<&str> {
    path.strip_prefix(WELL_KNOWN).filter(|token| is_token(token))
}

/// Whether this is a token: base64url and nothing else, since it becomes a part of a path.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_and_what_is_none_is_nothing() {
        let with = |name: &str, text: &str| Some(BTreeMap::from([(name.to_owned(), text.to_owned())]));
        for (text, expected) in [("true", true), (" true", true), ("false", false), ("yes", false)] {
            assert_eq!(asks(with(ASKS, text).as_ref()), expected, "{text}");
        }
        assert!(!asks(None));
        assert_eq!(answers(with(CHALLENGES, r#"{"t":"t.x"}"#).as_ref())["t"], "t.x");
        assert!(answers(with(CHALLENGES, "[").as_ref()).is_empty() && answers(None).is_empty());
        for (path, expected) in [
            ("/.well-known/acme-challenge/a-_9", Some("a-_9")),
            ("/.well-known/acme-challenge/", None),
            ("/.well-known/acme-challenge/a/b", None),
            ("/other/a", None),
        ] {
            assert_eq!(token(path), expected, "{path}");
        }
    }
}
