//! Zones get a share of a Service's endpoints as large as their share of the nodes' CPUs (KEP-2433). An endpoint is meant for its
//! own zone if that can be, and is given to another zone if that lacks endpoints. Where the shares cannot be met, there are no
//! hints at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{EndpointHints, EndpointSlice, ForZone};
use kiln_apimachinery::quantity::Quantity;
use kiln_client::ObjectRef;

use super::distribution::{is_ready, set};
use super::plan::Plan;

/// How much more than its share an endpoint may get.
const OVERLOAD: f64 = 0.2;
const ZONE: &str = "topology.kubernetes.io/zone";
const DISABLED: &str = "TopologyAwareHintsDisabled";

type Counts = BTreeMap<String, i64>;

/// Something to tell about a Service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Whether it is a warning.
    pub(super) warning: bool,
    /// The event's reason.
    pub(super) reason: &'static str,
    /// The event's message.
    pub(super) message: String,
}

/// What is known of zones and of the Services that have hints.
#[derive(Default)]
pub(super) struct Topology(Mutex<State>);

#[derive(Default)]
struct State {
    /// Each zone's share of all CPUs; `None` if there is too little to go by.
    shares: Option<BTreeMap<String, f64>>,
    /// The endpoints that each zone was given, by Service and family.
    given: HashMap<ObjectRef, BTreeMap<String, Counts>>,
}

/// What a zone is to have.
struct Allocation {
    most: i64,
    desired: f64,
}

/// Whether a change of a node may change the zones' shares.
pub(super) fn is_changed(old: &Node, new: &Node) -> bool {
    let zone = |node: &Node| node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned();
    is_node_ready(old) != is_node_ready(new) || zone(old) != zone(new) || cpus(old) != cpus(new)
}

fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A node's CPUs in thousandths.
fn cpus(node: &Node) -> i64 {
    let cpu = node.status.as_ref().and_then(|status| status.allocatable.as_ref()?.get("cpu"));
    cpu.and_then(|cpu| Quantity::parse(&cpu.0).ok()).map_or(0, Quantity::milli_value)
}

