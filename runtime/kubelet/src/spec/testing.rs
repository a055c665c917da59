//! Pods and contexts for tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kiln_apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use super::{NodeContext, PodContext};
use crate::volumes::{Dirs, Mounted, Place};

/// A pod `ns/p` of uid `u` with this spec.
pub(super) fn pod(mut spec: Value) -> Pod {
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

pub(super) fn node() -> NodeContext {
    let amount = |text: &str| Quantity::parse(text).expect("an amount");
    NodeContext {
        name: "n".to_owned(),
        addresses: ["192.168.0.2", "fd01::2"].map(|text| text.parse().expect("an address")).into(),
        cluster_dns: vec!["10.43.0.10".parse().expect("an address")],
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: None,
        dirs: Dirs::new("/var/lib/kubelet"),
        pod_logs: "/var/log/pods".into(),
        allocatable: [("cpu".to_owned(), amount("4")), ("memory".to_owned(), amount("8Gi"))].into(),
        memory: 10 << 30,
        cgroup_root: "/kubepods".to_owned(),
        cgroup_v2: true,
        counts_swap: false,
        huge_pages: vec![2 << 20, 1 << 30],
        cpu_quota: true,
        seccomp_default: false,
        selinux: false,
        handlers: BTreeMap::new(),
    }
}

pub(super) fn context() -> PodContext {
    of_node(node())
}

pub(super) fn of_node(node: NodeContext) -> PodContext {
    PodContext {
        node: Arc::new(node),
        attempt: 0,
        pod_ips: vec!["10.42.0.5".to_owned(), "fd00::5".to_owned()],
        volumes: BTreeMap::new(),
        services: BTreeMap::new(),
        runtime_handler: String::new(),
        user_namespace: None,
    }
}

pub(super) fn mounted(path: &Path) -> Mounted {
    Mounted { place: Place::Path(path.to_owned()), read_only: false, relabel: true }
}
