//! The ways in which somebody may be impersonated, each with verbs of its own. The narrow ones come first; the refusal
//! tells of the first that fits.

use std::collections::BTreeMap;

use kiln_apimachinery::{Status, names};

use super::{Impersonated, Wanted};
use crate::authn::accounts::{self, split_user_name};
use crate::authz::{Attributes, decide};
use crate::server::ApiServer;
use crate::user::{AUTHENTICATED, MASTERS, NODES, UNAUTHENTICATED, UserInfo};

const AUTHENTICATION: &str = "authentication.k8s.io";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From so many names on, all of them are asked for at once before each is.
const MANY: usize = 4;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A pod's account as the node that the pod runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    /// `impersonate`, without limits.
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

impl Mode {
    /// Its name in verbs; `None` for the one without limits.
    fn name(self) -> Option<&'static str> {
        match self {
            Mode::AssociatedNode => Some("associated-node"),
            Mode::ArbitraryNode => Some("arbitrary-node"),
            Mode::ServiceAccount => Some("serviceaccount"),
            Mode::UserInfo => Some("user-info"),
            Mode::Legacy => None,
        }
    }

    /// True if it is about such users.
    fn fits(self, user: &UserInfo, wanted: &Wanted) -> bool {
        let node = node_name(&wanted.name);
        match self {
            Mode::AssociatedNode => {
                wanted.only_name()
                    && node.is_some()
                    && split_user_name(&user.name).is_some()
                    && user.extra.get(NODE_NAME).is_some_and(|n| n.len() == 1 && Some(n[0].as_str()) == node)
            }
            Mode::ArbitraryNode => wanted.only_name() && node.is_some(),
            Mode::ServiceAccount => wanted.only_name() && split_user_name(&wanted.name).is_some(),
            Mode::UserInfo => node.is_none() && split_user_name(&wanted.name).is_none(),
            Mode::Legacy => true,
        }
    }
}

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|n| names::dns1123_subdomain(n).is_empty())
}

/// Finds the way in which the user may act as `wanted` and do what is asked.
pub(super) async fn check(
    server: &ApiServer,
    user: &UserInfo,
    wanted: &Wanted,
    asked: &Attributes,
) -> Result<Impersonated, Status> {
    let mut first = None;
    for mode in MODES.into_iter().filter(|m| m.fits(user, wanted)) {
        let attempt = Attempt { server, user, wanted, mode };
        match attempt.run(asked).await? {
            Ok(found) => return Ok(found),
            Err(refusal) => {
                first.get_or_insert(refusal);
            }
        }
    }
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// One way tried.
struct Attempt<'a> {
    server: &'a ApiServer,
    user: &'a UserInfo,
    wanted: &'a Wanted,
    mode: Mode,
}

/// Allowed, or the refusal. The outer error is the server's.
type Answer<T> = Result<Result<T, Status>, Status>;