impl Topology {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the nodes as they are.
    pub(super) fn set_nodes<'a>(&self, nodes: impl Iterator<Item = &'a Node>) {
        let mut by_zone = BTreeMap::<String, i64>::new();
        let mut enough = true;
        for node in nodes {
            let labels = node.metadata.labels.as_ref();
            let label = |key: &str| labels.and_then(|labels| labels.get(key));
            let control = ["control-plane", "master"];
            if control.iter().any(|role| label(&format!("node-role.kubernetes.io/{role}")).is_some())
                || !is_node_ready(node)
            {
                continue;
            }
            match (label(ZONE).filter(|zone| !zone.is_empty()), cpus(node)) {
                (Some(zone), cpus) if cpus > 0 => *by_zone.entry(zone.clone()).or_default() += cpus,
                _ => enough = false,
            }
        }
        let total: i64 = by_zone.values().sum();
        let shares =
            by_zone.into_iter().map(|(zone, cpus)| (zone, cpus as f64 / total as f64)).collect::<BTreeMap<_, _>>();
        self.state().shares = Some(shares).filter(|shares| enough && shares.len() >= 2);
    }

    /// Services whose endpoints are shared out wrongly by now.
    pub(super) fn overloaded(&self) -> Vec<ObjectRef> {
        let state = self.state();
        let wrong = |given: &Counts| {
            let Some(shares) = &state.shares else { return !given.is_empty() };
            let total = given.values().sum::<i64>() as f64;
            let lacks = |(zone, share): (&String, &f64)| {
                given.get(zone).is_none_or(|has| (*has as f64) < (total * share / (1.0 + OVERLOAD)).ceil())
            };
            !given.is_empty() && shares.iter().any(lacks)
        };
        let services = state.given.iter().filter(|(_, families)| families.values().any(wrong));
        services.map(|(service, _)| service.clone()).collect()
    }

    /// Forgets a Service.
    pub(super) fn forget(&self, service: &ObjectRef) {
        self.state().given.remove(service);
    }

    /// Forgets one family of a Service's addresses.
    pub(super) fn forget_family(&self, service: &ObjectRef, family: &str) {
        let mut state = self.state();
        if let Some(families) = state.given.get_mut(service) {
            families.remove(family);
            if families.is_empty() {
                state.given.remove(service);
            }
        }
    }

    /// A Service has no hints by this rule any more.
    pub(super) fn drop_hints(&self, service: &Service, family: &str) -> Vec<Note> {
        let key = key(service);
        if !self.state().given.contains_key(&key) {
            return Vec::new();
        }
        self.forget_family(&key, family);
        vec![Note::new(true, "Topology Aware Hints has been disabled".to_owned(), family)]
    }

    /// Sets the hints of what the plan writes.
    pub(super) fn add_hints(
        &self,
        plan: &mut Plan,
        service: &Service,
        family: &str,
        unchanged: &[Arc<EndpointSlice>],
    ) -> Vec<Note> {
        let key = key(service);
        let slices = unchanged.iter().map(|slice| &**slice).chain(&plan.create).chain(&plan.update);
        let ready =
            slices.flat_map(|slice| slice.endpoints.iter().flatten()).filter(|endpoint| is_ready(endpoint)).count();
        let shared_out = self.allocations(ready as i64).and_then(|allocations| {
            let (rewrite, mut given) = keep_valid(unchanged, &allocations);
            plan.update.extend(rewrite);
            share_out(plan, &allocations, &mut given)?;
            Ok(given)
        });
        match shared_out {
            Ok(given) => {
                let mut state = self.state();
                let new = !state.given.contains_key(&key);
                state.given.entry(key).or_default().insert(family.to_owned(), given);
                let note = || Note::new(false, "Topology Aware Hints has been enabled".to_owned(), family);
                new.then(note).into_iter().collect()
            }
            Err(why) => {
                self.forget_family(&key, family);
                let rest: Vec<_> = unchanged
                    .iter()
                    .filter(|slice| !plan.update.iter().any(|u| u.metadata.name == slice.metadata.name))
                    .cloned()
                    .collect();
                set(plan, &rest, |_| Some(None));
                vec![Note::new(true, why, family)]
            }
        }
    }

    /// What each zone is to have of so many endpoints, or why that cannot be.
    fn allocations(&self, endpoints: i64) -> Result<BTreeMap<String, Allocation>, String> {
        let state = self.state();
        let few = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
        let shares = state.shares.as_ref().ok_or_else(|| few.to_owned())?;
        let counts = format!("({endpoints} endpoints, {} zones)", shares.len());
        if shares.len() as i64 > endpoints {
            return Err(format!("Insufficient number of endpoints {counts}"));
        }
        let least = |share: &f64| (share * endpoints as f64 / (1.0 + OVERLOAD)).ceil() as i64;
        let total: i64 = shares.values().map(least).sum();
        if total > endpoints {
            let why = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
            return Err(format!("{why} {counts}"));
        }
        let allocation = |share: &f64| Allocation {
            most: least(share) + endpoints - total,
            desired: (share * endpoints as f64).max(least(share) as f64),
        };
        Ok(shares.iter().map(|(zone, share)| (zone.clone(), allocation(share))).collect())
    }
}

impl Note {
    fn new(warning: bool, message: String, family: &str) -> Self {
        let reason = if warning { DISABLED } else { "TopologyAwareHintsEnabled" };
        Self { warning, reason, message: format!("{message}, addressType: {family}") }
    }
}

