//! What only the crates themselves can reach, through the doors that they open for fuzzers.

use kiln_apiserver::fuzzing;

/// YAML bodies.
pub(super) fn yaml(data: &[u8]) {
    fuzzing::yaml(data);
}

/// Paths and queries: a method, a space, a path with its query.
pub(super) fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (method, url) = text.split_once(' ').unwrap_or(("GET", text));
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    fuzzing::request(method, path, query);
}

/// The header `Accept`.
pub(super) fn accept(data: &[u8]) {
    fuzzing::accept(data);
}

/// Policies of the audit log.
pub(super) fn audit_policy(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        fuzzing::audit_policy(text);
    }
}

/// Tokens, and the keys that they are checked with.
pub(super) fn token(data: &[u8]) {
    if let Some([token, keys]) = super::parts(data) {
        fuzzing::token(token, keys);
    }
}

/// Certificates of clients.
pub(super) fn certificate(data: &[u8]) {
    fuzzing::certificate(data);
}

/// Where lists go on.
pub(super) fn continue_token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        fuzzing::continue_token(text);
    }
}

/// What etcd answers.
pub(super) fn etcd(data: &[u8]) {
    kiln_storage::etcd::fuzzing::answers(data);
}

/// What a peer sends on a SPDY connection.
pub(super) fn spdy(data: &[u8]) {
    kiln_spdy::fuzzing::read(data);
}
