//! The order in which nodes are tried: zones take turns, so that those that are tried first are spread over all.

use super::NodeInfo;

pub(super) fn by_zones(nodes: &mut Vec<NodeInfo>) {
    let mut zones: Vec<(String, std::collections::VecDeque<NodeInfo>)> = Vec::new();
    // Their order before this depends on what came and went: by name it depends on nothing.
    nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    for info in nodes.drain(..) {
        let zone = info.node.zone();
        match zones.iter_mut().find(|(known, _)| *known == zone) {
            Some((_, members)) => members.push_back(info),
            None => zones.push((zone, [info].into())),
        }
    }
    while !zones.is_empty() {
        nodes.extend(zones.iter_mut().filter_map(|(_, members)| members.pop_front()));
        zones.retain(|(_, members)| !members.is_empty());
    }
}
