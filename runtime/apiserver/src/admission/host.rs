//! What expressions ask the authorizer. The rules are those of the moment at which the request came.

use std::sync::Arc;

use kiln_apimachinery::Status;
use kiln_cel::{Authority, Host, Value as Cel};

use crate::authz::Attributes;
use crate::authz::rbac::Rules;
use crate::user::{MASTERS, UserInfo};
use crate::verbs::Cx;

/// Answers for the user of a request.
pub(crate) struct Authorizer<'a> {
    user: &'a UserInfo,
    rules: Arc<Rules>,
}

impl<'a> Authorizer<'a> {
    pub(crate) async fn of(cx: &'a Cx<'_>) -> Result<Self, Status> {
        Ok(Self { user: cx.user, rules: cx.server.rbac().current(cx.server).await? })
    }

    /// The value of `authorizer`.
    pub(crate) fn root<'v>(&self) -> Cel<'v> {
        Cel::Authority(Arc::new(Authority::default()))
    }

    /// The value of `authorizer.requestResource`.
    pub(crate) fn of_request<'v>(&self, cx: &Cx<'_>) -> Cel<'v> {
        Cel::Authority(Arc::new(Authority {
            group: cx.resource.group.clone(),
            resource: cx.resource.plural.clone(),
            subresource: cx.info.subresource.clone(),
            namespace: cx.namespace().to_owned(),
            name: cx.info.name.clone(),
            ..Authority::default()
        }))
    }
}

impl Host for Authorizer<'_> {
    fn authorize(&self, asked: &Authority) -> Result<(bool, String), String> {
        let account = asked.account.as_ref().map(|(namespace, name)| {
            let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
        });
        let user = account.as_ref().unwrap_or(self.user);
        if user.in_group(MASTERS) {
            return Ok((true, String::new()));
        }
        let what = match &asked.path {
            Some(path) => Attributes { verb: asked.verb.clone(), path: path.clone(), ..Attributes::default() },
            None => Attributes {
                subresource: asked.subresource.clone(),
                ..Attributes::resource(&asked.verb, &asked.group, &asked.resource, &asked.namespace, &asked.name)
            },
        };
        let found = self.rules.allows(user, &what);
        Ok((found.is_some(), found.unwrap_or_default()))
    }
}
