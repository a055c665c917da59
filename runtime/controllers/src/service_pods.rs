//! What Services and Pods have to do with each other: which Services a change of a Pod touches, whether a Pod stands behind
//! a Service, at which ports, and when that last changed. For both kinds of endpoints.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kiln_apimachinery::net::parse_ip_loosely;
use kiln_client::{Change, ObjectRef, Store};

use crate::labels::{Labels, holds};
use crate::pods::{condition, is_ready, is_terminal};

/// When the change happened that led to the endpoints, for the SLI of the network's programming latency.
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Marks endpoints of a Service without an address of its own.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// What endpoints say of the Pod that they are.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The selector of a Service that this cluster finds the endpoints for; `None` for one whose endpoints are someone else's.
pub(crate) fn selector(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    spec.selector.as_ref().filter(|_| spec.type_.as_deref() != Some("ExternalName"))
}

/// The Services whose endpoints a change of a Pod may touch.
pub(crate) fn touched(services: &Store<Service>, change: &Change<Pod>) -> BTreeSet<ObjectRef> {
    let behind = |pod: &Pod| -> BTreeSet<ObjectRef> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let services = services.in_namespace(namespace);
        let all = services.iter().filter(|service| {
            let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            wanted.is_some_and(|wanted| holds(pod.metadata.labels.as_ref(), wanted))
        });
        all.map(|service| ObjectRef::namespaced(namespace, service.metadata.name.as_deref().unwrap_or_default()))
            .collect()
    };
    match change {
        Change::Synced => BTreeSet::new(),
        Change::Deleted { object, .. } | Change::Applied { object, previous: None, .. } => behind(object),
        Change::Applied { object, previous: Some(previous), .. } => {
            let (changed, relabelled) = (is_changed(previous, object), is_relabelled(previous, object));
            match (changed, relabelled) {
                (false, false) => BTreeSet::new(),
                (true, false) => behind(object),
                (true, true) => &behind(object) | &behind(previous),
                (false, true) => &behind(object) ^ &behind(previous),
            }
        }
    }
}

/// Whether a Pod stands behind other Services than before.
fn is_relabelled(old: &Pod, new: &Pod) -> bool {
    let name = |pod: &Pod| pod.spec.as_ref().map(|spec| (spec.hostname.clone(), spec.subdomain.clone()));
    old.metadata.labels != new.metadata.labels || name(old) != name(new)
}

/// Whether the endpoints made of a Pod are others than before.
fn is_changed(old: &Pod, new: &Pod) -> bool {
    old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || is_ready(old) != is_ready(new)
        || is_terminal(old) != is_terminal(new)
        || !addresses(old).eq(addresses(new))
}

/// The addresses of a Pod as its status has them.
fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    status.into_iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|address| address.ip.as_str())
}

/// The addresses of a Pod that are of a family.
pub(crate) fn addresses_of(pod: &Pod, v6: bool) -> impl Iterator<Item = IpAddr> {
    addresses(pod).filter_map(parse_ip_loosely).filter(move |address| address.is_ipv6() == v6)
}

/// Whether a Pod stands among the endpoints at all.
pub(crate) fn is_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let has_address =
        addresses(pod).next().is_some() || status.and_then(|s| s.pod_ip.as_ref()).is_some_and(|ip| !ip.is_empty());
    !is_terminal(pod) && has_address && (with_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The name that a Pod has within its Service's domain.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|name| own && !name.is_empty())
}

/// The port of a Pod that a Service's port leads to, if it has it.
pub(crate) fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let in_container = |container: &Container| {
        let mut ports = container.ports.iter().flatten();
        let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let found = ports.find(|found| {
            found.name.as_deref() == Some(name.as_str()) && protocol(&found.protocol) == protocol(&port.protocol)
        });
        found.map(|found| found.container_port)
    };
    spec.containers.iter().chain(sidecars).find_map(in_container)
}

/// Whether a Service has an address of its own.
pub(crate) fn has_address(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    !address.is_empty() && address != "None"
}

/// When the changes happened that lead to what is written: the earliest of those since the last look at a Service.
#[derive(Default)]
pub(crate) struct TriggerTimes(Mutex<HashMap<ObjectRef, Timestamp>>);

impl TriggerTimes {
    /// Takes in the state of a Service and its Pods; answers what to write as the trigger time of this state.
    pub(crate) fn take_in<'a>(
        &self,
        key: &ObjectRef,
        service: &Service,
        pods: impl Iterator<Item = &'a Pod>,
    ) -> Option<Timestamp> {
        let made = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let turned = pods.filter_map(|pod| condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0));
        let times: Vec<Timestamp> = turned.chain(made).collect();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = times.iter().max().copied().unwrap_or(Timestamp::UNIX_EPOCH);
        match seen.insert(key.clone(), latest) {
            None => made,
            Some(before) => times.into_iter().filter(|time| *time > before).min(),
        }
    }

    /// Forgets a Service.
    pub(crate) fn forget(&self, key: &ObjectRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
