//! Which nodes take part, and by which addresses.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeAddress};
use kiln_client::Change;

/// With this label on any node, only nodes that have it take part. K3s' name, so that clusters can be taken over.
const ENABLE: &str = "svccontroller.k3s.cattle.io/enablelb";
/// Nodes with this label take no part.
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Nodes with this taint are about to go.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// The nodes that take part: ready ones, and if some are selected by their label those.
pub(super) fn chosen(nodes: &[Arc<Node>]) -> Vec<&Node> {
    let enabled = |node: &Node| label(node, ENABLE) == Some("true");
    let select = nodes.iter().any(|node| label(node, ENABLE).is_some());
    nodes.iter().map(|node| &**node).filter(|node| is_usable(node) && (!select || enabled(node))).collect()
}

fn label<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn is_usable(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    let going = node.metadata.deletion_timestamp.is_some() || taints.into_iter().any(|t| t.key == TO_BE_DELETED);
    ready && !going && label(node, EXCLUDE).is_none()
}

/// The addresses of a node that clients use: of each family the external ones, or the internal ones if it has none.
pub(super) fn addresses(node: &Node, families: &[String]) -> Vec<IpAddr> {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let of = |kind: &str, v4: bool| -> Vec<IpAddr> {
        let right = |address: &&NodeAddress| address.type_ == kind;
        let parsed = all.iter().filter(right).filter_map(|address| address.address.parse::<IpAddr>().ok());
        parsed.filter(|address| address.is_ipv4() == v4).collect()
    };
    let wants = |family: &str| families.is_empty() || families.iter().any(|wanted| wanted == family);
    let mut found = Vec::new();
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        if wants(family) {
            let external = of("ExternalIP", v4);
            found.extend(if external.is_empty() { of("InternalIP", v4) } else { external });
        }
    }
    found
}

/// Whether anything of a Node changed that matters here; heartbeats do not.
pub(super) fn is_news(change: &Change<Node>) -> bool {
    match change {
        Change::Applied { object, previous: Some(previous), .. } => {
            let of = |node: &Node| (is_usable(node), label(node, ENABLE).map(str::to_owned), addresses(node, &[]));
            of(object) != of(previous)
        }
        Change::Applied { .. } | Change::Deleted { .. } => true,
        Change::Synced => false,
    }
}
