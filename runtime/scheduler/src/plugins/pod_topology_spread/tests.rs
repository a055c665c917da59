//! Rows of the documentation of topology spread constraints, and of the reference's own tests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::plugins::testing::Bench;
use crate::testing::{PodMaker, node, pod};

fn plugin() -> PodTopologySpread {
    PodTopologySpread::new(&Defaults::System)
}

fn foo(name: &str) -> PodMaker {
    pod(name).label("foo", "bar")
}

fn constraint(max_skew: i64, key: &str, hard: bool) -> Value {
    json!({
        "maxSkew": max_skew,
        "topologyKey": key,
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
        "labelSelector": {"matchLabels": {"foo": "bar"}},
    })
}

/// The documentation's cluster: two zones of two nodes, with so many pods on each.
fn cluster(pods: [usize; 4]) -> Bench {
    let names = ["node1", "node2", "node3", "node4"];
    let nodes = names.iter().zip(["zoneA", "zoneA", "zoneB", "zoneB"]);
    let nodes = nodes.map(|(name, zone)| node(name).label("zone", zone).label("node", name).build());
    let placed = names
        .iter()
        .zip(pods)
        .flat_map(|(node, count)| (0..count).map(move |at| foo(&format!("{node}-{at}")).on(node).build()));
    Bench::new(nodes).with(placed)
}

fn fits(bench: &Bench, constraints: Value) -> Vec<bool> {
    bench.fits(&plugin(), &foo("p").spec("topologySpreadConstraints", constraints).build())
}

#[test]
fn a_place_may_be_fuller_than_the_emptiest_by_no_more_than_the_skew() {
    // The documentation's first example: three pods, two in zone A and one in zone B.
    assert_eq!(fits(&cluster([1, 1, 1, 0]), json!([constraint(1, "zone", true)])), [false, false, true, true]);
    assert_eq!(fits(&cluster([1, 1, 1, 0]), json!([constraint(2, "zone", true)])), [true; 4]);
    // Its second: by zone and by node.
    let both = json!([constraint(1, "zone", true), constraint(1, "node", true)]);
    assert_eq!(fits(&cluster([1, 1, 1, 0]), both), [false, false, false, true]);
    assert_eq!(fits(&cluster([2, 1, 0, 3]), json!([constraint(1, "node", true)])), [false, false, true, false]);
}

#[test]
fn nodes_without_the_label_can_not_do() {
    let bench = Bench::new([node("a").label("zone", "z").build(), node("b").build()]);
    let pod = foo("p").spec("topologySpreadConstraints", json!([constraint(1, "zone", true)])).build();
    assert_eq!(bench.verdicts(&plugin(), &pod), [vec![], vec![NO_LABEL]]);
}

#[test]
fn with_fewer_places_than_wanted_the_emptiest_counts_as_empty() {
    let mut wanted = constraint(1, "zone", true);
    wanted["minDomains"] = json!(3);
    assert_eq!(fits(&cluster([1, 0, 1, 0]), json!([wanted.clone()])), [false; 4]);
    wanted["minDomains"] = json!(2);
    assert_eq!(fits(&cluster([1, 0, 1, 0]), json!([wanted])), [true; 4]);
}

#[test]
fn nodes_that_the_pod_can_not_go_to_count_as_the_constraint_says() {
    let zoned = |name: &str, zone: &str| node(name).label("zone", zone);
    let bench = Bench::new([
        zoned("a", "z1").build(),
        zoned("b", "z2").taint("k", "", "NoSchedule").build(),
        zoned("c", "z3").label("gpu", "no").build(),
    ])
    .with([foo("x").on("a").build(), foo("y").on("c").build()]);
    let fits = |policy: (&str, &str), further: Value| {
        let mut constraint = constraint(1, "zone", true);
        constraint[policy.0] = json!(policy.1);
        let pod = foo("p").spec("topologySpreadConstraints", json!([constraint])).spec("nodeSelector", further);
        bench.fits(&plugin(), &pod.build())
    };
    // The tainted node is empty: it keeps pods from the others only if it counts.
    assert_eq!(fits(("nodeTaintsPolicy", "Ignore"), json!(null)), [false, true, false]);
    assert_eq!(fits(("nodeTaintsPolicy", "Honor"), json!(null)), [true, true, true]);
    // Of those that the selector lets in, `c` is the only one.
    assert!(fits(("nodeAffinityPolicy", "Honor"), json!({"gpu": "no"}))[2]);
    assert!(!fits(("nodeAffinityPolicy", "Ignore"), json!({"gpu": "no"}))[2]);
}

