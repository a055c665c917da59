//! Acting as someone else, for those who may: by the `impersonate` verb on every name they take, or, as Kubernetes 1.36
//! has it, within limits ([`modes`]): as this kind of user and for this kind of request only.

mod modes;

use std::collections::BTreeMap;

use ::http::HeaderMap;
use kiln_apimachinery::Status;
use kiln_apimachinery::query::decode;

use crate::authz::Attributes;
use crate::server::ApiServer;
use crate::user::UserInfo;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Someone whom a request wants to act as, as its headers say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    /// True if nothing but the name is asked for.
    fn only_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }
}

/// Whom a request acts as.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Impersonated {
    pub(crate) user: UserInfo,
    /// The verb that limits it; empty for the unlimited way.
    pub(crate) constraint: String,
}

/// The user whom a request may act as and wants to; `None` if it names nobody. `asked` is what it wants to do.
pub(crate) async fn effective(
    server: &ApiServer,
    user: &UserInfo,
    headers: &HeaderMap,
    asked: impl FnOnce() -> Attributes,
) -> Result<Option<Impersonated>, Status> {
    match wanted(headers)? {
        Some(wanted) => modes::check(server, user, &wanted, &asked()).await.map(Some),
        None => Ok(None),
    }
}

fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys().filter(|n| n.as_str().starts_with(EXTRA)) {
        let key = unescape(&name.as_str()[EXTRA.len()..]);
        extra.entry(key).or_default().extend(all(name.as_str()));
    }
    let wanted = Wanted { name: first(USER), uid: first(UID), groups: all(GROUP), extra };
    match (wanted.name.is_empty(), wanted.only_name()) {
        (false, _) => Ok(Some(wanted)),
        (true, true) => Ok(None),
        (true, false) => {
            Err(Status::bad_request(format!("requested {} without impersonating a user name", go_value(&wanted))))
        }
    }
}

/// A key of extra as it stands in a header's name: percent-encoded, or as it is if that is broken.
fn unescape(key: &str) -> String {
    let mut rest = key;
    while let Some((_, after)) = rest.split_once('%') {
        if after.len() < 2 || !after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit) {
            return key.to_owned();
        }
        rest = &after[2..];
    }
    decode(key).into_owned()
}

/// The value as Go prints it, since that is what the message shows.
fn go_value(wanted: &Wanted) -> String {
    let list = |texts: &[String]| match texts {
        [] => "[]string(nil)".to_owned(),
        texts => {
            format!("[]string{{{}}}", texts.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(", "))
        }
    };
    let extra = match wanted.extra.is_empty() {
        true => "map[string][]string(nil)".to_owned(),
        false => {
            let entries: Vec<String> = wanted.extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
            format!("map[string][]string{{{}}}", entries.join(", "))
        }
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:{extra}}}",
        wanted.name,
        wanted.uid,
        list(&wanted.groups)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_keys_unescaped() {
        let mut headers = HeaderMap::new();
        headers.insert("Impersonate-User", "a".parse().unwrap());
        headers.append("Impersonate-Group", "g".parse().unwrap());
        headers.append("Impersonate-Group", "h".parse().unwrap());
        headers.insert("Impersonate-Extra-Example.com%2fScopes", "x".parse().unwrap());
        headers.insert("Impersonate-Extra-Broken%zz", "y".parse().unwrap());
        let found = wanted(&headers).unwrap().unwrap();
        assert_eq!(found.groups, ["g", "h"]);
        assert_eq!(found.extra.keys().collect::<Vec<_>>(), ["broken%zz", "example.com/scopes"]);
        headers.remove("Impersonate-User");
        headers.remove("Impersonate-Extra-Broken%zz");
        assert_eq!(
            wanted(&headers).unwrap_err().message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\", \"h\"}, Extra:map[string][]string{\"example.com/scopes\":[]string{\"x\"}}} without impersonating a user name"
        );
        assert_eq!(wanted(&HeaderMap::new()).unwrap(), None);
    }
}