fn key(service: &Service) -> ObjectRef {
    let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
    ObjectRef::namespaced(namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
}

fn zone_hint(zone: &str) -> Option<EndpointHints> {
    Some(EndpointHints { for_zones: Some(vec![ForZone { name: zone.to_owned() }]), for_nodes: None })
}

/// Counts the hints of slices that can stay; answers those that must be written again, and the counts.
fn keep_valid(
    unchanged: &[Arc<EndpointSlice>],
    allocations: &BTreeMap<String, Allocation>,
) -> (Vec<EndpointSlice>, Counts) {
    let mut given = Counts::new();
    let mut rewrite = Vec::new();
    for slice in unchanged {
        let mut counts = Some(Counts::new());
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
            if zones.is_empty() || zones.iter().any(|zone| !allocations.contains_key(&zone.name)) {
                counts = None;
                break;
            }
            let counts = counts.get_or_insert_default();
            zones.iter().for_each(|zone| *counts.entry(zone.name.clone()).or_default() += 1);
        }
        let fits = |counts: &Counts| {
            let most = |zone: &String| allocations.get(zone).map_or(0, |allocation| allocation.most);
            counts.iter().all(|(zone, count)| count + given.get(zone).copied().unwrap_or(0) <= most(zone))
        };
        match counts.filter(fits) {
            Some(counts) => counts.into_iter().for_each(|(zone, count)| *given.entry(zone).or_default() += count),
            None => rewrite.push((**slice).clone()),
        }
    }
    (rewrite, given)
}

/// Gives each endpoint that is written to a zone: its own, or one that lacks endpoints.
fn share_out(plan: &mut Plan, allocations: &BTreeMap<String, Allocation>, given: &mut Counts) -> Result<(), String> {
    let mut endpoints: Vec<_> =
        plan.create.iter_mut().chain(&mut plan.update).flat_map(|slice| slice.endpoints.iter_mut().flatten()).collect();
    for endpoint in &mut endpoints {
        if !is_ready(endpoint) {
            endpoint.hints = None;
            continue;
        }
        let zone = endpoint.zone.clone().filter(|zone| !zone.is_empty());
        let zone = zone.ok_or("One or more endpoints do not have a zone specified")?;
        *given.entry(zone.clone()).or_default() += 1;
        endpoint.hints = zone_hint(&zone);
    }
    let (mut giving, mut receiving) = exchange(allocations, given);
    for endpoint in endpoints.into_iter().filter(|endpoint| is_ready(endpoint)) {
        let Some(from) = endpoint.zone.clone() else { continue };
        let Some(to) = receiving.iter().find(|(_, count)| **count > 0).map(|(zone, _)| zone.clone()) else { break };
        let Some(left) = giving.get_mut(&from).filter(|left| **left > 0) else { continue };
        *left -= 1;
        receiving.entry(to.clone()).and_modify(|count| *count -= 1);
        endpoint.hints = zone_hint(&to);
        *given.entry(from).or_default() -= 1;
        *given.entry(to).or_default() += 1;
    }
    if given.is_empty() { Err("No hints allocated for zones".to_owned()) } else { Ok(()) }
}

/// How many endpoints each zone gives away, and how many each gets.
fn exchange(allocations: &BTreeMap<String, Allocation>, given: &Counts) -> (Counts, Counts) {
    let surplus = |(zone, allocation): (&String, &Allocation)| {
        (zone.clone(), given.get(zone).copied().unwrap_or(0) as f64 - allocation.desired)
    };
    let (mut over, mut under): (Vec<_>, Vec<_>) =
        allocations.iter().map(surplus).partition(|(_, surplus)| *surplus > 0.0);
    let (mut giving, mut receiving) = (Counts::new(), Counts::new());
    loop {
        let most = over.iter_mut().max_by(|a, b| a.1.total_cmp(&b.1));
        let least = under.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1));
        let (Some((from, give)), Some((to, lack))) = (most, least) else { break };
        let take = -*lack;
        if (*give < 1.0 && take < 1.0) || *give < 0.5 || take < 0.5 {
            break;
        }
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
        *give -= 1.0;
        *lack += 1.0;
    }
    (giving, receiving)
}
