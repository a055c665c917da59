//! A node, without the pods on it.

use std::sync::Arc;

use super::{Labels, Name, Resources, Taint};

/// What of a Node decides who can go there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: Name,
    pub(crate) labels: Arc<Labels>,
    pub(crate) taints: Box<[Taint]>,
    /// `spec.unschedulable`.
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Resources,
    /// How many pods it takes.
    pub(crate) allowed_pods: i64,
    /// Features of its kubelet that pods may need.
    pub(crate) features: Box<[Name]>,
    /// Names of the images it has, in order, with their sizes in bytes.
    pub(crate) images: Box<[(Name, i64)]>,
}

impl Node {
    /// Region and zone in one text, empty if it has neither.
    pub(crate) fn zone(&self) -> String {
        let label = |keys: [&str; 2]| {
            keys.iter().find_map(|key| self.labels.get(key)).map(|value| value.to_string()).unwrap_or_default()
        };
        let region = label(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]);
        let zone = label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]);
        if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
    }

    /// The size of an image that it has, in bytes.
    pub(crate) fn image(&self, name: &Name) -> Option<i64> {
        let at = self.images.binary_search_by(|(known, _)| known.cmp(name)).ok()?;
        Some(self.images[at].1)
    }
}
