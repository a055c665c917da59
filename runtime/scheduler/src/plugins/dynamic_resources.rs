//! `DynamicResources`: the devices that the pod's ResourceClaims ask for can be had on the node.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::devices::{allocate, allocation, claims_of, is_usable, is_within_reach, missing_class};
use crate::framework::{Code, Event, Plugin, PluginId, PreFilter, Refusal, Update, Verdict, World};
use crate::model::{DeviceClaim, Node, Pod};

const UNAVAILABLE: &str = "resourceclaim not available on the node";
const CANNOT: &str = "cannot allocate all claims";
const ID: PluginId = PluginId::DynamicResources;

pub(super) struct DynamicResources;

fn check(world: World<'_>, claims: &[Arc<ResourceClaim>], open: &[Arc<ResourceClaim>], node: &Node) -> Verdict {
    if claims.iter().filter_map(|claim| allocation(claim)).any(|allocation| !is_within_reach(allocation, node)) {
        return Err(Refusal::unresolvable(ID, UNAVAILABLE));
    }
    if open.is_empty() {
        return Ok(());
    }
    match allocate(world.listers, open, node) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Refusal::unresolvable(ID, CANNOT)),
        Err(error) => Err(Refusal::new(Code::Error, ID, error)),
    }
}

impl Plugin for DynamicResources {
    fn id(&self) -> PluginId {
        ID
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        if pod.claims.is_empty() {
            return Ok(PreFilter::Skip);
        }
        let refuse = |why: String| Refusal::unresolvable(ID, why);
        let claims = claims_of(world.listers, pod).map_err(refuse)?;
        let mut open = Vec::new();
        for claim in &claims {
            if allocation(claim).is_some() {
                if !is_usable(claim, pod) {
                    return Err(refuse("resourceclaim in use".to_owned()));
                }
                continue;
            }
            if world.listers.assumed_devices.is_pending(claim.metadata.uid.as_deref()) {
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                return Err(refuse(format!(
                    "resource claim {}/{name} is in the process of being allocated",
                    pod.namespace
                )));
            }
            if let Some(why) = missing_class(world.listers, claim) {
                return Err(refuse(why));
            }
            open.push(Arc::clone(claim));
        }
        let (claims, open) = (Arc::new(claims), Arc::new(open));
        Ok(PreFilter::by(move |info| check(world, &claims, &open, &info.node)))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::SelfUpdated { change, .. } => change.claims,
            Event::DeviceClaim(Update { old, new }) => {
                let is_own = new.metadata.namespace.as_deref() == Some(&*pod.namespace)
                    && pod.claims.iter().any(|claim| {
                        matches!(claim, DeviceClaim::Named(name) if Some(&**name) == new.metadata.name.as_deref())
                    });
                // Another's devices are free.
                let freed = old.is_some_and(|old| allocation(old).is_some()) && allocation(new).is_none();
                is_own || freed
            }
            Event::DeviceClaimGone(gone) => allocation(gone).is_some(),
            Event::Devices | Event::NodeAdded(_) => true,
            Event::NodeUpdated { change, .. } => change.labels || change.taints,
            _ => false,
        }
    }
}
