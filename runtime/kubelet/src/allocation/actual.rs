//! What a container's status tells of its resources.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kiln_apimachinery::quantity::Quantity;

use crate::cri::LinuxContainerResources;
use crate::resources::{CPU, MEMORY, Texts, amount};

/// Thousandths of a processor below which limits, and shares, are all the same to the kernel: what was given is shown then.
const LEAST_LIMIT: i64 = 10;
const LEAST_SHARES: i64 = 2;

/// The resources of a container that runs: what it was given, and of processors and memory what the runtime says it has.
pub fn container_status_resources(
    given: &Container,
    actual: Option<&LinuxContainerResources>,
) -> Option<ResourceRequirements> {
    let mut resources = given.resources.clone()?;
    let Some(actual) = actual else { return Some(resources) };
    if let Some(limits) = &mut resources.limits {
        if actual.cpu_period > 0 && actual.cpu_quota > 0 {
            set_cpu(limits, actual.cpu_quota * 1000 / actual.cpu_period, LEAST_LIMIT);
        }
        if actual.memory_limit_in_bytes > 0 {
            set(limits, MEMORY, &binary(actual.memory_limit_in_bytes));
        }
    }
    if let Some(requests) = &mut resources.requests
        && actual.cpu_shares >= LEAST_SHARES
    {
        // Rounded up, as shares are rounded down.
        set_cpu(requests, (actual.cpu_shares * 1000 + 1023) / 1024, LEAST_SHARES);
    }
    Some(resources)
}

fn set_cpu(list: &mut Texts, milli: i64, least: i64) {
    let given = amount(Some(list), CPU).milli_value();
    if given != milli && (milli > least || given > least) {
        set(list, CPU, &format!("{milli}m"));
    }
}

/// In the canonical form, unless it is the same amount as before.
fn set(list: &mut Texts, name: &str, text: &str) {
    let Ok(new) = Quantity::parse(text) else { return };
    if list.get(name).is_none_or(|known| crate::resources::read(known) != new) {
        list.insert(name.to_owned(), Text(new.to_string()));
    }
}

fn binary(bytes: i64) -> String {
    if bytes % 1024 == 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() }
}
