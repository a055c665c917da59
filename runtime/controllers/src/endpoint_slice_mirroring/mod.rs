//! EndpointSlices of what users wrote as Endpoints: for each Service without a selector, its Endpoints object is mirrored into
//! slices, a slice for each subset and family of addresses, so that who reads slices alone sees it too.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kiln_apimachinery::net::parse_ip_loosely;
use kiln_client::{Change, Client, Informers, ObjectRef, Store, WorkQueue, path};

use crate::endpoint_slice::{
    BY_SERVICE, EndpointKey, Group, MANAGED_BY, PortsKey, SERVICE_NAME, by_service, delete_slice, is_equal,
    name_prefix, ports_key,
};
use crate::endpoints::LEADER;
use crate::endpoints::subsets::repack;
use crate::reconcile::{Failure, Next, is_namespace_going, work};
use crate::service_pods::TRIGGER_TIME;
use crate::written::Written;
use crate::{Context, Recorder};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most addresses of a subset that are mirrored.
const MAX_ADDRESSES: usize = 1000;

type Labels = BTreeMap<String, String>;

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let shutdown = context.shutdown.clone();
    let queue = WorkQueue::<ObjectRef>::default();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        services: informers.of::<Service>().store(),
        endpoints: informers.of::<Endpoints>().store(),
        slices: informers.of::<EndpointSlice>().store(),
        written: Written::default(),
        recorder: context.events.recorder("endpoint-slice-mirroring-controller"),
    });
    informers.of::<Service>().subscribe({
        let queue = queue.clone();
        move |change| {
            let selects = |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_some());
            match change {
                Change::Applied { key, object, previous: Some(previous) } if selects(object) != selects(previous) => {
                    queue.add(key.clone());
                }
                Change::Applied { key, object, previous: None } | Change::Deleted { key, object }
                    if !selects(object) =>
                {
                    queue.add(key.clone());
                }
                _ => {}
            }
        }
    });
    informers.of::<Endpoints>().subscribe({
        let queue = queue.clone();
        move |change| match change {
            Change::Applied { key, object, previous }
                if is_mirrored(object) || previous.as_ref().is_some_and(|previous| is_mirrored(previous)) =>
            {
                queue.add(key.clone());
            }
            Change::Deleted { key, object } if is_mirrored(object) => queue.add(key.clone()),
            _ => {}
        }
    });
    let slices = informers.of::<EndpointSlice>();
    slices.index(BY_SERVICE, by_service);
    slices.subscribe({
        let queue = queue.clone();
        move |change| {
            let (object, previous) = match change {
                Change::Applied { object, previous, .. } => (object, previous.as_ref()),
                Change::Deleted { object, .. } => (object, None),
                Change::Synced => return,
            };
            for slice in previous.into_iter().chain([object]).filter(|slice| is_own(slice)) {
                let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
                let namespace = slice.metadata.namespace.clone().unwrap_or_default();
                service.iter().for_each(|service| queue.add(ObjectRef::namespaced(namespace.clone(), *service)));
            }
        }
    });
    async move {
        work("endpoint-slice-mirroring", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == CONTROLLER)
}

/// Whether an Endpoints object is mirrored, if its Service has no selector.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let skipped =
        endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    let election = endpoints.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    !skipped && !election
}

struct Controller {
    client: Client,
    services: Store<Service>,
    endpoints: Store<Endpoints>,
    slices: Store<EndpointSlice>,
    written: Written,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.services.synced(), self.endpoints.synced(), self.slices.synced());
        if !self.written.shown(&key, &self.slices) {
            return Err(Failure::Stale);
        }
        let without_selector = |service: &Service| service.spec.as_ref().is_none_or(|spec| spec.selector.is_none());
        let mirrored = self.services.get(&key).filter(|service| without_selector(service));
        let endpoints = self.endpoints.get(&key).filter(|endpoints| mirrored.is_some() && is_mirrored(endpoints));
        let existing: Vec<_> =
            self.slices.by_index(BY_SERVICE, &key.to_string()).into_iter().filter(|slice| is_own(slice)).collect();
        let Some(endpoints) = endpoints else {
            for slice in existing {
                delete_slice(&self.client, &slice).await?;
            }
            return Ok(Next::Settled);
        };
        let mut by_key = BTreeMap::<(String, PortsKey), Vec<Arc<EndpointSlice>>>::new();
        for slice in existing {
            let ports = ports_key(slice.ports.as_deref().unwrap_or_default());
            by_key.entry((slice.address_type.clone(), ports)).or_default().push(slice);
        }
        let (mut create, mut update) = (Vec::new(), Vec::new());
        let mut delete = Vec::new();
        let (wanted, skipped) = wanted(&endpoints);
        skipped.tell(&self.recorder, &endpoints);
        for ((family, ports), group) in wanted {
            let mut existing = by_key.remove(&(family.clone(), ports)).unwrap_or_default().into_iter();
            match existing.next() {
                Some(slice) if is_same(&slice, &endpoints, &group) => {}
                Some(slice) => {
                    let mut new = new_slice(&endpoints, &family, group);
                    new.metadata.generate_name = None;
                    new.metadata.name.clone_from(&slice.metadata.name);
                    update.push(new);
                }
                None => create.push(new_slice(&endpoints, &family, group)),
            }
            delete.extend(existing);
        }
        delete.extend(by_key.into_values().flatten());
        // Slices that would go are put to the use of new ones.
        create.retain_mut(|slice| {
            let Some(at) = delete.iter().position(|old| old.address_type == slice.address_type) else { return true };
            slice.metadata.name.clone_from(&delete.swap_remove(at).metadata.name);
            update.push(slice.clone());
            false
        });
        self.carry_out(&key, if endpoints.metadata.deletion_timestamp.is_none() { create } else { Vec::new() }, update)
            .await?;
        for slice in delete {
            delete_slice(&self.client, &slice).await?;
        }
        Ok(Next::Settled)
    }

    async fn carry_out(
        &self,
        key: &ObjectRef,
        create: Vec<EndpointSlice>,
        update: Vec<EndpointSlice>,
    ) -> Result<(), Failure> {
        for slice in create {
            match self.client.create::<EndpointSlice>(&path::<EndpointSlice>(&key.namespace, ""), &slice).await {
                Err(error) if is_namespace_going(&error) => return Ok(()),
                made => self.written.note(key, &made?),
            }
        }
        for slice in update {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let written: EndpointSlice =
                self.client.update(&path::<EndpointSlice>(&key.namespace, name), &slice).await?;
            self.written.note(key, &written);
        }
        Ok(())
    }
}

