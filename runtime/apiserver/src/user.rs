//! Who makes a request.

use std::collections::BTreeMap;

/// Everyone who showed credentials.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who showed none.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do everything.
pub(crate) const MASTERS: &str = "system:masters";
/// Nodes.
pub(crate) const NODES: &str = "system:nodes";

/// An identity, as authentication found it or as a caller in this process states it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// Unique name, such as `system:node:pi-1`.
    pub name: String,
    /// UID, mostly empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What the authenticator says besides.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// An authenticated user of these groups; `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// A part of the control plane in this process, with every right.
    pub fn system(name: &str) -> Self {
        Self::new(name, &[MASTERS])
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// True if the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node's name, if this is a node.
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|n| !n.is_empty() && self.in_group(NODES))
    }
}
