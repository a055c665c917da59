//! The node authorizer: what a node may do because it is that node, over and above RBAC. What concerns the node's pods is
//! looked up in a [`graph`] of them, everything else is the same for all nodes.

mod gateways;
mod graph;
mod ingresses;
pub(crate) mod references;

use std::sync::LazyLock;

use kiln_apimachinery::{Status, meta};

use super::follow::Followed;
use super::rbac::Rule;
use super::{Attributes, defaults};
use crate::server::ApiServer;
use graph::{Graph, LOCAL, Target};

/// Namespace of the nodes' leases.
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The pods of all nodes.
pub(crate) type NodeGraph = Followed<Graph>;

/// The authorizer's word: `Ok` allows, an error has no opinion and says why.
type Verdict = Result<(), String>;

/// What any node may: the role that Kubernetes has for them, and what the agent's own proxy reads.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let own = |(plural, role): &defaults::Default| *plural == "clusterroles" && meta::name(role) == "system:node";
    let mut rules = defaults::all().iter().find(|d| own(d)).map(|(_, role)| Rule::list(role)).unwrap_or_default();
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
    rules.push(Rule {
        verbs: words(&["get", "list", "watch"]),
        groups: words(&["discovery.k8s.io"]),
        resources: words(&["endpointslices"]),
        ..Rule::default()
    });
    rules
});

/// Decides for the node of this name.
pub(crate) async fn decide(server: &ApiServer, node: &str, what: &Attributes) -> Result<Verdict, Status> {
    if !what.is_resource {
        return Ok(by_rules(what));
    }
    let target = match judge(node, what) {
        Question::Decided(verdict) => return Ok(verdict),
        Question::Related(target) => target,
    };
    if what.name.is_empty() {
        return Ok(Err("No Object name found".into()));
    }
    let related = server.nodes().with(server, |graph| graph.relates(node, target, &what.namespace, &what.name)).await?;
    let why = || format!("no relationship found between node '{node}' and this object");
    Ok(if related { Ok(()) } else { Err(why()) })
}

fn by_rules(what: &Attributes) -> Verdict {
    if RULES.iter().any(|r| r.allows(what)) { Ok(()) } else { Err(String::new()) }
}

/// What is left to ask.
enum Question {
    Decided(Verdict),
    /// Whether the object has to do with the node.
    Related(Target),
}

impl From<Result<Target, &str>> for Question {
    fn from(result: Result<Target, &str>) -> Self {
        match result {
            Ok(target) => Self::Related(target),
            Err(why) => Self::Decided(Err(why.into())),
        }
    }
}

fn judge(node: &str, what: &Attributes) -> Question {
    use Question::Decided;
    let (verb, subresource) = (what.verb.as_str(), what.subresource.as_str());
    let own = what.name == node;
    match (what.group.as_str(), what.resource.as_str()) {
        ("", "secrets") => read(what, Target::Secret).into(),
        ("", "configmaps") => read(what, Target::ConfigMap).into(),
        ("", "persistentvolumeclaims") if subresource == "status" => match verb {
            "update" | "patch" => Question::Related(Target::Claim),
            _ => Decided(Err("can only get/update/patch this type".into())),
        },
        ("", "persistentvolumeclaims") => get(what, Target::Claim).into(),
        ("", "persistentvolumes") => volume(node, what),
        ("resource.k8s.io", "resourceclaims") => get(what, Target::ResourceClaim).into(),
        ("storage.k8s.io", "volumeattachments") => get(what, Target::Attachment).into(),
        ("", "serviceaccounts") if verb == "get" && subresource.is_empty() => read(what, Target::Account).into(),
        ("", "serviceaccounts") => match () {
            () if verb != "create" || what.name.is_empty() => {
                Decided(Err("can only create tokens for individual service accounts".into()))
            }
            () if subresource != "token" => Decided(Err("can only create token subresource of serviceaccount".into())),
            () => Question::Related(Target::Account),
        },
        ("coordination.k8s.io", "leases") => Decided(lease(what, own)),
        ("storage.k8s.io", "csinodes") => Decided(csi_node(what, own)),
        ("resource.k8s.io", "resourceslices") => slice(node, what),
        ("", "nodes") => Decided(node_object(node, what)),
        ("", "pods") => pod(node, what),
        ("certificates.k8s.io", "podcertificaterequests") => Decided(Err(String::new())),
        _ => Decided(by_rules(what)),
    }
}

