//! May they: masters may everything, nodes what the node authorizer lets them, everyone what RBAC objects grant.

pub(crate) mod defaults;
pub(crate) mod follow;
pub(crate) mod node;
pub(crate) mod rbac;

use kiln_apimachinery::query::Query;
use kiln_apimachinery::selector::{FieldSelector, FieldTerm};
use kiln_apimachinery::{GroupResource, Status};

use crate::audit;
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::user::{MASTERS, UserInfo};

/// What is asked: a verb on a resource or on a path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) namespace: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) is_resource: bool,
    /// The terms of the field selector of a list, watch or deletecollection.
    pub(crate) fields: Vec<FieldTerm>,
    /// The label selector, as it is in the query.
    pub(crate) labels: String,
}

impl From<&RequestInfo> for Attributes {
    fn from(i: &RequestInfo) -> Self {
        Self {
            verb: i.verb.clone(),
            namespace: i.namespace.clone(),
            group: i.group.clone(),
            resource: i.resource.clone(),
            subresource: i.subresource.clone(),
            name: i.name.clone(),
            path: i.path.clone(),
            is_resource: i.is_resource,
            fields: Vec::new(),
            labels: String::new(),
        }
    }
}

impl Attributes {
    /// A verb on a named object, or on all with an empty name.
    pub(crate) fn resource(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            verb: verb.into(),
            namespace: namespace.into(),
            group: group.into(),
            resource: resource.into(),
            name: name.into(),
            is_resource: true,
            ..Self::default()
        }
    }

    /// What a request asks, with the selector in its query. One that can't be read narrows nothing down.
    pub(crate) fn of(info: &RequestInfo, query: &Query) -> Self {
        let selects = info.is_resource && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
        let selector = query.get("fieldSelector").filter(|_| selects).and_then(|s| FieldSelector::parse(s).ok());
        let labels = query.get("labelSelector").filter(|_| selects).unwrap_or_default().to_owned();
        Self { fields: selector.unwrap_or_default().terms, labels, ..Self::from(info) }
    }

    /// True if the field selector asks for this value of a field.
    fn selects(&self, field: &str, value: &str) -> bool {
        self.fields.iter().any(|t| t.equal && t.field == field && t.value == value)
    }

    /// `pods` or `pods/log`.
    fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The refusal, in the words clients know.
    pub(crate) fn refusal(&self, user: &UserInfo, why: &str) -> Status {
        let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
        if !self.is_resource {
            let text = format!("forbidden: User {:?} cannot {} path {:?}{reason}", user.name, self.verb, self.path);
            let mut status = Status::forbidden(&GroupResource::new("", ""), "", "");
            status.message = text;
            return status;
        }
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        let resource = self.full_resource();
        let text = format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}{reason}",
            user.name, self.verb, self.group
        );
        Status::forbidden(&GroupResource::new(&self.group, &self.resource), &self.name, &text)
    }
}

/// The word on a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Why, for people; may be empty.
    pub(crate) reason: String,
}

/// Decides.
pub(crate) async fn decide(server: &ApiServer, user: &UserInfo, what: &Attributes) -> Result<Decision, Status> {
    if user.in_group(MASTERS) {
        return Ok(Decision { allowed: true, reason: String::new() });
    }
    let mut reasons = Vec::new();
    if let Some(node) = user.node_name() {
        match node::decide(server, node, what).await? {
            Ok(()) => return Ok(Decision { allowed: true, reason: String::new() }),
            Err(why) => reasons.extend(Some(why).filter(|w| !w.is_empty())),
        }
    }
    let rules = server.rbac().current(server).await?;
    if let Some(reason) = rules.allows(user, what) {
        return Ok(Decision { allowed: true, reason });
    }
    let unresolved = rules.unresolved(user, &what.namespace);
    if !unresolved.is_empty() {
        reasons.push(format!("RBAC: {unresolved}"));
    }
    Ok(Decision { allowed: false, reason: reasons.join("\n") })
}

/// Whether the user may; the error is the reason, which may be empty.
pub(crate) async fn allowed(
    server: &ApiServer,
    user: &UserInfo,
    what: &Attributes,
) -> Result<Result<(), String>, Status> {
    let decision = decide(server, user, what).await?;
    Ok(if decision.allowed { Ok(()) } else { Err(decision.reason) })
}

/// Refuses with a 403 what the user may not, for the request itself: the decision goes into the audit log.
pub(crate) async fn authorize(server: &ApiServer, user: &UserInfo, what: &Attributes) -> Result<(), Status> {
    let decision = decide(server, user, what).await?;
    audit::decided(&decision);
    if decision.allowed { Ok(()) } else { Err(what.refusal(user, &decision.reason)) }
}
