//! How long tracking owners and applying take, for a ConfigMap's and a Pod's worth of fields. Run it in release.
#![allow(clippy::unwrap_used, reason = "a measurement, not a program")]

use std::hint::black_box;
use std::time::Instant;

use kiln_apimachinery::Gvk;
use kiln_apimachinery::apply::{Set, Writer, apply, update};
use kiln_apimachinery::typed::{Kind, ListType, Type};
use serde_json::{Value, json};

/// Objects and lists by their names, which is how the bulk of a Pod merges.
#[derive(Clone, Copy, PartialEq)]
enum Named {
    Object,
    List,
    Value,
}

const OBJECTS: &[&str] = &[
    "annotations",
    "data",
    "emptyDir",
    "httpGet",
    "labels",
    "limits",
    "livenessProbe",
    "metadata",
    "requests",
    "resources",
    "secret",
    "spec",
    "status",
];

impl Type for Named {
    fn kind(&self) -> Kind {
        match self {
            Self::Object => Kind::Struct,
            Self::List => Kind::List,
            Self::Value => Kind::Scalar,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        Some(match name {
            "containers" | "env" | "volumes" | "volumeMounts" | "ports" => Self::List,
            name if OBJECTS.binary_search(&name).is_ok() => Self::Object,
            _ => Self::Value,
        })
    }

    fn item(&self) -> Option<Self> {
        Some(Self::Object)
    }

    fn list(&self) -> ListType {
        ListType::Map
    }

    fn key(&self, index: usize) -> Option<&str> {
        (index == 0).then_some("name")
    }
}

fn config_map() -> Value {
    let data: serde_json::Map<String, Value> = (0..10).map(|i| (format!("key-{i}"), "value".into())).collect();
    json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "c", "namespace": "d", "labels": {"app": "x"}}, "data": data})
}

fn pod() -> Value {
    let container = |name: &str| {
        let env: Vec<Value> = (0..8).map(|i| json!({"name": format!("E{i}"), "value": "v"})).collect();
        json!({
            "name": name, "image": "registry/app:1", "imagePullPolicy": "IfNotPresent", "env": env,
            "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "token", "mountPath": "/var/run"}],
            "livenessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 10, "failureThreshold": 3},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    json!({
        "apiVersion": "v1", "kind": "X",
        "metadata": {"name": "p", "namespace": "d", "labels": {"app": "x", "hash": "y"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [container("one"), container("two")], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "token", "secret": {"secretName": "s"}}],
            "serviceAccountName": "default", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending"},
    })
}

fn measure(what: &str, mut once: impl FnMut()) {
    const ROUNDS: u32 = 20_000;
    for _ in 0..ROUNDS / 10 {
        once();
    }
    let start = Instant::now();
    for _ in 0..ROUNDS {
        once();
    }
    println!("{what:<40} {:>8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

fn main() {
    let nothing = Set::default();
    let writer = |manager: &'static str| Writer {
        manager,
        api_version: "v1",
        serves: &|_| false,
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        ignored: &nothing,
    };
    for (name, object, change) in [
        ("ConfigMap", config_map(), "/data/key-3"),
        ("Pod", pod(), "/status/phase"),
        ("Pod, deep", pod(), "/spec/containers/1/env/5/value"),
    ] {
        let mut live = object.clone();
        update(Named::Object, None, &mut live, &writer("creator"));
        for (manager, label) in [("controller", "l1"), ("kubelet", "l2")] {
            let mut new = live.clone();
            new["metadata"]["labels"][label] = json!("1");
            update(Named::Object, Some(&live), &mut new, &writer(manager));
            live = new;
        }
        let mut changed = live.clone();
        *changed.pointer_mut(change).unwrap() = json!("changed");
        measure(&format!("{name}: a copy, for comparison"), || drop(black_box(live.clone())));
        measure(&format!("{name}: create"), || {
            let mut new = object.clone();
            update(Named::Object, None, &mut new, &writer("creator"));
            black_box(&new);
        });
        measure(&format!("{name}: update of nothing"), || {
            let mut new = live.clone();
            update(Named::Object, Some(&live), &mut new, &writer("kubelet"));
            black_box(&new);
        });
        measure(&format!("{name}: update of a field"), || {
            let mut new = changed.clone();
            update(Named::Object, Some(&live), &mut new, &writer("kubelet"));
            black_box(&new);
        });
        let gvk = Gvk::new("", "v1", "X");
        measure(&format!("{name}: apply"), || {
            drop(black_box(apply(Named::Object, &gvk, Some(&live), &object, &writer("me"), true)));
        });
        let applied = apply(Named::Object, &gvk, Some(&live), &object, &writer("me"), true).unwrap();
        measure(&format!("{name}: apply again"), || {
            drop(black_box(apply(Named::Object, &gvk, Some(&applied), &object, &writer("me"), true)));
        });
    }
}
