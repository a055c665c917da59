//! `NodeName`: a pod that names its node goes there and nowhere else.

use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, World};
use crate::model::Pod;

const REASON: &str = "node(s) didn't match the requested node name";

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn id(&self) -> PluginId {
        PluginId::NodeName
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let Some(wanted) = &pod.node else { return Ok(PreFilter::Skip) };
        Ok(PreFilter::by(move |info| {
            if info.node.name == *wanted { Ok(()) } else { Err(Refusal::unresolvable(PluginId::NodeName, REASON)) }
        }))
    }

    fn may_help(&self, _world: World<'_>, _pod: &Pod, event: &Event<'_>) -> bool {
        matches!(event, Event::NodeAdded(_))
    }
}