/// Addresses that are not mirrored.
#[derive(Default)]
struct Skipped {
    invalid: usize,
    all: usize,
}

impl Skipped {
    fn tell(&self, recorder: &Recorder, endpoints: &Endpoints) {
        if self.invalid > 0 {
            let text = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", self.invalid);
            recorder.warning(endpoints, "InvalidIPAddress", text);
        }
        if self.all > self.invalid {
            let text = format!(
                "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.all
            );
            recorder.warning(endpoints, "TooManyAddressesToMirror", text);
        }
    }
}

/// The endpoints to mirror, by family and ports, and what is not mirrored.
fn wanted(endpoints: &Endpoints) -> (BTreeMap<(String, PortsKey), Group>, Skipped) {
    let mut skipped = Skipped::default();
    let mut groups = BTreeMap::<(String, PortsKey), Group>::new();
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
        };
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        let key = ports_key(&ports);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let (mut added, mut all) = (0, ready.chain(unready));
        while added < MAX_ADDRESSES
            && let Some((address, is_ready)) = all.next()
        {
            let Some((family, endpoint)) = endpoint(address, is_ready) else {
                skipped.invalid += 1;
                skipped.all += 1;
                continue;
            };
            added += 1;
            let new = || Group { ports: ports.clone(), endpoints: BTreeMap::new() };
            let group = groups.entry((family.to_owned(), key.clone())).or_insert_with(new);
            group.endpoints.insert(EndpointKey::of(&endpoint), endpoint);
        }
        skipped.all += all.count();
    }
    (groups, skipped)
}

/// The endpoint of an address, with its family.
fn endpoint(address: &EndpointAddress, ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip = parse_ip_loosely(&address.ip)?;
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    Some((if ip.is_ipv6() { "IPv6" } else { "IPv4" }, endpoint))
}

/// Whether a slice is as it should be.
fn is_same(slice: &EndpointSlice, endpoints: &Endpoints, group: &Group) -> bool {
    let has = slice.endpoints.as_deref().unwrap_or_default();
    let equal = |endpoint: &Endpoint| {
        group.endpoints.get(&EndpointKey::of(endpoint)).is_some_and(|wanted| is_equal(wanted, endpoint))
    };
    let foreign = slice.metadata.owner_references.iter().flatten().any(|owner| {
        owner.kind == "Endpoints"
            && Some(&owner.name) == endpoints.metadata.name.as_ref()
            && Some(&owner.uid) != endpoints.metadata.uid.as_ref()
    });
    has.len() == group.endpoints.len()
        && has.iter().all(equal)
        && slice.metadata.labels.as_ref() == Some(&labels(endpoints))
        && slice.metadata.annotations.clone().unwrap_or_default() == annotations(endpoints)
        && !foreign
}

fn labels(endpoints: &Endpoints) -> Labels {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

fn annotations(endpoints: &Endpoints) -> Labels {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != TRIGGER_TIME && key != LAST_APPLIED);
    annotations
}

fn new_slice(endpoints: &Endpoints, family: &str, group: Group) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: Endpoints::API_VERSION.to_owned(),
        kind: Endpoints::KIND.to_owned(),
        name: name.clone(),
        uid: endpoints.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: Some(group.endpoints.into_values().collect()),
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(&name)),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels(endpoints)),
            annotations: Some(annotations(endpoints)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        ports: Some(group.ports),
    }
}
