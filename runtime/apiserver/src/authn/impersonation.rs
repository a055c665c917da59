//! Acting as someone else, for those who hold `impersonate` on every name they take.

use std::collections::BTreeMap;

use ::http::HeaderMap;
use kiln_apimachinery::Status;

use crate::authz::{Attributes, require};
use crate::query::decode;
use crate::server::ApiServer;
use crate::user::{AUTHENTICATED, UNAUTHENTICATED, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user whose rights a request has: the one who makes it, or the one it names.
pub(crate) async fn effective(server: &ApiServer, user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).filter(|v| !v.is_empty()).map(Into::into).collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys().filter(|n| n.as_str().starts_with(EXTRA)) {
        let key = decode(&name.as_str()[EXTRA.len()..]).into_owned();
        extra.insert(key, all(name.as_str()));
    }
    let (names, groups, uids) = (all(USER), all(GROUP), all(UID));
    let Some(name) = names.into_iter().next() else {
        if groups.is_empty() && uids.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request("requested groups, uid or extra without impersonating a user"));
    };
    let account = name.strip_prefix(ACCOUNT).and_then(|a| a.split_once(':'));
    let mut asked = vec![match account {
        Some((namespace, name)) => Attributes::resource("impersonate", "", "serviceaccounts", namespace, name),
        None => Attributes::resource("impersonate", "", "users", "", &name),
    }];
    asked.extend(groups.iter().map(|g| Attributes::resource("impersonate", "", "groups", "", g)));
    asked.extend(uids.iter().map(|u| Attributes::resource("impersonate", AUTHENTICATION, "uids", "", u)));
    for (key, values) in &extra {
        asked.extend(values.iter().map(|v| Attributes {
            subresource: key.clone(),
            ..Attributes::resource("impersonate", AUTHENTICATION, "userextras", "", v)
        }));
    }
    for what in &asked {
        require(server, &user, what).await?;
    }
    let mut groups = groups;
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    }
    let anonymous = name == UserInfo::anonymous().name;
    let must = if anonymous { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|g| g == must) {
        groups.push(must.into());
    }
    Ok(UserInfo { name, uid: uids.into_iter().next().unwrap_or_default(), groups, extra })
}
