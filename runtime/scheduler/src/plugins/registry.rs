//! The plugins of a profile, made from its settings.

use std::sync::Arc;

use super::dynamic_resources::DynamicResources;
use super::image_locality::ImageLocality;
use super::inter_pod_affinity::InterPodAffinity;
use super::node_affinity::NodeAffinity;
use super::node_declared_features::NodeDeclaredFeatures;
use super::node_name::NodeName;
use super::node_ports::NodePorts;
use super::node_resources::{BalancedAllocation, Fit};
use super::node_unschedulable::NodeUnschedulable;
use super::node_volume_limits::NodeVolumeLimits;
use super::pod_topology_spread::PodTopologySpread;
use super::taint_toleration::TaintToleration;
use super::volume_binding::VolumeBinding;
use super::volume_restrictions::VolumeRestrictions;
use super::volume_zone::VolumeZone;
use crate::config::ProfileConfig;
use crate::framework::{Candidates, Plugin, PluginId, Profile};

fn make(id: PluginId, config: &ProfileConfig) -> Option<Arc<dyn Plugin>> {
    Some(match id {
        PluginId::NodeUnschedulable => Arc::new(NodeUnschedulable::new()),
        PluginId::NodeName => Arc::new(NodeName),
        PluginId::TaintToleration => Arc::new(TaintToleration),
        PluginId::NodeAffinity => Arc::new(NodeAffinity::new(config.added_affinity.as_deref())),
        PluginId::NodePorts => Arc::new(NodePorts),
        PluginId::NodeResourcesFit => Arc::new(Fit::new(config.fit.clone())),
        PluginId::VolumeRestrictions => Arc::new(VolumeRestrictions),
        PluginId::NodeVolumeLimits => Arc::new(NodeVolumeLimits),
        PluginId::VolumeBinding => Arc::new(VolumeBinding),
        PluginId::VolumeZone => Arc::new(VolumeZone),
        PluginId::PodTopologySpread => Arc::new(PodTopologySpread::new(&config.spread)),
        PluginId::NodeDeclaredFeatures => Arc::new(NodeDeclaredFeatures),
        PluginId::DynamicResources => Arc::new(DynamicResources),
        PluginId::InterPodAffinity => {
            Arc::new(InterPodAffinity::new(config.hard_pod_affinity_weight, config.ignore_preferred_of_existing))
        }
        PluginId::NodeResourcesBalancedAllocation => Arc::new(BalancedAllocation::new(config.balanced.clone())),
        PluginId::ImageLocality => Arc::new(ImageLocality),
        // These do their part outside of a node's judgement.
        PluginId::SchedulingGates
        | PluginId::PrioritySort
        | PluginId::DefaultPreemption
        | PluginId::DefaultBinder
        | PluginId::Extender => {
            return None;
        }
    })
}

/// A profile as its settings have it.
pub(crate) fn profile(config: &ProfileConfig) -> Profile {
    let mut ids = config.filters.clone();
    ids.extend(config.scores.iter().map(|(id, _)| *id).filter(|id| !config.filters.contains(id)));
    let preemption = config.post_filter.contains(PluginId::DefaultPreemption);
    let candidates = Candidates { percentage: config.candidates_percentage, at_least: config.candidates_at_least };
    Profile {
        name: config.name.clone(),
        plugins: ids.into_iter().filter_map(|id| make(id, config)).collect(),
        filters: config.filters.iter().copied().collect(),
        weights: config.scores.clone(),
        gates: config.pre_enqueue.contains(PluginId::SchedulingGates),
        preemption: preemption.then_some(candidates),
        percentage: config.percentage,
        bind_timeout: config.bind_timeout,
    }
}
