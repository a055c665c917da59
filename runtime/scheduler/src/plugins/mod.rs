//! The plugins: one file each, by the names they have in Kubernetes.
//!
//! [`registry`] makes those of a profile from its settings. Each file says what the plugin looks at; the texts of refusals are
//! those of Kubernetes, since users and the conformance suite read them.

mod dynamic_resources;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod registry;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub(crate) use pod_topology_spread::Defaults as SpreadDefaults;
pub(crate) use registry::profile;
pub(crate) use volume_binding::decision as volume_decision;

#[cfg(test)]
mod testing;
