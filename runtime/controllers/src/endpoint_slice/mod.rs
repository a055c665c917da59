//! EndpointSlices: for each Service with a selector, who stands behind it, in slices of at most a hundred.
//!
//! In come changes of Services, Pods and slices; a Service is looked at again when one of its Pods changed in a way that shows
//! in a slice, or when someone else wrote a slice of it. Out go as few writes as hold the new state: slices are changed in
//! place, filled up before new ones are made, and put to another use before they are deleted. [`distribution`] adds which
//! zone or node an endpoint is meant for.

mod distribution;
mod endpoint;
mod plan;
mod topology;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_apimachinery::time::rfc3339;
use kiln_client::{Change, Client, Informers, ObjectRef, RateLimit, Store, WorkQueue, path};
use serde_json::Value;

pub(crate) use self::endpoint::{EndpointKey, Group, PortsKey, is_equal, ports_key};
use self::plan::Plan;
pub(crate) use self::plan::name_prefix;
use self::topology::Topology;
use crate::events::regarding;
use crate::labels::holds;
use crate::reconcile::{Failure, Next, is_namespace_going, keys_to, work};
use crate::service_pods::{self, TRIGGER_TIME, TriggerTimes};
use crate::written::Written;
use crate::{Context, EventKind, Recorder};

/// The label with the name of the controller that a slice is of.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label with the name of the Service that a slice is of.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The index of slices by the Services that they are of.
pub(crate) const BY_SERVICE: &str = "service";