#[test]
fn keys_of_labels_narrow_what_counts_to_pods_of_the_same_revision() {
    let bench = cluster([1, 1, 1, 0]);
    let mut by_revision = constraint(1, "zone", true);
    by_revision["matchLabelKeys"] = json!(["hash"]);
    let new = foo("p").label("hash", "new").spec("topologySpreadConstraints", json!([by_revision])).build();
    assert_eq!(bench.fits(&plugin(), &new), [true; 4]);
}

#[test]
fn pods_that_are_leaving_do_not_count_and_what_ifs_do() {
    let leaving = foo("x").on("node1").terminating().build();
    let bench = cluster([0, 0, 0, 0]).with([leaving]);
    assert_eq!(fits(&bench, json!([constraint(1, "zone", true)])), [true; 4]);
    let full = cluster([1, 0, 0, 0]);
    let wants = foo("p").spec("topologySpreadConstraints", json!([constraint(1, "zone", true)])).build();
    let plugin = plugin();
    let Ok(PreFilter::Check(mut filter)) = plugin.pre_filter(full.world(), &wants) else { panic!("it judges") };
    let (there, node) = (&full.cache.nodes()[0].pods[0], &full.cache.nodes()[0]);
    assert!(filter.check(node).is_err());
    filter.remove(there, node);
    assert!(filter.check(node).is_ok());
}

#[test]
fn emptier_places_score_higher() {
    // The reference's row: one constraint on the node, 0 to 3 pods.
    let pod =
        foo("p").spec("topologySpreadConstraints", json!([constraint(1, "kubernetes.io/hostname", false)])).build();
    assert_eq!(cluster([2, 1, 0, 3]).scores(&plugin(), &pod), Some(vec![20, 60, 100, 0]));
    let by_zone = foo("p").spec("topologySpreadConstraints", json!([constraint(1, "zone", false)])).build();
    assert_eq!(cluster([2, 1, 1, 0]).scores(&plugin(), &by_zone), Some(vec![25, 25, 100, 100]));
    assert_eq!(cluster([0, 0, 0, 0]).scores(&plugin(), &by_zone), Some(vec![100; 4]));
}

#[test]
fn pods_of_one_service_are_spread_without_saying_so_and_others_are_not() {
    let bench = cluster([2, 0, 0, 0]);
    assert_eq!(bench.scores(&plugin(), &foo("p").build()), None, "it belongs to nothing");
    let hard = Defaults::List(vec![serde_json::from_value(constraint(1, "zone", true)).unwrap()]);
    assert_eq!(bench.fits(&PodTopologySpread::new(&hard), &foo("p").build()), [true; 4]);
}

#[test]
fn only_what_changes_the_counts_may_help() {
    let bench = cluster([0; 4]);
    let waiting = foo("p").spec("topologySpreadConstraints", json!([constraint(1, "zone", true)])).build();
    let helps = |event: Event<'_>| plugin().may_help(bench.world(), &waiting, &event);
    let (ours, other): (Arc<Pod>, Arc<Pod>) = (foo("x").on("node1").build(), pod("y").on("node1").build());
    assert!(helps(Event::PodGone(&ours)) && helps(Event::PodPlaced(&ours)));
    assert!(!helps(Event::PodGone(&other)));
    assert!(helps(Event::NodeAdded(&node("n").label("zone", "z").build())));
    assert!(!helps(Event::NodeAdded(&node("n").build())));
}
