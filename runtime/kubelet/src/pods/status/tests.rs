//! Statuses, by the cases of upstream's documentation of pods' lives.

use serde_json::{Value, json};

use super::*;
use crate::pods::testing::{pod, view};
use crate::pods::view::State;
use crate::probes::{Kind, Outcome};

type Seen = &'static [(&'static str, State, i32)];

struct Case {
    pod: Pod,
    view: View,
    old: PodStatus,
    waiting: BTreeMap<String, Waiting>,
    terminal: bool,
}

impl Case {
    fn new(spec: Value, containers: &[(&str, State, i32)]) -> Self {
        let pod = pod(spec);
        let view = view(&pod, containers);
        Self { view, pod, old: PodStatus::default(), waiting: BTreeMap::new(), terminal: false }
    }

    fn make(&self, probed: Probed<'_>) -> PodStatus {
        make(&Facts {
            pod: &self.pod,
            view: &self.view,
            old: &self.old,
            waiting: &self.waiting,
            resizing: &crate::pods::resize::Resizing::default(),
            probed,
            is_terminal: self.terminal,
            host_ips: &["192.0.2.1".parse().expect("an address")],
            now: Timestamp::UNIX_EPOCH,
            runtime: "containerd",
        })
    }

    fn phase(&self) -> String {
        self.make(&|_, _| None).phase.expect("a phase")
    }
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a k8s_openapi::api::core::v1::PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).expect("a condition")
}

#[test]
fn the_phase_follows_the_containers_and_the_policy() {
    use State::{Exited, Running};
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    let rows: [(&str, Seen, &str); 8] = [
        ("Always", &[], "Pending"),
        ("Always", &[("a", Running, 0)], "Pending"),
        ("Always", &[("a", Running, 0), ("b", Running, 0)], "Running"),
        ("Always", &[("a", Exited, 0), ("b", Exited, 1)], "Running"),
        ("OnFailure", &[("a", Exited, 0), ("b", Exited, 0)], "Succeeded"),
        ("OnFailure", &[("a", Exited, 0), ("b", Exited, 1)], "Running"),
        ("Never", &[("a", Exited, 0), ("b", Exited, 1)], "Failed"),
        ("Never", &[("a", Exited, 0), ("b", Running, 0)], "Running"),
    ];
    for (policy, containers, phase) in rows {
        assert_eq!(Case::new(two(policy), containers).phase(), phase, "{policy} {containers:?}");
    }
    let mut ended = Case::new(two("Always"), &[("a", Exited, 0), ("b", Exited, 0)]);
    ended.terminal = true;
    assert_eq!(ended.phase(), "Succeeded", "a pod that ended for good is not restarted");
    ended.old.phase = Some("Failed".to_owned());
    assert_eq!(ended.phase(), "Failed", "not even for one that its containers speak for");
    ended.terminal = false;
    assert_eq!(ended.phase(), "Failed", "and never leaves its last phase");
    ended.pod.metadata.annotations = Some([(crate::pods::SOURCE.to_owned(), "file".to_owned())].into());
    assert_eq!(ended.phase(), "Running", "a static pod runs again");
}

#[test]
fn a_pod_waits_for_its_init_containers() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let case = Case::new(spec.clone(), &[("i", State::Running, 0)]);
    let status = case.make(&|_, _| None);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.status, "False");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    let waiting = status.container_statuses.as_ref().and_then(|list| list[0].state.as_ref()?.waiting.as_ref());
    assert_eq!(waiting.and_then(|waiting| waiting.reason.as_deref()), Some("PodInitializing"));
    let case = Case::new(spec, &[("a", State::Running, 0)]);
    let status = case.make(&|_, _| None);
    let init = status.init_container_statuses.as_ref().and_then(|list| list[0].state.as_ref()?.terminated.as_ref());
    assert_eq!(init.map(|ended| ended.exit_code), Some(0), "one that the runtime forgot had succeeded");
    assert_eq!(condition(&status, "Initialized").status, "True");
}

#[test]
fn readiness_is_what_probes_say_after_the_start() {
    let spec = json!({"containers": [{"name": "a", "startupProbe": {}, "readinessProbe": {}}]});
    let case = Case::new(spec, &[("a", State::Running, 0)]);
    let of = |startup: Option<Outcome>, readiness: Option<Outcome>| {
        let status = case.make(&move |kind, _| if kind == Kind::Startup { startup } else { readiness });
        let one = &status.container_statuses.as_ref().expect("a list")[0];
        (one.started, one.ready, condition(&status, "Ready").status.clone())
    };
    let (yes, no) = (Some(Outcome::Success), Some(Outcome::Failure));
    assert_eq!(of(None, None), (Some(false), false, "False".to_owned()));
    assert_eq!(of(yes, no), (Some(true), false, "False".to_owned()));
    assert_eq!(of(yes, yes), (Some(true), true, "True".to_owned()));
    assert_eq!(of(None, yes), (Some(false), false, "False".to_owned()));
}

#[test]
fn readiness_gates_are_asked_last() {
    let spec = json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "example.org/up"}]});
    let mut case = Case::new(spec, &[("a", State::Running, 0)]);
    let status = case.make(&|_, _| None);
    let ready = condition(&status, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("ReadinessGatesNotReady")));
    let message = "corresponding condition of pod readiness gate \"example.org/up\" does not exist.";
    assert_eq!(ready.message.as_deref(), Some(message));
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    let up = json!({"conditions": [{"type": "example.org/up", "status": "True"}]});
    case.pod.status = Some(serde_json::from_value(up).expect("a status"));
    let status = case.make(&|_, _| None);
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(condition(&status, "example.org/up").status, "True", "the condition of another stays");
}

#[test]
fn why_a_container_waits_is_shown_with_how_it_ended() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}), &[("a", State::Exited, 3)]);
    let waiting = Waiting { reason: "CrashLoopBackOff", message: "back-off".to_owned() };
    case.waiting.insert("a".to_owned(), waiting);
    let status = case.make(&|_, _| None);
    let one = &status.container_statuses.as_ref().expect("a list")[0];
    let waiting = one.state.as_ref().and_then(|state| state.waiting.as_ref()).expect("it waits");
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = one.last_state.as_ref().and_then(|state| state.terminated.as_ref()).expect("it ended");
    assert_eq!(last.exit_code, 3);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn addresses_are_the_sandboxs_or_the_nodes() {
    let case = Case::new(json!({"containers": [{"name": "a"}]}), &[]);
    let status = case.make(&|_, _| None);
    assert_eq!((status.pod_ip.as_deref(), status.host_ip.as_deref()), (Some("10.0.0.2"), Some("192.0.2.1")));
    let mut host = Case::new(json!({"hostNetwork": true, "containers": [{"name": "a"}]}), &[]);
    host.view.sandboxes[0].ips.clear();
    assert_eq!(host.make(&|_, _| None).pod_ip.as_deref(), Some("192.0.2.1"));
}

#[test]
fn what_is_left_open_at_the_end_counts_as_failed() {
    let case = Case::new(json!({"containers": [{"name": "a"}]}), &[]);
    let mut status = case.make(&|_, _| None);
    settle(&mut status, &case.pod);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let ended = status.container_statuses.as_ref().and_then(|list| list[0].state.as_ref()?.terminated.as_ref());
    let ended = ended.expect("it has ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}
