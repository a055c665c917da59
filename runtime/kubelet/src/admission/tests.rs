//! Verdicts, by tables.

use serde_json::{Value, json};

use super::*;

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).expect("a pod")
}

fn asking(name: &str, requests: Value, more: Value) -> Arc<Pod> {
    let mut spec = json!({"containers": [{"name": "c", "resources": { "requests": requests }}]});
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Arc::new(pod(name, spec))
}

fn node() -> Node {
    let node = json!({
        "metadata": {"name": "n", "labels": {"disk": "ssd", "kubernetes.io/os": "linux"}},
        "spec": {"taints": [{"key": "broken", "effect": "NoExecute"}, {"key": "full", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/gpu": "1", "hugepages-2Mi": "4Mi"}},
    });
    serde_json::from_value(node).expect("a node")
}

/// With a toleration of what the node is tainted with.
fn tolerant(mut spec: Value) -> Value {
    spec["tolerations"] = json!([{"operator": "Exists"}]);
    spec
}

fn verdict(spec: Value, others: &[Arc<Pod>]) -> Option<(String, String)> {
    match admit(&pod("p", tolerant(spec)), others, &node()) {
        Verdict::Admit => None,
        Verdict::Reject(rejection) => Some((rejection.reason, rejection.message)),
        Verdict::Preempt(victims) => panic!("{} victims", victims.len()),
    }
}

fn requests(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": { "requests": requests }}]})
}

#[test]
fn a_pod_must_find_room() {
    let others = [asking("a", json!({"cpu": "1500m", "memory": "512Mi"}), json!({}))];
    let short = |resource: &str, requested: i64, used: i64, capacity: i64| {
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        Some((format!("OutOf{resource}"), message))
    };
    let rows = [
        (requests(json!({})), None),
        (requests(json!({"cpu": "500m", "memory": "512Mi"})), None),
        (requests(json!({"cpu": "501m"})), short("cpu", 501, 1500, 2000)),
        (requests(json!({"memory": "513Mi"})), short("memory", 513 << 20, 512 << 20, 1 << 30)),
        (requests(json!({"example.com/gpu": "2"})), short("example.com/gpu", 2, 0, 1)),
        (requests(json!({"hugepages-2Mi": "6Mi", "memory": "1Mi"})), short("hugepages-2Mi", 6 << 20, 0, 4 << 20)),
        (requests(json!({"example.com/unknown": "2"})), None),
        (requests(json!({"ephemeral-storage": "1Gi"})), short("ephemeral-storage", 1 << 30, 0, 0)),
    ];
    for (spec, expected) in rows {
        assert_eq!(verdict(spec.clone(), &others), expected, "{spec}");
    }
    let many: Vec<_> = ["a", "b", "c"].map(|name| asking(name, json!({}), json!({}))).into();
    assert_eq!(verdict(json!({}), &many), short("pods", 1, 3, 3));
}

#[test]
fn a_pod_must_match_the_node() {
    let failed = |name: &str, why: &str| Some((name.to_owned(), format!("Predicate {name} failed: {why}")));
    let affinity = failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    let required = |value: &str| {
        let term = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]});
        let required = json!({"nodeSelectorTerms": [term]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
    };
    let rows = [
        (json!({"nodeSelector": {"disk": "ssd"}}), None),
        (json!({"nodeSelector": {"disk": "hdd"}}), affinity.clone()),
        (required("ssd"), None),
        (required("hdd"), affinity),
        (json!({"nodeName": "n"}), None),
        (json!({"nodeName": "m"}), failed("NodeName", "node(s) didn't match the requested node name")),
    ];
    for (spec, expected) in rows {
        assert_eq!(verdict(spec.clone(), &[]), expected, "{spec}");
    }
    let Verdict::Reject(rejection) = admit(&pod("p", json!({})), &[], &node()) else { panic!("it is taken") };
    assert_eq!(
        (rejection.reason.as_str(), rejection.message.as_str()),
        ("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")
    );
    let mut own = pod("p", json!({}));
    own.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
    assert!(matches!(admit(&own, &[], &node()), Verdict::Admit), "a static pod tolerates all");
}

#[test]
fn a_rejection_by_labels_is_worth_a_second_look() {
    let look = |spec: Value| match admit(&pod("p", tolerant(spec)), &[], &node()) {
        Verdict::Reject(rejection) => rejection.with_fresh_node,
        _ => panic!("it is taken"),
    };
    assert!(look(json!({"nodeSelector": {"disk": "hdd"}})));
    assert!(!look(json!({"nodeSelector": {"disk": "hdd"}, "nodeName": "m"})));
}

#[test]
fn ports_of_the_node_are_taken_once() {
    let with = |ip: &str, protocol: &str, port: u16| {
        json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 1, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]})
    };
    let taken = [Arc::new(pod("a", with("127.0.0.1", "TCP", 80))), Arc::new(pod("b", with("", "UDP", 53)))];
    let rows = [
        (with("127.0.0.1", "TCP", 80), true),
        (with("", "TCP", 80), true),
        (with("127.0.0.2", "TCP", 80), false),
        (with("127.0.0.1", "UDP", 80), false),
        (with("127.0.0.1", "TCP", 81), false),
        (with("10.0.0.1", "UDP", 53), true),
        (with("", "TCP", 0), false),
    ];
    for (spec, expected) in rows {
        let found = verdict(spec.clone(), &taken).map(|(reason, _)| reason);
        assert_eq!(found.as_deref(), expected.then_some("NodePorts"), "{spec}");
    }
}

#[test]
fn what_the_node_cannot_do_is_refused() {
    let rows = [
        (json!({"os": {"name": "linux"}}), None),
        (json!({"os": {"name": "windows"}}), Some("PodOSNotSupported")),
        (json!({"securityContext": {"supplementalGroupsPolicy": "Merge"}}), None),
        (
            json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}),
            Some("SupplementalGroupsPolicyNotSupported"),
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(verdict(spec.clone(), &[]).map(|(reason, _)| reason).as_deref(), expected, "{spec}");
    }
}

#[test]
fn critical_pods_find_room_at_the_cost_of_others() {
    let critical = |requests: Value| {
        let more = json!({"priority": 2_000_000_000, "tolerations": [{"operator": "Exists"}]});
        admit(&asking("p", requests, more), &others(), &node())
    };
    fn others() -> Vec<Arc<Pod>> {
        let both = json!({"cpu": "800m", "memory": "256Mi"});
        let guaranteed = json!({"containers": [{"name": "c", "resources": {"requests": both, "limits": both}}]});
        vec![
            asking("small", json!({"cpu": "300m", "memory": "64Mi"}), json!({})),
            asking("large", json!({"cpu": "900m", "memory": "128Mi"}), json!({})),
            Arc::new(pod("guaranteed", guaranteed)),
        ]
    }
    let names = |verdict: Verdict| match verdict {
        Verdict::Preempt(victims) => victims.iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    // Nothing is free but one place, and the node takes three pods: the fewest and lowest go.
    assert_eq!(names(critical(json!({"cpu": "200m"}))), ["small"]);
    assert_eq!(names(critical(json!({"cpu": "800m"}))), ["large"]);
    assert_eq!(names(critical(json!({"cpu": "1200m"}))), ["large", "small"]);
    assert_eq!(names(critical(json!({"cpu": "2"}))), ["large", "small", "guaranteed"]);
    let Verdict::Reject(rejection) = critical(json!({"cpu": "3"})) else { panic!("there is no such room") };
    assert_eq!(rejection.reason, "UnexpectedAdmissionError");
    assert!(
        rejection.message.ends_with("no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]"),
        "{}",
        rejection.message
    );
}
