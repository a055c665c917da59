//! Plans, by the cases of upstream's documentation of pods' lives.

use serde_json::{Value, json};

use super::*;
use crate::pods::testing::{pod, view};

const NOTHING: Probed<'static> = &|_, _| None;

type Seen = &'static [(&'static str, State, i32)];

fn spec(policy: &str, inits: Value, containers: Value) -> Pod {
    pod(json!({"restartPolicy": policy, "initContainers": inits, "containers": containers}))
}

fn one(policy: &str) -> Pod {
    spec(policy, json!([]), json!([{"name": "a"}]))
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_first_container() {
    let first = plan(&one("Always"), &View::default(), NOTHING);
    assert_eq!(first, Plan { create_sandbox: true, containers: vec![0], ..Plan::default() });
    let with_init = spec("Always", json!([{"name": "i"}]), json!([{"name": "a"}]));
    let first = plan(&with_init, &View::default(), NOTHING);
    assert_eq!(first, Plan { create_sandbox: true, init: vec![0], ..Plan::default() });
}

#[test]
fn a_container_that_ended_is_started_again_as_the_policy_says() {
    use State::{Created, Exited, Running};
    let rows = [
        ("Always", Running, 0, false),
        ("Always", Exited, 0, true),
        ("OnFailure", Exited, 0, false),
        ("OnFailure", Exited, 1, true),
        ("Never", Exited, 1, false),
        ("Never", Created, 0, true),
    ];
    for (policy, state, code, restarts) in rows {
        let pod = one(policy);
        let plan = plan(&pod, &view(&pod, &[("a", state, code)]), NOTHING);
        assert_eq!(!plan.containers.is_empty(), restarts, "{policy} {state:?} {code}");
        assert_eq!(plan.kill_pod, state == Exited && !restarts, "{policy} {state:?} {code}");
    }
}

#[test]
fn a_container_may_have_a_policy_and_rules_of_its_own() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let own = json!([{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}, {"name": "b"}]);
    let pod = spec("Always", json!([]), own);
    let starts = |code| {
        let view = view(&pod, &[("a", State::Exited, code), ("b", State::Running, 0)]);
        plan(&pod, &view, NOTHING).containers
    };
    assert_eq!((starts(42), starts(1)), (vec![0], vec![]));
}

#[test]
fn init_containers_run_one_after_the_other_and_containers_after_the_last() {
    use State::{Exited, Running};
    let pod = spec("Always", json!([{"name": "i"}, {"name": "j"}]), json!([{"name": "a"}]));
    let rows: [(Seen, &[usize], &[usize]); 5] = [
        (&[], &[0], &[]),
        (&[("i", Running, 0)], &[], &[]),
        (&[("i", Exited, 0)], &[1], &[]),
        (&[("i", Exited, 1)], &[0], &[]),
        (&[("j", Exited, 0), ("i", Exited, 0)], &[], &[0]),
    ];
    for (containers, init, regular) in rows {
        let plan = plan(&pod, &view(&pod, containers), NOTHING);
        assert_eq!((plan.init.as_slice(), plan.containers.as_slice()), (init, regular), "{containers:?}");
    }
}

#[test]
fn a_failed_init_container_ends_a_pod_that_is_never_restarted() {
    let pod = spec("Never", json!([{"name": "i"}]), json!([{"name": "a"}]));
    let plan = plan(&pod, &view(&pod, &[("i", State::Exited, 1)]), NOTHING);
    assert_eq!(plan, Plan { kill_pod: true, ..Plan::default() });
}

