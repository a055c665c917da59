//! A pod.

use std::sync::Arc;

use super::{
    InterPod, Labels, Name, NonZero, PreferredNodes, RequiredNodes, Resources, SpreadConstraint, Toleration, Volume,
};

/// What of a Pod decides where it can go, and whom it keeps away.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    pub(crate) uid: Name,
    pub(crate) labels: Arc<Labels>,
    /// What it shares with the pods of its template.
    pub(crate) spec: Arc<PodSpec>,
    /// Where it is bound or assumed to be.
    pub(crate) node: Option<Name>,
    /// Where others were asked to make room for it.
    pub(crate) nominated: Option<Name>,
    /// Seconds of the Unix epoch at which it started, if it has.
    pub(crate) started: Option<i64>,
    /// It is being deleted.
    pub(crate) terminating: bool,
    /// It is being deleted to make room for another.
    pub(crate) preempted: bool,
    /// The ResourceClaims it uses, in the order of `spec.resourceClaims`.
    pub(crate) claims: Box<[DeviceClaim]>,
}

/// A ResourceClaim that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceClaim {
    /// Of this name.
    Named(Name),
    /// One is yet to be made from a template, for this entry of the pod's.
    Awaited(Name),
    /// None is needed.
    Unneeded,
}

/// What all pods of a template have in common.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PodSpec {
    pub(crate) scheduler: Option<Name>,
    pub(crate) priority: i32,
    /// `preemptionPolicy: Never`.
    pub(crate) never_preempts: bool,
    pub(crate) requests: Resources,
    pub(crate) nonzero: NonZero,
    pub(crate) required_nodes: RequiredNodes,
    pub(crate) preferred_nodes: PreferredNodes,
    pub(crate) tolerations: Box<[Toleration]>,
    pub(crate) ports: Box<[HostPort]>,
    pub(crate) inter_pod: Option<Box<InterPod>>,
    pub(crate) spread: Box<[SpreadConstraint]>,
    /// Images of its containers and image volumes, with a tag.
    pub(crate) images: Box<[Name]>,
    /// How many containers there are, with those that initialise.
    pub(crate) containers: usize,
    /// Features that the node must declare.
    pub(crate) features: Box<[Name]>,
    pub(crate) gates: Box<[Name]>,
    pub(crate) volumes: Box<[Volume]>,
    pub(crate) owner: Option<Owner>,
}

/// The controller of a pod, if it is of a kind that pods are spread by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    ReplicaSet(Name),
    ReplicationController(Name),
    StatefulSet(Name),
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A port of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    /// `0.0.0.0` for all addresses.
    pub(crate) ip: Name,
    pub(crate) protocol: Protocol,
    pub(crate) port: i32,
}

impl HostPort {
    /// Whether the two can't be on one node.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == *ALL || other.ip == *ALL)
    }
}

impl Pod {
    /// Whether it is on a node or was promised one.
    pub(crate) fn has_place(&self) -> bool {
        self.node.is_some() || self.nominated.is_some()
    }

    /// The names of the PersistentVolumeClaims it uses, each with whether the claim is made for it.
    pub(crate) fn volume_claims(&self) -> impl Iterator<Item = (String, bool)> {
        self.spec.volumes.iter().filter_map(|volume| match volume {
            Volume::Claim(name) => Some((name.to_string(), false)),
            Volume::Ephemeral(volume) => Some((format!("{}-{volume}", self.name), true)),
            _ => None,
        })
    }

    /// The affinity to other pods.
    pub(crate) fn inter_pod(&self) -> Option<&InterPod> {
        self.spec.inter_pod.as_deref()
    }
}