const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// The most endpoints of one slice.
const MAX_ENDPOINTS: usize = 100;
/// A Service is not looked at sooner than this after someone else's write to a slice of it.
const MIN_DELAY: Duration = Duration::from_secs(1);

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let shutdown = context.shutdown.clone();
    let queue =
        WorkQueue::<ObjectRef>::new(RateLimit { first: Duration::from_secs(1), most: Duration::from_secs(1000) });
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        services: informers.of::<Service>().store(),
        pods: informers.of::<Pod>().store(),
        nodes: informers.of::<Node>().store(),
        slices: informers.of::<EndpointSlice>().store(),
        written: Written::default(),
        own: Mutex::default(),
        times: TriggerTimes::default(),
        topology: Topology::default(),
        recorder: context.events.recorder("endpoint-slice-controller"),
    });
    informers.of::<Service>().subscribe(keys_to(&queue));
    informers.of::<Pod>().subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            service_pods::touched(&controller.services, change).into_iter().for_each(|service| queue.add(service));
        }
    });
    informers.of::<Node>().subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| controller.on_node(change, &queue)
    });
    let slices = informers.of::<EndpointSlice>();
    slices.index(BY_SERVICE, by_service);
    slices.subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| controller.on_slice(change, &queue)
    });
    async move {
        work("endpoint-slice", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

struct Controller {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    written: Written,
    /// The revisions of this controller's own writes that the mirror has not shown.
    own: Mutex<Vec<u64>>,
    times: TriggerTimes,
    topology: Topology,
    recorder: Recorder,
}

impl Controller {
    /// Someone else's write to a slice, or a slice that is gone, leads to another look.
    fn on_slice(&self, change: &Change<EndpointSlice>, queue: &WorkQueue<ObjectRef>) {
        let again = |slice: &EndpointSlice| {
            if let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) {
                let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
                queue.add_after(ObjectRef::namespaced(namespace, service), MIN_DELAY);
            }
        };
        match change {
            Change::Synced => {}
            Change::Deleted { object, .. } if is_own(object) => again(object),
            Change::Deleted { .. } => {}
            Change::Applied { object, previous, .. } => {
                let revision = object.metadata.resource_version.as_ref().and_then(|revision| revision.parse().ok());
                let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = own.iter().position(|own| Some(*own) == revision) {
                    own.swap_remove(at);
                    return;
                }
                drop(own);
                let was = previous.as_ref().filter(|previous| is_own(previous));
                if is_own(object) {
                    again(object);
                }
                was.iter().for_each(|was| again(was));
            }
        }
    }

    fn on_node(&self, change: &Change<Node>, queue: &WorkQueue<ObjectRef>) {
        let relevant = match change {
            Change::Applied { object, previous, .. } => {
                previous.as_ref().is_none_or(|previous| topology::is_changed(previous, object))
            }
            Change::Deleted { .. } | Change::Synced => true,
        };
        if relevant && self.nodes.is_synced() {
            self.topology.set_nodes(self.nodes.list().iter().map(|node| &**node));
            self.topology.overloaded().into_iter().for_each(|service| queue.add(service));
        }
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.services.synced(), self.pods.synced(), self.nodes.synced(), self.slices.synced());
        let Some(service) = self.services.get(&key) else {
            self.times.forget(&key);
            self.topology.forget(&key);
            return Ok(Next::Settled);
        };
        let Some(selector) = service_pods::selector(&service) else { return Ok(Next::Settled) };
        if !self.written.shown(&key, &self.slices) {
            return Err(Failure::Stale);
        }
        let pods = self.pods.in_namespace(&key.namespace);
        let pods: Vec<&Pod> =
            pods.iter().map(|pod| &**pod).filter(|pod| holds(pod.metadata.labels.as_ref(), selector)).collect();
        let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
        let slices = slices.into_iter().filter(|slice| is_own(slice) && slice.metadata.deletion_timestamp.is_none());
        let mut by_family = BTreeMap::<String, Vec<Arc<EndpointSlice>>>::new();
        for slice in slices {
            by_family.entry(slice.address_type.clone()).or_default().push(slice);
        }
        let time = self.times.take_in(&key, &service, pods.iter().copied()).map(rfc3339);
        let mut skipped = None;
        for family in endpoint::families(&service) {
            let (groups, without_node) = endpoint::wanted(&service, &pods, &self.nodes, family);
            skipped = skipped.or(without_node);
            let existing = by_family.remove(family).unwrap_or_default();
            let mut plan = Plan::new(&service, family, &existing, groups);
            let notes = distribution::apply(&mut plan, &service, family, &existing, &self.topology);
            if let Err(failure) = self.carry_out(&key, plan, time.as_deref(), &service).await {
                let message = format!("Error updating Endpoint Slices for Service {key}: {failure}");
                self.recorder.warning(&*service, "FailedToUpdateEndpointSlices", message);
                return Err(failure);
            }
            for note in notes {
                let kind = if note.warning { EventKind::Warning } else { EventKind::Normal };
                self.recorder.tell(regarding(&*service), kind, note.reason, note.message);
            }
        }
        for slice in by_family.into_values().flatten() {
            self.topology.forget_family(&key, &slice.address_type);
            delete_slice(&self.client, &slice).await?;
        }
        match skipped {
            Some(why) => Err(Failure::Waiting(why)),
            None => Ok(Next::Settled),
        }
    }

    async fn carry_out(
        &self,
        key: &ObjectRef,
        plan: Plan,
        time: Option<&str>,
        service: &Service,
    ) -> Result<(), Failure> {
        let Plan { create, update, delete } = plan;
        // A Service that is going takes its slices with it.
        let create = if service.metadata.deletion_timestamp.is_none() { create } else { Vec::new() };
        for mut slice in create {
            mark(&mut slice, time);
            let collection = path::<EndpointSlice>(&key.namespace, "");
            match self.client.create::<EndpointSlice>(&collection, &slice).await {
                Err(error) if is_namespace_going(&error) => return Ok(()),
                made => self.note(key, &made?),
            }
        }
        for mut slice in update {
            mark(&mut slice, time);
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let changed: EndpointSlice =
                self.client.update(&path::<EndpointSlice>(&key.namespace, name), &slice).await?;
            self.note(key, &changed);
        }
        for slice in delete {
            delete_slice(&self.client, &slice).await?;
        }
        Ok(())
    }

    fn note(&self, key: &ObjectRef, slice: &EndpointSlice) {
        self.written.note(key, slice);
        let (revision, seen) = (slice.metadata.resource_version.as_ref(), self.slices.revision());
        if let Some(revision) = revision.and_then(|revision| revision.parse().ok()).filter(|revision| *revision > seen)
        {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            own.retain(|own| *own > seen);
            own.push(revision);
        }
    }
}

/// Deletes a slice, if it is still there.
pub(crate) async fn delete_slice(client: &Client, slice: &EndpointSlice) -> Result<(), Failure> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let name = slice.metadata.name.as_deref().unwrap_or_default();
    match client.delete(&path::<EndpointSlice>(namespace, name), &Value::Null).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The Service that a slice is of, as a key of [`BY_SERVICE`].
pub(crate) fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    service.map(|service| format!("{namespace}/{service}")).into_iter().collect()
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == CONTROLLER)
}

/// Writes down when what led to this state happened.
fn mark(slice: &mut EndpointSlice, time: Option<&str>) {
    let annotations = slice.metadata.annotations.get_or_insert_default();
    match time {
        Some(time) => annotations.insert(TRIGGER_TIME.to_owned(), time.to_owned()),
        None => annotations.remove(TRIGGER_TIME),
    };
}