impl Attempt<'_> {
    async fn run(&self, asked: &Attributes) -> Answer<Impersonated> {
        let mut checks = Vec::new();
        if let Some(mode) = self.mode.name() {
            checks.push(Attributes { verb: format!("impersonate-on:{mode}:{}", asked.verb), ..asked.clone() });
        }
        checks.push(self.user_name());
        if !self.wanted.uid.is_empty() {
            checks.push(self.named(AUTHENTICATION, "uids", &self.wanted.uid));
        }
        for what in &checks {
            if let Err(refusal) = self.may(what).await? {
                return Ok(Err(refusal));
            }
        }
        for part in [self.groups().await?, self.extra().await?] {
            if let Err(refusal) = part {
                return Ok(Err(refusal));
            }
        }
        let constraint = if self.mode == Mode::Legacy { String::new() } else { self.verb() };
        Ok(Ok(Impersonated { user: self.result(), constraint }))
    }

    fn verb(&self) -> String {
        self.mode.name().map_or_else(|| "impersonate".to_owned(), |mode| format!("impersonate:{mode}"))
    }

    fn named(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes::resource(&self.verb(), group, resource, "", name)
    }

    /// Group of users and groups: the limited ways have them among the other names.
    fn group(&self) -> &'static str {
        if self.mode == Mode::Legacy { "" } else { AUTHENTICATION }
    }

    fn user_name(&self) -> Attributes {
        let name = &self.wanted.name;
        if let Some((namespace, account)) = split_user_name(name) {
            let named = self.named(self.group(), "serviceaccounts", account);
            return Attributes { namespace: namespace.into(), ..named };
        }
        match (self.mode, node_name(name)) {
            (Mode::Legacy, _) | (_, None) => self.named(self.group(), "users", name),
            // Whose node it is has been seen to.
            (Mode::AssociatedNode, _) => self.named(self.group(), "nodes", "*"),
            (_, Some(node)) => self.named(self.group(), "nodes", node),
        }
    }

    async fn may(&self, what: &Attributes) -> Answer<()> {
        let user = match self.mode {
            // Which pod it is does not matter to the right.
            Mode::AssociatedNode => {
                let keys = self.user.extra.keys().cloned().collect();
                let extra = BTreeMap::from([("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)]);
                UserInfo { extra, ..self.user.clone() }
            }
            _ => self.user.clone(),
        };
        let decision = decide(self.server, &user, what).await?;
        Ok(if decision.allowed { Ok(()) } else { Err(what.refusal(self.user, &decision.reason)) })
    }

    async fn groups(&self) -> Answer<()> {
        let groups = &self.wanted.groups;
        let limited = self.mode != Mode::Legacy;
        let refuse = |name: &str, why: &str| Ok(Err(self.named(self.group(), "groups", name).refusal(self.user, why)));
        if limited && groups.iter().any(String::is_empty) {
            return refuse("", "impersonating the empty string group is not allowed");
        }
        if limited && groups.iter().any(|g| g == MASTERS) {
            return refuse(MASTERS, "impersonating the system:masters group is not allowed");
        }
        if limited && groups.len() >= MANY && self.may(&self.named(self.group(), "groups", "*")).await?.is_ok() {
            return Ok(Ok(()));
        }
        for group in groups {
            if let Err(refusal) = self.may(&self.named(self.group(), "groups", group)).await? {
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(()))
    }

    async fn extra(&self) -> Answer<()> {
        let extra = &self.wanted.extra;
        let limited = self.mode != Mode::Legacy;
        let entry = |key: &str, value: &str| Attributes {
            subresource: key.to_owned(),
            ..self.named(AUTHENTICATION, "userextras", value)
        };
        if limited && let Err(why) = check_extra(extra) {
            return Ok(Err(entry("", "").refusal(self.user, &why)));
        }
        let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
        if limited && many && self.may(&entry("*", "*")).await?.is_ok() {
            return Ok(Ok(()));
        }
        for (key, values) in extra {
            for value in values {
                if let Err(refusal) = self.may(&entry(key, value)).await? {
                    return Ok(Err(refusal));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Whom the request acts as.
    fn result(&self) -> UserInfo {
        let Wanted { name, uid, groups, extra } = self.wanted;
        let mut user = UserInfo { name: name.clone(), uid: uid.clone(), groups: groups.clone(), extra: extra.clone() };
        if groups.is_empty() {
            if let Some((namespace, _)) = split_user_name(name) {
                user.groups = accounts::groups(namespace);
            } else if self.mode != Mode::Legacy && node_name(name).is_some() {
                user.groups = vec![NODES.into()];
            }
        }
        let must = match () {
            () if user.name == UserInfo::anonymous().name => Some(UNAUTHENTICATED),
            () if user.in_group(UNAUTHENTICATED) => None,
            () => Some(AUTHENTICATED),
        };
        if let Some(group) = must.filter(|g| !user.in_group(g)) {
            user.groups.push(group.into());
        }
        user
    }
}

/// The rules that limited ways have for extra.
fn check_extra(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".into());
        }
        let domain_and_path = key.split_once('/').filter(|(domain, path)| {
            names::dns1123_subdomain(domain).is_empty() && !path.is_empty() && !path.contains('%')
        });
        if domain_and_path.is_none() {
            let why =
                format!("extra.key: Invalid value: {key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")");
            return Err(format!("impersonating an invalid key in extra is not allowed: {why}"));
        }
        if key.chars().any(char::is_uppercase) {
            return Err(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
        }
        if values.is_empty() {
            return Err("impersonating empty values in extra is not allowed".into());
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".into());
        }
    }
    Ok(())
}
