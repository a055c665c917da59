//! The node authorizer: what a node may do because it is that node, over and above RBAC.

use super::Attributes;

/// The authorizer's word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny(String),
    NoOpinion,
}

/// Namespace of the nodes' leases.
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Verbs on resources that any node has. A row is group, resource (with subresource), verbs.
const RULES: &[(&str, &str, &[&str])] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
    ("", "services", &["get", "list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["get", "list", "watch"]),
    ("", "nodes", &["create", "get", "list", "watch"]),
    ("", "events", &["create", "patch", "update"]),
    ("events.k8s.io", "events", &["create", "patch", "update"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["create", "get", "list", "watch"]),
    ("node.k8s.io", "runtimeclasses", &["get", "list", "watch"]),
    ("storage.k8s.io", "csidrivers", &["get", "list", "watch"]),
];

/// Decides for the node of this name.
pub(crate) fn decide(node: &str, what: &Attributes) -> Decision {
    if !what.is_resource {
        return Decision::NoOpinion;
    }
    let resource = what.full_resource();
    let verb = what.verb.as_str();
    let own = what.name == node;
    match (what.group.as_str(), resource.as_str()) {
        ("", "nodes" | "nodes/status") if matches!(verb, "update" | "patch" | "delete") => {
            if own {
                Decision::Allow
            } else {
                Decision::Deny(format!("node {node:?} is not allowed to modify node {:?}", what.name))
            }
        }
        ("coordination.k8s.io", "leases") => {
            let verbs = ["get", "create", "update", "patch", "delete"];
            if !verbs.contains(&verb) {
                return Decision::NoOpinion;
            }
            match () {
                () if what.namespace != LEASE_NAMESPACE => {
                    Decision::Deny(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"))
                }
                () if own || verb == "create" => Decision::Allow,
                () => Decision::Deny("can only access node lease with the same name as the requesting node".into()),
            }
        }
        // Until pods are bound to nodes here, a node needs its own pods only.
        ("", "pods") if matches!(verb, "get" | "list" | "watch") => Decision::Allow,
        (group, resource) => {
            if RULES.iter().any(|(g, r, verbs)| *g == group && *r == resource && verbs.contains(&verb)) {
                Decision::Allow
            } else {
                Decision::NoOpinion
            }
        }
    }
}
