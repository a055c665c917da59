//! `NodePorts`: the ports of the node that a pod wants are free there.

use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, World};
use crate::model::{HostPort, Pod};

const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

pub(super) struct NodePorts;

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|port| taken.iter().any(|other| port.conflicts(other)))
}

impl Plugin for NodePorts {
    fn id(&self) -> PluginId {
        PluginId::NodePorts
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        if pod.spec.ports.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::by(|info| {
            if conflict(&pod.spec.ports, &info.ports) {
                return Err(Refusal::unschedulable(PluginId::NodePorts, REASON));
            }
            Ok(())
        }))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::PodGone(gone) => gone.has_place() && conflict(&pod.spec.ports, &gone.spec.ports),
            Event::NodeAdded(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{PodMaker, node, pod};

    /// A pod with ports written as `TCP/127.0.0.1/8080`.
    fn with_ports(name: &str, ports: &[&str]) -> PodMaker {
        let ports: Vec<_> = ports
            .iter()
            .map(|text| {
                let parts: Vec<_> = text.split('/').collect();
                let port: i32 = parts[2].parse().unwrap();
                json!({"protocol": parts[0], "hostIP": parts[1], "hostPort": port, "containerPort": port})
            })
            .collect();
        let mut maker = pod(name);
        maker.0["spec"]["containers"][0]["ports"] = json!(ports);
        maker
    }

    #[test]
    fn ports_conflict_by_number_protocol_and_overlapping_address() {
        let rows: [(&[&str], &[&str], bool); 9] = [
            (&[], &["TCP/127.0.0.1/8080"], true),
            (&["UDP/127.0.0.1/8080"], &["UDP/127.0.0.1/9090"], true),
            (&["UDP/127.0.0.1/8080"], &["UDP/127.0.0.1/8080"], false),
            (&["TCP/127.0.0.1/8080"], &["TCP/127.0.0.2/8080"], true),
            (&["TCP/127.0.0.1/8080"], &["UDP/127.0.0.1/8080"], true),
            (&["TCP/0.0.0.0/8080"], &["TCP/127.0.0.1/8080"], false),
            (&["TCP/127.0.0.1/8080"], &["TCP/0.0.0.0/8080"], false),
            (&["TCP//8080"], &["TCP/127.0.0.1/8080"], false),
            (&["UDP/127.0.0.1/8000", "TCP/127.0.0.1/8080"], &["UDP/127.0.0.1/8080", "TCP/0.0.0.0/8081"], true),
        ];
        for (wanted, taken, fits) in rows {
            let bench = Bench::new([node("n").build()]).with([with_ports("there", taken).on("n").build()]);
            let expected = if fits { vec![] } else { vec![REASON] };
            assert_eq!(
                bench.verdicts(&NodePorts, &with_ports("a", wanted).build()),
                [expected],
                "{wanted:?} {taken:?}"
            );
        }
    }

    #[test]
    fn only_a_pod_that_frees_a_wanted_port_may_help() {
        let bench = Bench::new([]);
        let waiting = with_ports("a", &["TCP/0.0.0.0/80"]).build();
        let helps = |gone: Arc<Pod>| NodePorts.may_help(bench.world(), &waiting, &Event::PodGone(&gone));
        assert!(helps(with_ports("b", &["TCP/127.0.0.1/80"]).on("n").build()));
        assert!(!helps(with_ports("b", &["TCP/127.0.0.1/81"]).on("n").build()));
        assert!(!helps(with_ports("b", &["TCP/127.0.0.1/80"]).build()), "it had no node");
    }
}
