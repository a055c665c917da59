use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::plugins::testing::Bench;
use crate::testing::{PodMaker, node, pod};

fn plugin() -> InterPodAffinity {
    InterPodAffinity::new(1, false)
}

fn term(labels: Value, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": labels}, "topologyKey": key})
}

fn wants(pod: PodMaker, kind: &str, how: &str, terms: Value) -> PodMaker {
    let how = format!("{how}DuringSchedulingIgnoredDuringExecution");
    pod.spec("affinity", json!({kind: {how: terms}}))
}

fn near(pod: PodMaker, terms: Value) -> PodMaker {
    wants(pod, "podAffinity", "required", terms)
}

fn far(pod: PodMaker, terms: Value) -> PodMaker {
    wants(pod, "podAntiAffinity", "required", terms)
}

/// Two nodes in the zone `z1`, one in `z2` and one in none.
fn bench(pods: impl IntoIterator<Item = Arc<Pod>>) -> Bench {
    let zoned = |name: &str, zone: &str| node(name).label("zone", zone).build();
    Bench::new([zoned("a", "z1"), zoned("b", "z1"), zoned("c", "z2"), node("d").build()]).with(pods)
}

#[test]
fn a_pod_goes_where_those_are_that_it_wants_near() {
    let web = json!({"app": "web"});
    let there = bench([pod("web").label("app", "web").on("a").build()]);
    let fits = |bench: &Bench, pod: PodMaker| bench.fits(&plugin(), &pod.build());
    assert_eq!(fits(&there, near(pod("p"), json!([term(web.clone(), "zone")]))), [true, true, false, false]);
    let one = json!([term(web.clone(), "kubernetes.io/hostname")]);
    assert_eq!(fits(&there, near(pod("p"), one)), [true, false, false, false]);
    // Of several terms all must hold of one pod.
    let both = json!([term(web.clone(), "zone"), term(json!({"tier": "x"}), "zone")]);
    assert_eq!(fits(&there, near(pod("p"), both)), [false; 4]);
    // Pods of another namespace do not count unless they are asked for.
    let elsewhere = bench([pod("web").within("other").label("app", "web").on("a").build()]);
    assert_eq!(fits(&elsewhere, near(pod("p"), json!([term(web.clone(), "zone")]))), [false; 4]);
    let mut named = term(web, "zone");
    named["namespaces"] = json!(["other"]);
    assert_eq!(fits(&elsewhere, near(pod("p"), json!([named.clone()]))), [true, true, false, false]);
    named["namespaces"] = json!(null);
    named["namespaceSelector"] = json!({});
    assert_eq!(fits(&elsewhere, near(pod("p"), json!([named]))), [true, true, false, false]);
}

#[test]
fn the_first_of_pods_that_want_each_other_goes_wherever_the_label_is() {
    let own = near(pod("p").label("app", "web"), json!([term(json!({"app": "web"}), "zone")])).build();
    assert_eq!(bench([]).fits(&plugin(), &own), [true, true, true, false]);
    let with_one = bench([pod("web").label("app", "web").on("c").build()]);
    assert_eq!(with_one.fits(&plugin(), &own), [false, false, true, false]);
    assert_eq!(with_one.verdicts(&plugin(), &own)[0], [AFFINITY]);
}

#[test]
fn a_pod_stays_away_from_those_it_wants_far_and_from_those_that_want_it_far() {
    let web = json!([term(json!({"app": "web"}), "zone")]);
    let there = bench([pod("web").label("app", "web").on("a").build()]);
    let verdicts = there.verdicts(&plugin(), &far(pod("p"), web.clone()).build());
    assert_eq!(verdicts, [vec![ANTI_AFFINITY], vec![ANTI_AFFINITY], vec![], vec![]]);
    let shy = bench([far(pod("shy"), web).on("a").build()]);
    let verdicts = shy.verdicts(&plugin(), &pod("p").label("app", "web").build());
    assert_eq!(verdicts, [vec![EXISTING], vec![EXISTING], vec![], vec![]]);
    assert_eq!(shy.fits(&plugin(), &pod("p").label("app", "db").build()), [true; 4]);
}

#[test]
fn counting_pods_in_and_out_is_what_their_coming_and_going_is() {
    let web = pod("web").label("app", "web").on("a").build();
    let there = bench([Arc::clone(&web)]);
    let shy = far(pod("p"), json!([term(json!({"app": "web"}), "zone")])).build();
    let (plugin, node) = (plugin(), &there.cache.nodes()[0]);
    let Ok(PreFilter::Check(mut filter)) = plugin.pre_filter(there.world(), &shy) else { panic!("it judges") };
    let copy = filter.copy();
    filter.remove(&web, node);
    assert!(filter.check(node).is_ok());
    filter.add(&web, node);
    assert!(filter.check(node).is_err() && copy.check(node).is_err());
}

#[test]
fn preferences_of_both_sides_are_summed_and_scaled() {
    let preferred = |weight: i64, labels: Value| json!([{"weight": weight, "podAffinityTerm": term(labels, "zone")}]);
    let there = bench([pod("web").label("app", "web").on("a").build(), pod("db").label("app", "db").on("c").build()]);
    let likes = wants(pod("p"), "podAffinity", "preferred", preferred(5, json!({"app": "web"}))).build();
    assert_eq!(there.scores(&plugin(), &likes), Some(vec![100, 100, 0, 0]));
    let dislikes = wants(pod("p"), "podAntiAffinity", "preferred", preferred(5, json!({"app": "web"}))).build();
    assert_eq!(there.scores(&plugin(), &dislikes), Some(vec![0, 0, 100, 100]));
    // What those that are there require counts for one that they want near.
    let wanted = bench([near(pod("x"), json!([term(json!({"app": "p"}), "zone")])).on("c").build()]);
    assert_eq!(wanted.scores(&plugin(), &pod("p").label("app", "p").build()), Some(vec![0, 0, 100, 0]));
    let (careless, near) = (InterPodAffinity::new(0, false), pod("p").label("app", "p").build());
    assert!(careless.pre_score(wanted.world(), &near, &[]).is_none());
    assert_eq!(bench([]).scores(&plugin(), &pod("p").build()), None);
}

#[test]
fn only_pods_and_places_that_terms_name_may_help() {
    let none = bench([]);
    let waiting = near(pod("p"), json!([term(json!({"app": "web"}), "zone")])).build();
    let helps = |event: Event<'_>| plugin().may_help(none.world(), &waiting, &event);
    assert!(helps(Event::PodPlaced(&pod("w").label("app", "web").on("a").build())));
    assert!(!helps(Event::PodPlaced(&pod("w").label("app", "db").on("a").build())));
    assert!(helps(Event::NodeAdded(&node("n").label("zone", "z3").build())));
    assert!(!helps(Event::NodeAdded(&node("n").build())));
    let (bare, zoned) = (node("n").build(), node("n").label("zone", "z1").build());
    assert!(none.node_update_helps(&plugin(), &waiting, &bare, &zoned));
    assert!(!none.node_update_helps(&plugin(), &waiting, &zoned, &bare));
    let shy = far(pod("p"), json!([term(json!({"app": "web"}), "zone")])).build();
    let gone = pod("w").label("app", "web").on("a").build();
    assert!(plugin().may_help(none.world(), &shy, &Event::PodGone(&gone)));
}
