//! Resizes, by tables.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::cgroups::Limits;
use crate::cri::LinuxContainerResources;

fn pod(uid: &str, containers: &[(&str, &str)]) -> Arc<Pod> {
    let of = |(name, cpu): &(&str, &str)| {
        let amounts = json!({"cpu": cpu, "memory": "64Mi"});
        json!({"name": name, "resources": {"requests": amounts, "limits": amounts}})
    };
    let containers: Vec<Value> = containers.iter().map(of).collect();
    let metadata = json!({"name": uid, "uid": uid, "generation": 3});
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": containers}})).expect("a pod"))
}

fn node() -> Node {
    let node =
        json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}});
    serde_json::from_value(node).expect("a node")
}

fn cpu(pod: &Pod) -> String {
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    container.resources.as_ref().expect("resources").requests.as_ref().expect("requests")["cpu"].0.clone()
}

#[test]
fn a_pod_keeps_what_it_has_until_there_is_room_for_more() {
    let root = tempfile::tempdir().expect("a folder");
    let allocations = Allocations::new(Dirs::new(root.path()));
    let small = pod("a", &[("c", "500m")]);
    allocations.admit(&small).expect("written");
    assert_eq!(allocations.resize(&small, &[], &node()).expect("decided"), Resize::None);
    let large = pod("a", &[("c", "1500m")]);
    allocations.admit(&large).expect("it was taken before");
    let other = [pod("b", &[("c", "1")])];
    let why = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000";
    assert_eq!(allocations.resize(&large, &other, &node()).expect("decided"), Resize::Deferred(why.to_owned()));
    assert_eq!(cpu(&allocations.apply(&large)), "500m");

    let after_restart = Allocations::new(Dirs::new(root.path()));
    assert_eq!(cpu(&after_restart.apply(&large)), "500m");
    assert_eq!(after_restart.resize(&large, &[], &node()).expect("decided"), Resize::Given);
    assert!(Arc::ptr_eq(&after_restart.apply(&large), &large));
    after_restart.release("a");
    assert!(!root.path().join("pods/a/allocated").exists());
}

#[test]
fn events_show_the_resources_of_all_containers() {
    let mut pod = (*pod("a", &[("c", "500m")])).clone();
    pod.spec.as_mut().expect("a spec").containers[0].resources =
        Some(serde_json::from_value(json!({"requests": {"cpu": "100m"}})).expect("resources"));
    assert_eq!(
        message("Pod resize started", &pod, ""),
        r#"Pod resize started: {"containers":[{"name":"c","resources":{"requests":{"cpu":"100m"}}}],"generation":3}"#
    );
    assert_eq!(
        message("Pod resize error", &pod, "no"),
        r#"Pod resize error: {"containers":[{"name":"c","resources":{"requests":{"cpu":"100m"}}}],"generation":3,"error":"no"}"#
    );
}

fn has(shares: i64, quota: i64, memory: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_shares: shares,
        cpu_quota: quota,
        cpu_period: 100_000,
        memory_limit_in_bytes: memory,
        ..LinuxContainerResources::default()
    }
}

/// The steps in short.
fn steps(
    pod: &Pod,
    from: (i64, i64),
    to: (i64, i64),
    containers: &[(LinuxContainerResources, LinuxContainerResources)],
) -> Vec<String> {
    let limits = |(quota, memory): (i64, i64)| Limits {
        shares: u64::try_from(quota / 100).ok(),
        quota: Some(quota),
        memory: Some(memory),
        ..Limits::default()
    };
    let list = &pod.spec.as_ref().expect("a spec").containers;
    let containers: Vec<_> =
        list.iter().zip(containers).map(|(c, (has, gets))| (c, has.clone(), gets.clone())).collect();
    let steps = changes(pod, &limits(from), &limits(to), &containers);
    let short = |step: Change| match step {
        Change::Pod(Limits { memory: Some(memory), .. }) => format!("pod memory {memory}"),
        Change::Pod(Limits { quota: Some(quota), .. }) => format!("pod quota {quota}"),
        Change::Pod(limits) => format!("pod shares {}", limits.shares.unwrap_or(0)),
        Change::Container { name, resources: r } => format!("{name} {} {}", r.cpu_quota, r.memory_limit_in_bytes),
        Change::Restart { name } => format!("restart {name}"),
    };
    steps.into_iter().map(short).collect()
}

#[test]
fn more_is_given_to_the_pod_first_and_less_is_taken_from_containers_first() {
    let two = pod("a", &[("x", "1"), ("y", "1")]);
    let more = [(has(100, 10_000, 100), has(200, 20_000, 200)), (has(100, 10_000, 100), has(100, 10_000, 50))];
    let expected = ["pod memory 250", "y 10000 50", "x 10000 200", "pod quota 30000", "pod shares 300", "x 20000 200"];
    assert_eq!(steps(&two, (20_000, 200), (30_000, 250), &more), expected);
    let less = [(has(100, 10_000, 100), has(50, 5_000, 50)), (has(100, 10_000, 100), has(100, 10_000, 100))];
    let expected = ["x 10000 50", "pod memory 150", "x 5000 50", "pod shares 150", "pod quota 15000"];
    assert_eq!(steps(&two, (20_000, 200), (15_000, 150), &less), expected);
    let same = [(has(1, 1, 1), has(1, 1, 1)), (has(1, 1, 1), has(1, 1, 1))];
    assert_eq!(steps(&two, (1, 1), (1, 1), &same), Vec::<String>::new());
}

#[test]
fn a_container_is_restarted_if_its_policy_says_so() {
    let mut one = (*pod("a", &[("x", "1")])).clone();
    one.spec.as_mut().expect("a spec").containers[0].resize_policy =
        serde_json::from_value(json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]))
            .expect("a policy");
    let memory = [(has(100, 10_000, 100), has(100, 10_000, 200))];
    assert_eq!(steps(&one, (10_000, 100), (10_000, 200), &memory), ["restart x", "pod memory 200"]);
    let cpu = [(has(100, 10_000, 100), has(200, 20_000, 100))];
    assert_eq!(steps(&one, (10_000, 100), (20_000, 100), &cpu), ["pod quota 20000", "pod shares 200", "x 20000 100"]);
}

#[test]
fn the_status_shows_what_the_runtime_has() {
    let of = |given: Value, actual: Option<LinuxContainerResources>| {
        let container = serde_json::from_value(json!({"name": "c", "resources": given})).expect("a container");
        json!(container_status_resources(&container, actual.as_ref()))
    };
    let given = json!({"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "32Mi"}});
    assert_eq!(of(given.clone(), None), given);
    assert_eq!(of(given.clone(), Some(has(102, 20_000, 64 << 20))), given);
    let before = json!({"limits": {"cpu": "100m", "memory": "32Mi"}, "requests": {"cpu": "50m", "memory": "32Mi"}});
    assert_eq!(of(given, Some(has(51, 10_000, 32 << 20))), before);
    let tiny = json!({"limits": {"cpu": "5m"}, "requests": {"cpu": "1m"}});
    assert_eq!(of(tiny.clone(), Some(has(2, 1_000, 0))), tiny);
    assert_eq!(of(Value::Null, Some(has(2, 0, 0))), Value::Null);
}
