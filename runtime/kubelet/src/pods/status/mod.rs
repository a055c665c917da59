//! A pod's status, as upstream's kubelet makes it: pure, of the spec, of what the runtime has, of what probes say and of the
//! status as it was. In `containers` the statuses of containers, in `phase` the phase, in `conditions` the conditions; `patch`
//! makes of an old and a new one the request that changes what is different.

mod conditions;
mod containers;
pub(crate) mod patch;
mod phase;
mod settle;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) use self::conditions::disrupt;
pub(crate) use self::settle::settle;
use super::is_host_network;
use super::plan::Probed;
use super::resize::Resizing;
use super::view::View;

/// Why a container is not running yet, as [`super::start`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What a status is made of.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) view: &'a View,
    /// The status that was made last, or else that of the API.
    pub(crate) old: &'a PodStatus,
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    pub(crate) resizing: &'a Resizing,
    pub(crate) probed: Probed<'a>,
    /// The pod has ended for good.
    pub(crate) is_terminal: bool,
    pub(crate) host_ips: &'a [IpAddr],
    pub(crate) now: Timestamp,
    /// How the runtime calls itself.
    pub(crate) runtime: &'a str,
}

/// Whether a phase is one that a pod never leaves.
pub(crate) fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The status.
pub(crate) fn make(facts: &Facts<'_>) -> PodStatus {
    let Facts { pod, old, .. } = facts;
    let api = pod.status.as_ref();
    let mut status = PodStatus {
        container_statuses: Some(containers::regular(facts)),
        init_container_statuses: some(containers::init(facts)),
        ephemeral_container_statuses: some(containers::ephemeral(facts)),
        qos_class: api.and_then(|status| status.qos_class.clone()).or_else(|| old.qos_class.clone()),
        observed_generation: pod.metadata.generation,
        start_time: old.start_time.clone().or(Some(Time(facts.now))),
        // What others write there stays.
        nominated_node_name: api.and_then(|status| status.nominated_node_name.clone()),
        resource_claim_statuses: api.and_then(|status| status.resource_claim_statuses.clone()),
        extended_resource_claim_status: api.and_then(|status| status.extended_resource_claim_status.clone()),
        ..PodStatus::default()
    };
    addresses(facts, &mut status);
    let all = all_containers(&status);
    let mut phase = phase::phase(pod, &all, facts);
    // A pod never leaves such a phase, not for the other one either: how it was ended may not show in how its containers ended.
    // A static pod begins anew with its node, whatever its mirror shows.
    let mut known = [api, Some(*old)].into_iter().flatten().filter_map(|status| status.phase.as_deref());
    if let Some(last) = known.find(|phase| is_terminal(Some(phase)) && !super::is_static(pod)) {
        phase = last;
    }
    if old.phase.as_deref() == Some(phase) {
        status.reason = old.reason.clone().or_else(|| api.and_then(|status| status.reason.clone()));
        status.message = old.message.clone().or_else(|| api.and_then(|status| status.message.clone()));
    }
    status.phase = Some(phase.to_owned());
    containers::set_readiness(facts, &mut status);
    status.conditions = Some(conditions::all(facts, &status));
    status
}

/// The statuses of init containers and of the others, without the ephemeral.
fn all_containers(status: &PodStatus) -> Vec<&ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().collect()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

fn addresses(facts: &Facts<'_>, status: &mut PodStatus) {
    let hosts: Vec<String> = facts.host_ips.iter().take(2).map(ToString::to_string).collect();
    status.host_ip = hosts.first().cloned();
    status.host_ips = some(hosts.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let mut ips: Vec<String> = facts.view.ips().to_vec();
    let old = facts.old.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
    if ips.is_empty() && facts.view.sandboxes.iter().all(|sandbox| !sandbox.ready) {
        // A pod that is over shows the addresses that it had.
        ips = old.clone().collect();
    }
    if is_host_network(facts.pod) {
        // They are those of the node, and stay what they were at first.
        ips = old.collect();
        if ips.is_empty() {
            ips = hosts;
        }
    } else if let Some(first) = facts.host_ips.first() {
        // The family that the node prefers comes first.
        ips.sort_by_key(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() != first.is_ipv4()));
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = some(ips.into_iter().map(|ip| PodIP { ip }).collect());
}

#[cfg(test)]
mod tests;