#[test]
fn sidecars_run_beside_the_others_and_are_restarted_but_keep_no_pod_alive() {
    use State::{Exited, Running};
    let inits = json!([{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]);
    let pod = spec("Never", inits, json!([{"name": "a"}]));
    let planned = |containers: &[(&str, State, i32)]| plan(&pod, &view(&pod, containers), NOTHING);
    assert_eq!(planned(&[("s", Running, 0)]).init, [1], "the next follows once it runs");
    let main = [("a", Running, 0), ("i", Exited, 0), ("s", Exited, 1)];
    assert_eq!(planned(&main).init, [0], "it is restarted whatever the pod's policy");
    let over = [("a", Exited, 0), ("i", Exited, 0), ("s", Running, 0)];
    assert_eq!(planned(&over), Plan { kill_pod: true, ..Plan::default() });
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_up_the_next_until_it_has_started() {
    let inits = json!([{"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i"}]);
    let pod = spec("Always", inits, json!([{"name": "a"}]));
    let view = view(&pod, &[("s", State::Running, 0)]);
    assert!(plan(&pod, &view, NOTHING).is_empty());
    let up: Probed<'_> = &|kind, _| (kind == Kind::Startup).then_some(Outcome::Success);
    assert_eq!(plan(&pod, &view, up).init, [1]);
    let down: Probed<'_> = &|kind, _| (kind == Kind::Startup).then_some(Outcome::Failure);
    let failed = plan(&pod, &view, down);
    assert_eq!((failed.init, failed.kill[0].cause), (vec![0], Cause::StartupProbe));
}

#[test]
fn what_does_not_live_is_killed_and_restarted_unless_the_policy_forbids_it() {
    let dead: Probed<'_> = &|kind, _| (kind == Kind::Liveness).then_some(Outcome::Failure);
    for (policy, restarts) in [("Always", true), ("OnFailure", true), ("Never", false)] {
        let pod = one(policy);
        let plan = plan(&pod, &view(&pod, &[("a", State::Running, 0)]), dead);
        assert_eq!(!plan.containers.is_empty(), restarts, "{policy}");
        let message = if restarts { ", will be restarted" } else { "" };
        assert_eq!(plan.kill[0].message, format!("Container a failed liveness probe{message}"));
    }
}

#[test]
fn a_lost_sandbox_is_made_anew_only_if_something_is_left_to_run() {
    let gone = |policy: &str, code| {
        let pod = one(policy);
        let mut view = view(&pod, &[("a", State::Exited, code)]);
        view.sandboxes[0].ready = false;
        plan(&pod, &view, NOTHING)
    };
    let again = Plan { kill_pod: true, create_sandbox: true, containers: vec![0], ..Plan::default() };
    assert_eq!(gone("Always", 0), again);
    assert_eq!(gone("OnFailure", 1), again);
    let over = Plan { kill_pod: true, ..Plan::default() };
    assert_eq!(gone("OnFailure", 0), over);
    assert_eq!(gone("Never", 1), over);
}

#[test]
fn an_ephemeral_container_is_started_once() {
    let pod = pod(json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]}));
    assert_eq!(plan(&pod, &view(&pod, &[("a", State::Running, 0)]), NOTHING).ephemeral, [0]);
    let seen = view(&pod, &[("e", State::Exited, 1), ("a", State::Running, 0)]);
    assert!(plan(&pod, &seen, NOTHING).is_empty());
}

#[test]
fn a_container_may_have_all_of_its_pod_run_anew_and_is_removed_last_itself() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let own = json!([{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}, {"name": "b"}]);
    let pod = spec("Never", json!([{"name": "i"}]), own);
    let of = |code| {
        let seen = view(&pod, &[("i", State::Exited, 0), ("a", State::Exited, code), ("b", State::Running, 0)]);
        let plan = plan(&pod, &seen, NOTHING);
        plan.reset.iter().map(|one| (one.name.clone(), one.runs)).collect::<Vec<_>>()
    };
    let expected = [("b", true), ("i", false), ("a", false)].map(|(name, runs)| (name.to_owned(), runs));
    assert_eq!((of(42), of(1)), (expected.to_vec(), vec![]));
    assert!(should_restart(&super::super::containers(&pod)[0], &pod, 42), "the pod is not over");
}
