//! What is said to extenders and what they answer (`k8s.io/kube-scheduler/extender/v1`). Go reads names of fields whatever their
//! case, and so do those who answer.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

/// Asks about a pod and nodes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Question<'a> {
    pub(super) pod: &'a Pod,
    pub(super) nodes: Option<Nodes<'a>>,
    pub(super) node_names: Option<Vec<&'a str>>,
}

/// Whole nodes, for those who keep none.
#[derive(Debug, Serialize)]
pub(super) struct Nodes<'a> {
    pub(super) metadata: Empty,
    pub(super) items: Vec<&'a Node>,
}

/// A list's metadata.
#[derive(Debug, Default, Serialize)]
pub(super) struct Empty {}

/// Which nodes are left.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Left {
    #[serde(alias = "nodes")]
    pub(super) nodes: Option<NodeList>,
    #[serde(alias = "nodeNames", alias = "nodenames")]
    pub(super) node_names: Option<Vec<String>>,
    #[serde(alias = "failedNodes", alias = "failednodes", deserialize_with = "or_nothing")]
    pub(super) failed_nodes: HashMap<String, String>,
    #[serde(
        alias = "failedAndUnresolvableNodes",
        alias = "failedandunresolvablenodes",
        deserialize_with = "or_nothing"
    )]
    pub(super) failed_and_unresolvable_nodes: HashMap<String, String>,
    #[serde(alias = "error")]
    pub(super) error: String,
}

/// The names in a list of nodes.
#[derive(Debug, Deserialize)]
pub(super) struct NodeList {
    #[serde(default, alias = "Items", deserialize_with = "or_nothing")]
    pub(super) items: Vec<Named>,
}

/// An object's name.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) metadata: Metadata,
}

/// The part of its metadata that has it.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
}

/// A node's points.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostPriority {
    #[serde(alias = "host")]
    pub(super) host: String,
    #[serde(alias = "score", default)]
    pub(super) score: i64,
}

/// Has a pod bound.
#[derive(Debug, Serialize)]
pub(super) struct Binding<'a> {
    #[serde(rename = "PodName")]
    pub(super) pod_name: &'a str,
    #[serde(rename = "PodNamespace")]
    pub(super) pod_namespace: &'a str,
    #[serde(rename = "PodUID")]
    pub(super) pod_uid: &'a str,
    #[serde(rename = "Node")]
    pub(super) node: &'a str,
}

/// What came of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Bound {
    #[serde(alias = "error")]
    pub(super) error: String,
}

/// Asks whose leaving would be right: of those who know nodes and pods by uid, and of the others.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Preemption<'a> {
    pub(super) pod: &'a Pod,
    pub(super) node_name_to_victims: Option<BTreeMap<&'a str, Victims<&'a Pod>>>,
    pub(super) node_name_to_meta_victims: Option<BTreeMap<&'a str, Victims<Uid>>>,
}

/// Who leaves one node.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub(super) struct Victims<P> {
    #[serde(rename = "Pods", alias = "pods", default, deserialize_with = "or_nothing")]
    pub(super) pods: Vec<P>,
    #[serde(rename = "NumPDBViolations", default, alias = "numPDBViolations", alias = "numpdbviolations")]
    pub(super) violations: i64,
}

/// Stands for a pod.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Uid {
    #[serde(rename = "UID", alias = "uid")]
    pub(super) uid: String,
}

/// Whose leaving is right; on other nodes it is not.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Preempted {
    #[serde(
        rename = "NodeNameToMetaVictims",
        alias = "nodeNameToMetaVictims",
        alias = "nodenametometavictims",
        deserialize_with = "or_nothing"
    )]
    pub(super) nodes: BTreeMap<String, Option<Victims<Uid>>>,
}

/// Go writes an empty list or map as null.
fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}
