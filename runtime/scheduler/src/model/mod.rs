//! What the scheduler remembers of Pods and Nodes: only what decides where a pod can go, in a form that is quick to compare.
//!
//! API objects come in through a [`Projector`]; what leaves it is small and shared: strings and label sets are interned, and
//! pods made from one template share one [`PodSpec`], so that thousands of pods cost little more than their names.

mod affinity;
mod intern;
mod labels;
mod node;
mod node_selector;
mod pod;
mod project;
mod requests;
mod resources;
mod taint;
mod volume;

pub(crate) use affinity::{AffinityTerm, InterPod, SpreadConstraint, WeightedTerm};
pub(crate) use intern::Name;
pub(crate) use labels::{LabelSet, Labels, Selector};
pub(crate) use node::Node;
pub(crate) use node_selector::{NodeTerm, PreferredNodes, RequiredNodes, matches_any};
pub(crate) use pod::{DeviceClaim, HostPort, Owner, Pod, PodSpec, Protocol};
pub(crate) use project::Projector;
pub(crate) use resources::{NonZero, Resources};
pub(crate) use taint::{Effect, Taint, Toleration, blocking_taint};
pub(crate) use volume::{Disk, Volume};

pub(crate) use labels::selector_of;
