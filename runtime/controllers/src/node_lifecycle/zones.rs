//! How fast nodes that are not ready are given up, zone by zone.
//!
//! A node that is given up loses its Pods, so that is done to one node of a zone in ten seconds, more slowly or not at all where most
//! of a zone is in trouble, and not at all while no zone has a node that is ready: then it is rather this server that is cut off.
//! The limits are kube-controller-manager's defaults.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::condition;

/// `--node-eviction-rate` 0.1 and `--secondary-node-eviction-rate` 0.01, as the time between two nodes.
const PACE: Duration = Duration::from_secs(10);
const SLOW_PACE: Duration = Duration::from_secs(100);
/// `--unhealthy-zone-threshold`: from this share of nodes on, most of a zone is in trouble; with more than two of them.
const UNHEALTHY: f64 = 0.55;
/// `--large-cluster-size-threshold`: a zone with no more nodes gives none up while most of it is in trouble.
const LARGE: usize = 50;

/// Whether a node is to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is, now or since before.
    Yes,
    /// Not before this long.
    Later(Duration),
    /// Not while things are as they are.
    No,
}

#[derive(Debug, Clone, Copy, Default)]
struct Zone {
    ready: usize,
    unready: usize,
}

impl Zone {
    fn is_down(self) -> bool {
        self.ready == 0 && self.unready > 0
    }

    /// The time between two nodes; `None` if none is given up.
    fn pace(self) -> Option<Duration> {
        let size = self.ready + self.unready;
        let most = self.unready > 2 && self.unready as f64 / size as f64 >= UNHEALTHY;
        match most && !self.is_down() {
            false => Some(PACE),
            true => (size > LARGE).then_some(SLOW_PACE),
        }
    }
}

/// When a node of each zone was given up last.
#[derive(Debug, Default)]
pub(super) struct Zones(Mutex<HashMap<String, Instant>>);

pub(super) fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

fn zone_of(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str).unwrap_or_default();
    format!("{}/{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

impl Zones {
    /// Whether a node that is not ready is to be given up, given all nodes. `given_up`: it is already.
    pub(super) fn judge(&self, node: &Node, given_up: bool, all: &[Arc<Node>]) -> Verdict {
        let mut zones = BTreeMap::<String, Zone>::new();
        for node in all {
            let zone = zones.entry(zone_of(node)).or_default();
            if is_ready(node) { zone.ready += 1 } else { zone.unready += 1 }
        }
        if zones.values().all(|zone| zone.is_down()) {
            return Verdict::No;
        }
        if given_up {
            return Verdict::Yes;
        }
        let name = zone_of(node);
        let Some(pace) = zones.get(&name).copied().unwrap_or_default().pace() else { return Verdict::No };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match last.get(&name).map(|last| (*last + pace).saturating_duration_since(now)) {
            Some(wait) if !wait.is_zero() => Verdict::Later(wait),
            _ => {
                last.insert(name, now);
                Verdict::Yes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(zone: &str, ready: usize, unready: usize) -> Vec<Arc<Node>> {
        let node = |n: usize, status: &str| {
            let meta = json!({"name": format!("{zone}{n}"), "labels": {"topology.kubernetes.io/zone": zone}});
            let node = json!({"metadata": meta, "status": {"conditions": [{"type": "Ready", "status": status}]}});
            Arc::new(serde_json::from_value::<Node>(node).unwrap())
        };
        let unready = (0..unready).map(|n| node(n, "Unknown"));
        unready.chain((100..100 + ready).map(|n| node(n, "True"))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_zone_gives_nodes_up_by_how_many_are_in_trouble() {
        // (nodes of the zone: ready, not ready; of another zone; the second node waits, or none is given up)
        let rows = [
            ((5, 1), (0, 0), Some(10)),
            ((1, 2), (0, 0), Some(10)),
            ((2, 3), (0, 0), None),
            ((20, 40), (0, 0), Some(100)),
            ((0, 4), (0, 0), None),
            ((0, 4), (1, 0), Some(10)),
            ((0, 4), (0, 3), None),
        ];
        for ((ready, unready), (other_ready, other_unready), wait) in rows {
            let mut all = nodes("a", ready, unready);
            all.extend(nodes("b", other_ready, other_unready));
            let zones = Zones::default();
            let verdicts = [zones.judge(&all[0], false, &all), zones.judge(&all[0], false, &all)];
            let expected =
                wait.map_or([Verdict::No; 2], |wait| [Verdict::Yes, Verdict::Later(Duration::from_secs(wait))]);
            assert_eq!(verdicts, expected, "{ready} {unready} {other_ready} {other_unready}");
            if wait.is_some() {
                assert_eq!(zones.judge(&all[0], true, &all), Verdict::Yes);
            }
        }
    }
}
