//! What to write so that slices hold what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kiln_apimachinery::names::dns1123_subdomain;

use super::endpoint::{EndpointKey, Endpoints, Group, PortsKey, is_equal, ports_key};
use super::{CONTROLLER, MANAGED_BY, MAX_ENDPOINTS, SERVICE_NAME};
use crate::service_pods::{HEADLESS, has_address};

type Labels = BTreeMap<String, String>;

/// The writes that lead from the slices that are there to those that should be.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

impl Plan {
    /// The plan for one family of a Service's addresses.
    pub(super) fn new(
        service: &Service,
        family: &str,
        existing: &[Arc<EndpointSlice>],
        groups: BTreeMap<PortsKey, Group>,
    ) -> Self {
        let mut plan = Self::default();
        let mut by_ports = BTreeMap::<PortsKey, Vec<Arc<EndpointSlice>>>::new();
        for slice in existing {
            if is_owned(slice, service) {
                by_ports.entry(ports_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice.clone());
            } else {
                plan.delete.push(slice.clone());
            }
        }
        for (key, group) in groups {
            plan.group(service, family, by_ports.remove(&key).unwrap_or_default(), group);
        }
        plan.delete.extend(by_ports.into_values().flatten());
        // A Service is never without a slice, so that who reads them can tell "nobody" from "not known yet".
        if existing.len() == plan.delete.len() && plan.create.is_empty() {
            let empty = new_slice(service, family, Vec::new());
            let is_there = |slice: &EndpointSlice| {
                slice.endpoints.iter().flatten().next().is_none()
                    && slice.ports.iter().flatten().next().is_none()
                    && slice.metadata.labels == empty.metadata.labels
                    && slice.metadata.owner_references == empty.metadata.owner_references
            };
            if plan.delete.len() == 1 && is_there(&plan.delete[0]) {
                plan.delete.clear();
            } else {
                plan.create.push(empty);
            }
        }
        plan.reuse(service);
        plan
    }

    /// The slices of one set of ports: endpoints that stay do so in their slice, those that are new fill up first the slices that
    /// are written anyway, then one that has room for all, then new ones.
    fn group(&mut self, service: &Service, family: &str, existing: Vec<Arc<EndpointSlice>>, group: Group) {
        let Group { ports, endpoints: mut missing } = group;
        let (mut update, mut unchanged) = (Vec::new(), Vec::new());
        for slice in existing {
            let had = slice.endpoints.as_deref().unwrap_or_default();
            let (kept, changed) = keep(had, &mut missing);
            let labels = labels(service);
            let relabelled = labels_differ(slice.metadata.labels.as_ref(), &labels);
            if changed && kept.is_empty() {
                self.delete.push(slice);
            } else if changed || relabelled {
                let mut slice = (*slice).clone();
                slice.endpoints = Some(kept);
                slice.metadata.labels = Some(labels);
                update.push(slice);
            } else {
                unchanged.push(slice);
            }
        }
        update.sort_by_key(|slice| std::cmp::Reverse(count(slice)));
        update.iter_mut().for_each(|slice| fill(slice, &mut missing));
        while !missing.is_empty() {
            let room = |slice: &EndpointSlice| (MAX_ENDPOINTS).checked_sub(missing.len() + count(slice));
            let fullest = unchanged.iter().enumerate().filter_map(|(at, slice)| Some((room(slice)?, at)));
            match fullest.min().filter(|(room, _)| *room < MAX_ENDPOINTS) {
                Some((_, at)) => {
                    let mut slice = (*unchanged.swap_remove(at)).clone();
                    fill(&mut slice, &mut missing);
                    update.push(slice);
                }
                None => {
                    let mut slice = new_slice(service, family, ports.clone());
                    fill(&mut slice, &mut missing);
                    self.create.push(slice);
                }
            }
        }
        self.update.append(&mut update);
    }

    /// Puts slices that would be deleted to the use of those that would be made.
    fn reuse(&mut self, service: &Service) {
        let mut at = 0;
        while at < self.delete.len() {
            if !is_owned(&self.delete[at], service) {
                at += 1;
                continue;
            }
            let Some(mut slice) = self.create.pop() else { return };
            let old = self.delete.remove(at);
            slice.metadata.name.clone_from(&old.metadata.name);
            slice.metadata.generate_name.clone_from(&old.metadata.generate_name);
            self.update.push(slice);
        }
    }

    /// The slices that stay as they are.
    pub(super) fn unchanged(&self, existing: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
        let deleted = self.delete.iter().map(|slice| slice.metadata.name.as_deref());
        let changed: BTreeSet<_> =
            self.update.iter().map(|slice| slice.metadata.name.as_deref()).chain(deleted).collect();
        existing.iter().filter(|slice| !changed.contains(&slice.metadata.name.as_deref())).cloned().collect()
    }
}

/// The endpoints of a slice that stay, as they should be, with the hints they have; and whether any is gone or changed. They
/// are no longer missing then.
fn keep(had: &[Endpoint], missing: &mut Endpoints) -> (Vec<Endpoint>, bool) {
    let mut changed = false;
    let mut kept = Vec::with_capacity(had.len());
    for endpoint in had {
        if let Some(mut wanted) = missing.remove(&EndpointKey::of(endpoint)) {
            changed |= !is_equal(&wanted, endpoint);
            wanted.hints.clone_from(&endpoint.hints);
            kept.push(wanted);
        }
    }
    changed |= kept.len() != had.len();
    (kept, changed)
}

fn fill(slice: &mut EndpointSlice, missing: &mut Endpoints) {
    let endpoints = slice.endpoints.get_or_insert_default();
    while endpoints.len() < MAX_ENDPOINTS
        && let Some((_, endpoint)) = missing.pop_first()
    {
        endpoints.push(endpoint);
    }
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn is_owned(slice: &EndpointSlice, service: &Service) -> bool {
    let mut owners = slice.metadata.owner_references.iter().flatten();
    owners.any(|owner| {
        owner.kind == "Service" && owner.api_version == "v1" && Some(&owner.uid) == service.metadata.uid.as_ref()
    })
}

/// A new slice of a Service, empty yet.
fn new_slice(service: &Service, family: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: Service::API_VERSION.to_owned(),
        kind: Service::KIND.to_owned(),
        name: name.clone(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: Some(Vec::new()),
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(&name)),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        ports: Some(ports),
    }
}

/// What the names of a Service's slices begin with: its name and a dash, if that is not too long.
pub(crate) fn name_prefix(service: &str) -> String {
    // Something follows the dash.
    if dns1123_subdomain(&format!("{service}-0")).is_empty() { format!("{service}-") } else { service.to_owned() }
}

/// The Service's labels, and those that say whose a slice is.
fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if !has_address(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

/// Whether labels differ that are the Service's own.
fn labels_differ(has: Option<&Labels>, wanted: &Labels) -> bool {
    let own = |key: &String| ![HEADLESS, SERVICE_NAME, MANAGED_BY].contains(&key.as_str());
    let none = Labels::new();
    let own_of = |labels: &Labels| {
        labels.iter().filter(|(key, _)| own(key)).map(|(k, v)| (k.clone(), v.clone())).collect::<Labels>()
    };
    own_of(has.unwrap_or(&none)) != own_of(wanted)
}
