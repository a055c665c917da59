//! Doors into this crate for fuzzers, which are no part of what it offers. Each reads what came over the network as the server
//! does, and panics if what it read breaks a rule.

use ::http::HeaderMap;
use ::http::Method;
use ::http::header::{ACCEPT, HeaderValue};
use kiln_apimachinery::query::Query;

use crate::audit::policy::Policy;
use crate::authn::accounts::claims::Bound;
use crate::authn::certificate;
use crate::authn::jwt::Unverified;
use crate::authn::jwt::keys::Key;
use crate::http::negotiate;
use crate::request_info::RequestInfo;
use crate::user::UserInfo;
use crate::verbs::paging::Continue;

/// A method, a path and a query: a name in the path is one segment, and the request has a verb.
pub fn request(method: &str, path: &str, query: &str) {
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let query = Query::parse(query);
    for key in ["labelSelector", "limit", "continue", ""] {
        assert!(query.get(key).is_none() || query.has(key));
        assert!(query.all(key).count() > 0 || !query.flag(key));
    }
    let info = RequestInfo::new(&method, path, &query);
    assert_eq!(info.path, path);
    assert!(info.is_resource || info.resource.is_empty());
    assert!(!info.named || !info.name.is_empty());
    _ = info.is_long_running();
}

/// The header `Accept`: a refusal, or a form that the server can write.
pub fn accept(value: &[u8]) {
    let mut headers = HeaderMap::new();
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    headers.insert(ACCEPT, value);
    let (any, json) = (negotiate::accepted(&headers), negotiate::accepted_but_protobuf(&headers));
    if let Ok(found) = json {
        assert!(found.encoding != negotiate::Encoding::Protobuf && any.is_ok());
    }
}

/// A YAML body; what is read can be written as JSON.
pub fn yaml(body: &[u8]) {
    if let Ok(read) = negotiate::from_yaml(body) {
        let text = read.value.to_string();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(read.value));
    }
}

/// A policy of the audit log, asked about a few requests.
pub fn audit_policy(text: &str) {
    let Ok(policy) = Policy::parse(text) else { return };
    let nobody = UserInfo::anonymous();
    for path in ["/api/v1/namespaces/default/pods/a/log", "/healthz", "/apis/apps/v1/deployments"] {
        policy.scope(&nobody, &RequestInfo::new(&Method::GET, path, &Query::default()));
    }
}

/// A token and a set of keys: no key of anybody's signed a token that was made up.
pub fn token(token: &str, keys: &str) {
    let keys = serde_json::from_str(keys).map(|set| Key::set(&set)).unwrap_or_default();
    for key in &keys {
        _ = (key.to_jwk(), key.signs_with());
    }
    let Some(token) = Unverified::parse(token) else { return };
    _ = (token.key_id(), token.algorithm());
    _ = keys.iter().any(|key| token.is_signed_by(key));
    let claims = token.into_claims();
    _ = (claims.audiences(), claims.text("sub"), claims.check_times(jiff::Timestamp::UNIX_EPOCH));
    _ = Bound::read(&claims);
}

/// A certificate in DER; its user has a name.
pub fn certificate(der: &[u8]) {
    if let Some(user) = certificate::user(der) {
        assert!(!user.name.is_empty());
    }
}

/// A token that says where a list goes on: what is taken is written as what is taken again.
pub fn continue_token(text: &str) {
    let Ok(read) = Continue::parse(text) else { return };
    let Ok(again) = Continue::parse(&read.token()) else { panic!("{text:?} is not read again") };
    assert_eq!((again.rv, &again.start), (read.rv, &read.start));
    assert!(!read.start.split('/').any(|part| part == ".."));
}