/// An object of a type that is read one by one, lists and watches of one name included.
fn read(what: &Attributes, target: Target) -> Result<Target, &'static str> {
    match () {
        () if !matches!(what.verb.as_str(), "get" | "list" | "watch") => Err("can only read resources of this type"),
        () if !what.subresource.is_empty() => Err("cannot read subresource"),
        () if what.namespace.is_empty() => Err("can only read namespaced object of this type"),
        () => Ok(target),
    }
}

fn get(what: &Attributes, target: Target) -> Result<Target, &'static str> {
    match () {
        () if what.verb != "get" => Err("can only get individual resources of this type"),
        () if !what.subresource.is_empty() => Err("cannot get subresource"),
        () => Ok(target),
    }
}

/// Volumes whose files are on the node wait, when they are deleted, for the node to remove these.
fn volume(node: &str, what: &Attributes) -> Question {
    match (what.verb.as_str(), what.subresource.as_str()) {
        ("list" | "watch", "") if what.labels == format!("{LOCAL}={node}") => Question::Decided(Ok(())),
        ("patch", "") => Question::Related(Target::LocalVolume),
        _ => get(what, Target::Volume).into(),
    }
}

fn lease(what: &Attributes, own: bool) -> Verdict {
    let verb = what.verb.as_str();
    match () {
        () if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") => {
            Err("can only get, create, update, patch, or delete a node lease".into())
        }
        () if what.namespace != LEASE_NAMESPACE => {
            Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"))
        }
        // The name of a new one is looked at by admission.
        () if verb != "create" && !own => {
            Err("can only access node lease with the same name as the requesting node".into())
        }
        () => Ok(()),
    }
}

fn csi_node(what: &Attributes, own: bool) -> Verdict {
    let verb = what.verb.as_str();
    match () {
        () if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") => {
            Err("can only get, create, update, patch, or delete a CSINode".into())
        }
        () if !what.subresource.is_empty() => Err("cannot authorize CSINode subresources".into()),
        () if verb != "create" && !own => {
            Err("can only access CSINode with the same name as the requesting node".into())
        }
        () => Ok(()),
    }
}

fn slice(node: &str, what: &Attributes) -> Question {
    if !what.subresource.is_empty() {
        return Question::Decided(Err("cannot authorize ResourceSlice subresources".into()));
    }
    match what.verb.as_str() {
        "create" => Question::Decided(Ok(())),
        "get" | "update" | "patch" | "delete" => Question::Related(Target::Slice),
        "watch" | "list" | "deletecollection" if what.selects("spec.nodeName", node) => Question::Decided(Ok(())),
        "watch" | "list" | "deletecollection" => Question::Decided(Err(
            "can only list/watch/deletecollection resourceslices with nodeName field selector".into(),
        )),
        _ => Question::Decided(Err(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
             update, patch, delete, deletecollection"
                .into(),
        )),
    }
}

/// Which nodes a node writes is up to admission.
fn node_object(node: &str, what: &Attributes) -> Verdict {
    match (what.subresource.as_str(), what.verb.as_str(), what.name.as_str()) {
        ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => Ok(()),
        ("", "get" | "list" | "watch", name) if name == node => Ok(()),
        ("", "get" | "list" | "watch", "") => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch", name) => {
            Err(format!("node '{node}' cannot read '{name}', only its own Node object"))
        }
        _ => Err(String::new()),
    }
}

/// Which pods a node writes is up to admission.
fn pod(node: &str, what: &Attributes) -> Question {
    match (what.subresource.as_str(), what.verb.as_str()) {
        ("", "get") => Question::Related(Target::Pod),
        ("", "list" | "watch") if what.selects("spec.nodeName", node) => Question::Decided(Ok(())),
        ("", "list" | "watch") if !what.name.is_empty() => Question::Related(Target::Pod),
        ("", "list" | "watch") => {
            Question::Decided(Err("can only list/watch pods with spec.nodeName field selector".into()))
        }
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            Question::Decided(Ok(()))
        }
        _ => Question::Decided(Err(String::new())),
    }
}
