//! The devices that drivers offer on a node.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{Device, DeviceToleration, ResourceSlice};

use crate::model::{Name, Node, NodeTerm, matches_any};

/// A device and the slice that offers it.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) slice: Arc<ResourceSlice>,
    at: usize,
}

/// Where a device can be used.
pub(super) enum Reach {
    /// On one node.
    Node,
    /// On nodes with these labels.
    Selected(NodeSelector),
    /// Everywhere.
    All,
}

impl Offer {
    pub(super) fn device(&self) -> &Device {
        // An offer is made for a device that is there.
        &self.slice.spec.devices.as_deref().unwrap_or_default()[self.at]
    }

    pub(super) fn driver(&self) -> &str {
        &self.slice.spec.driver
    }

    pub(super) fn pool(&self) -> &str {
        &self.slice.spec.pool.name
    }

    /// Where it can be used.
    pub(super) fn reach(&self) -> Reach {
        let (spec, device) = (&self.slice.spec, self.device());
        let selector = device.node_selector.as_ref().or(spec.node_selector.as_ref());
        if device.node_name.is_some() || spec.node_name.is_some() {
            Reach::Node
        } else {
            selector.map_or(Reach::All, |selector| Reach::Selected(selector.clone()))
        }
    }

    /// Whether its taints keep it from a request that tolerates these.
    pub(super) fn is_tainted(&self, tolerations: &[DeviceToleration]) -> bool {
        self.device().taints.iter().flatten().any(|taint| {
            taint.effect != "None"
                && !tolerations.iter().any(|toleration| {
                    let is_for = toleration.key.as_deref().is_none_or(|key| key.is_empty() || key == taint.key);
                    let exists = toleration.operator.as_deref() == Some("Exists");
                    let equals =
                        toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
                    let effect =
                        toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect);
                    is_for && effect && (exists || equals)
                })
        })
    }
}

fn reaches(name: Option<&String>, all: Option<bool>, selector: Option<&NodeSelector>, node: &Node) -> bool {
    name.is_some_and(|name| **name == *node.name)
        || all == Some(true)
        || selector.is_some_and(|selector| {
            let terms: Vec<_> = selector.node_selector_terms.iter().map(|t| NodeTerm::of(t, Name::new)).collect();
            matches_any(&terms, &node.name, &*node.labels)
        })
}

/// All devices on a node, of pools that are whole.
pub(super) fn offers(slices: &[Arc<ResourceSlice>], node: &Node) -> Vec<Offer> {
    // A driver renews a pool slice by slice; only the newest generation counts, and only once all of it is there.
    let mut pools = HashMap::<(&str, &str), (i64, i64)>::new();
    for slice in slices {
        let pool = &slice.spec.pool;
        let (newest, count) = pools.entry((&*slice.spec.driver, &*pool.name)).or_insert((pool.generation, 0));
        if pool.generation > *newest {
            (*newest, *count) = (pool.generation, 1);
        } else if pool.generation == *newest {
            *count += 1;
        }
    }
    let is_whole = |slice: &ResourceSlice| {
        let pool = &slice.spec.pool;
        pools.get(&(&*slice.spec.driver, &*pool.name)) == Some(&(pool.generation, pool.resource_slice_count))
    };
    let mut offers = Vec::new();
    for slice in slices.iter().filter(|slice| is_whole(slice)) {
        let spec = &slice.spec;
        let by_device = spec.per_device_node_selection == Some(true);
        if !by_device && !reaches(spec.node_name.as_ref(), spec.all_nodes, spec.node_selector.as_ref(), node) {
            continue;
        }
        for (at, device) in spec.devices.iter().flatten().enumerate() {
            let here =
                !by_device || reaches(device.node_name.as_ref(), device.all_nodes, device.node_selector.as_ref(), node);
            let is_plain = device.consumes_counters.is_none()
                && device.allow_multiple_allocations != Some(true)
                && device.binding_conditions.is_none();
            if here && is_plain {
                offers.push(Offer { slice: Arc::clone(slice), at });
            }
        }
    }
    offers
}
