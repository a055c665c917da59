//! What the Node object of a machine says.

mod conditions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kiln_apimachinery::time;
use serde_json::{Map, Value, json};

use crate::eviction::{self, Signal};
use crate::health::Health;
use crate::machine::{Facts, Machine, Pressure};
use crate::pods::machine_end::NOT_READY;
use crate::resources::{CPU, EPHEMERAL_STORAGE, MEMORY};
use crate::{Config, KUBELET_VERSION, NodeSettings, Reserve};

/// What this kubelet does beyond what every node does (KEP-5328), in order.
const FEATURES: &[&str] = &["RestartAllContainersOnContainerExits"];

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
    devices: &BTreeMap<String, (usize, usize)>,
) -> Value {
    let ends = config.pods.as_ref().is_some_and(|pods| pods.end.begins.is_cancelled());
    let fault = if ends { Some(NOT_READY.to_owned()) } else { health.message() };
    let facts = &machine.facts;
    let usual = NodeSettings::default();
    let NodeSettings { reserve, eviction, .. } = config.pods.as_ref().map_or(&usual, |pods| &pods.settings);
    let (mut capacity, mut allocatable) = (capacity(facts, reserve), allocatable(facts, reserve, eviction));
    for (resource, (all, healthy)) in devices {
        capacity.insert(resource.clone(), json!(all.to_string()));
        allocatable.insert(resource.clone(), json!(healthy.to_string()));
    }
    let in_use = if in_use.is_empty() { Value::Null } else { json!(in_use) };
    json!({
        "addresses": addresses(config, &machine.addresses.borrow()),
        "capacity": capacity,
        "allocatable": allocatable,
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
        match field.as_str() {
            "conditions" => conditions::differ(known, wanted),
            // Others may have added resources of theirs.
            "capacity" | "allocatable" => {
                wanted.as_object().into_iter().flatten().any(|(name, amount)| known[name] != *amount)
            }
            _ => known != wanted,
        }
    })
}

fn addresses(config: &Config, addresses: &[IpAddr]) -> Vec<Value> {
    let addresses = if config.node_ips.is_empty() { addresses } else { &config.node_ips };
    let internal = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address.to_string()}));
    internal.chain([json!({"type": "Hostname", "address": config.node_name})]).collect()
}

fn capacity(facts: &Facts, reserve: &Reserve) -> Map<String, Value> {
    let mut capacity = Map::new();
    let mut set = |name: String, value: String| capacity.insert(name, json!(value));
    set("cpu".to_owned(), facts.cpus.to_string());
    set("memory".to_owned(), format!("{}Ki", facts.memory >> 10));
    set("ephemeral-storage".to_owned(), format!("{}Ki", facts.disk >> 10));
    set("pods".to_owned(), reserve.pods.to_string());
    for (size, bytes) in &facts.huge_pages {
        set(format!("hugepages-{}", size_name(*size)), if *bytes == 0 { "0".to_owned() } else { size_name(*bytes) });
    }
    capacity
}

/// What pods have: the machine without what is reserved, and without what must be left for pods not to be ended.
pub(crate) fn allocatable(facts: &Facts, reserve: &Reserve, eviction: &eviction::Settings) -> Map<String, Value> {
    let mut allocatable = capacity(facts, reserve);
    let mut set = |name: &str, value: String| allocatable.insert(name.to_owned(), json!(value));
    let cpu = (i64::from(facts.cpus) * 1000 - reserve.of(CPU).milli_value()).max(0);
    set(CPU, if cpu % 1000 == 0 { (cpu / 1000).to_string() } else { format!("{cpu}m") });
    let kept = |signal: Signal, capacity: u64| eviction.kept(signal, capacity);
    let huge: u64 = facts.huge_pages.values().sum();
    let memory = reserve.bytes(MEMORY) + kept(Signal::MemoryAvailable, facts.memory) + huge;
    set(MEMORY, format!("{}Ki", facts.memory.saturating_sub(memory) >> 10));
    let disk = reserve.bytes(EPHEMERAL_STORAGE) + kept(Signal::NodeFsAvailable, facts.disk);
    set(EPHEMERAL_STORAGE, facts.disk.saturating_sub(disk).to_string());
    allocatable
}

/// A number of bytes in the largest binary unit that it is a whole multiple of.
fn size_name(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, name)| format!("{}{name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_what_is_neither_reserved_nor_to_be_left() {
        let facts = Facts { cpus: 4, memory: 1 << 30, disk: 32_000_000_000, ..Facts::default() };
        let reserve = Reserve {
            pods: 20,
            kube: Reserve::parse("cpu=250m,memory=100Mi").unwrap(),
            system: Reserve::parse("memory=24Mi,ephemeral-storage=1G").unwrap(),
        };
        let mut eviction = eviction::Settings::default();
        eviction.set("eviction-hard", "memory.available<50Mi,nodefs.available<5%").unwrap();
        let texts = |map: &Map<String, Value>| {
            ["cpu", "memory", "ephemeral-storage", "pods"].map(|name| map[name].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(texts(&capacity(&facts, &reserve)), ["4", "1048576Ki", "31250000Ki", "20"]);
        let disk = (32_000_000_000_u64 - 1_000_000_000 - 1_600_000_000).to_string();
        assert_eq!(texts(&allocatable(&facts, &reserve, &eviction)), ["3750m", "870400Ki", &disk, "20"]);
        let all = Reserve { kube: Reserve::parse("cpu=5,memory=2Gi").unwrap(), ..Reserve::default() };
        assert_eq!(texts(&allocatable(&facts, &all, &eviction))[..2], ["0", "0Ki"]);
    }
}
