//! What the Node object of a machine says.

mod conditions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kiln_apimachinery::time;
use serde_json::{Map, Value, json};

use crate::health::Health;
use crate::machine::{Facts, Machine, Pressure};
use crate::pods::machine_end::NOT_READY;
use crate::{Config, KUBELET_VERSION};

/// What this kubelet does beyond what every node does (KEP-5328), in order.
const FEATURES: &[&str] = &["RestartAllContainersOnContainerExits"];
/// The most pods of a node.
const PODS: u32 = 110;
/// Memory that pods cannot have: below this much the node is under pressure.
pub(crate) const RESERVED_MEMORY: u64 = 100 << 20;
/// The part of the disk that pods cannot have, in percent.
pub(crate) const RESERVED_DISK: u64 = 10;

/// The Node's labels.
pub(crate) fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    let mut set = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    for prefix in ["", "beta."] {
        set(&format!("{prefix}kubernetes.io/arch"), Facts::ARCHITECTURE);
        set(&format!("{prefix}kubernetes.io/os"), "linux");
    }
    set("kubernetes.io/hostname", &config.node_name);
    if let Some(board) = &config.board {
        set("node.kubernetes.io/instance-type", board);
    }
    labels
}

/// The Node's status. `known` is the Node as it is: conditions of others, and times of ours that did not change, are
/// taken from it.
pub(crate) fn status(
    config: &Config,
    machine: &Machine,
    known: &Value,
    pressure: Pressure,
    health: &Health,
    in_use: &BTreeSet<String>,
) -> Value {
    let ends = config.pods.as_ref().is_some_and(|pods| pods.end.begins.is_cancelled());
    let fault = if ends { Some(NOT_READY.to_owned()) } else { health.message() };
    let facts = &machine.facts;
    let in_use = if in_use.is_empty() { Value::Null } else { json!(in_use) };
    json!({
        "addresses": addresses(config, &machine.addresses.borrow()),
        "capacity": capacity(facts),
        "allocatable": allocatable(facts),
        "conditions": conditions::all(known, pressure, fault.as_deref(), &time::rfc3339(config.clock.now())),
        "images": health.images,
        "declaredFeatures": FEATURES,
        "volumesInUse": in_use,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": crate::server::PORT}},
        "nodeInfo": {
            "machineID": facts.machine_id,
            "systemUUID": facts.system_uuid,
            "bootID": facts.boot_id,
            "kernelVersion": facts.kernel_version,
            "osImage": facts.os_image,
            "containerRuntimeVersion": health.version,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": Facts::ARCHITECTURE,
        },
    })
}

/// Whether a Node's status is not the wanted one, apart from heartbeat times.
pub(crate) fn differs(known: &Value, wanted: &Value) -> bool {
    let Some(wanted) = wanted.as_object() else { return true };
    wanted.iter().any(|(field, wanted)| {
        let known = &known["status"][field];
        if field == "conditions" { conditions::differ(known, wanted) } else { known != wanted }
    })
}

fn addresses(config: &Config, addresses: &[IpAddr]) -> Vec<Value> {
    let addresses = if config.node_ips.is_empty() { addresses } else { &config.node_ips };
    let internal = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address.to_string()}));
    internal.chain([json!({"type": "Hostname", "address": config.node_name})]).collect()
}

fn capacity(facts: &Facts) -> Map<String, Value> {
    let mut capacity = Map::new();
    let mut set = |name: String, value: String| capacity.insert(name, json!(value));
    set("cpu".to_owned(), facts.cpus.to_string());
    set("memory".to_owned(), format!("{}Ki", facts.memory >> 10));
    set("ephemeral-storage".to_owned(), format!("{}Ki", facts.disk >> 10));
    set("pods".to_owned(), PODS.to_string());
    for (size, bytes) in &facts.huge_pages {
        set(format!("hugepages-{}", size_name(*size)), if *bytes == 0 { "0".to_owned() } else { size_name(*bytes) });
    }
    capacity
}

pub(crate) fn allocatable(facts: &Facts) -> Map<String, Value> {
    let mut allocatable = capacity(facts);
    let huge: u64 = facts.huge_pages.values().sum();
    let memory = facts.memory.saturating_sub(RESERVED_MEMORY + huge);
    allocatable.insert("memory".to_owned(), json!(format!("{}Ki", memory >> 10)));
    let disk = facts.disk - facts.disk / 100 * RESERVED_DISK;
    allocatable.insert("ephemeral-storage".to_owned(), json!(disk.to_string()));
    allocatable
}

/// A number of bytes in the largest binary unit that it is a whole multiple of.
fn size_name(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, name)| format!("{}{name}", bytes >> shift))
}
