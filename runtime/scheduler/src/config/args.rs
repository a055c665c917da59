//! The settings of plugins, as they are written and as plugins take them.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;

/// A resource and how much it counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ResourceWeight {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) weight: i64,
}

/// Processor time and memory alike.
pub(crate) fn default_resources() -> Vec<ResourceWeight> {
    ["cpu", "memory"].map(|name| ResourceWeight { name: name.to_owned(), weight: 1 }).into()
}

/// How full a node is best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum StrategyType {
    #[default]
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
}

/// A point of the function from use to points.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ShapePoint {
    /// In percent.
    pub(crate) utilization: i64,
    /// 0 to 10.
    pub(crate) score: i64,
}

/// How nodes are scored by what is left of them.
#[derive(Debug, Clone)]
pub(crate) struct ScoringStrategy {
    pub(crate) kind: StrategyType,
    pub(crate) resources: Vec<ResourceWeight>,
    pub(crate) shape: Vec<ShapePoint>,
}

/// Settings of `NodeResourcesFit`.
#[derive(Debug, Clone)]
pub(crate) struct FitArgs {
    pub(crate) ignored_resources: Vec<String>,
    pub(crate) ignored_resource_groups: Vec<String>,
    pub(crate) scoring_strategy: ScoringStrategy,
}

impl Default for FitArgs {
    fn default() -> Self {
        let scoring_strategy =
            ScoringStrategy { kind: StrategyType::default(), resources: default_resources(), shape: Vec::new() };
        Self { ignored_resources: Vec::new(), ignored_resource_groups: Vec::new(), scoring_strategy }
    }
}

macro_rules! args {
    ($($(#[$doc:meta])* struct $name:ident { $($field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Default, Deserialize)]
            #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
            pub(super) struct $name {
                /// Read and not needed: the plugin says what it is.
                #[serde(rename = "apiVersion")]
                _api_version: Option<String>,
                #[serde(rename = "kind")]
                _kind: Option<String>,
                $(pub(super) $field: $ty,)*
            }
        )*
    };
}

args! {
    /// `NodeResourcesFitArgs`
    struct FileFit {
        ignored_resources: Vec<String>,
        ignored_resource_groups: Vec<String>,
        scoring_strategy: Option<FileStrategy>,
    }
    /// `NodeResourcesBalancedAllocationArgs`
    struct FileBalanced {
        resources: Vec<ResourceWeight>,
    }
    /// `InterPodAffinityArgs`
    struct FileInterPod {
        hard_pod_affinity_weight: Option<i64>,
        ignore_preferred_terms_of_existing_pods: bool,
    }
    /// `NodeAffinityArgs`
    struct FileNodeAffinity {
        added_affinity: Option<Box<NodeAffinity>>,
    }
    /// `PodTopologySpreadArgs`
    struct FileSpread {
        default_constraints: Vec<TopologySpreadConstraint>,
        defaulting_type: Option<String>,
    }
    /// `VolumeBindingArgs`
    struct FileVolumes {
        bind_timeout_seconds: Option<u64>,
        shape: Vec<ShapePoint>,
    }
    /// `DefaultPreemptionArgs`
    struct FilePreemption {
        min_candidate_nodes_percentage: Option<usize>,
        min_candidate_nodes_absolute: Option<usize>,
    }
    /// `DynamicResourcesArgs`
    struct FileDevices {
        filter_timeout: Option<String>,
        binding_timeout: Option<String>,
    }
}

/// `scoringStrategy`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct FileStrategy {
    #[serde(rename = "type")]
    pub(super) kind: StrategyType,
    pub(super) resources: Vec<ResourceWeight>,
    pub(super) requested_to_capacity_ratio: Option<FileRatio>,
}

/// `requestedToCapacityRatio`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileRatio {
    pub(super) shape: Vec<ShapePoint>,
}
