//! Endpoints: for each Service with a selector, the older form of who stands behind it: one object, one family of addresses, at most a
//! thousand of them, and none that is going. In come changes of Services and Pods; out go writes of what changed, and deletes of
//! objects whose Service is gone.

pub(crate) mod subsets;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use kiln_apimachinery::time::rfc3339;
use kiln_client::{Change, Client, Informers, ObjectRef, Store, WorkQueue, path};
use serde_json::Value;

use self::subsets::{repack, truncate};
use crate::labels::holds;
use crate::pods::is_ready;
use crate::reconcile::{Failure, Next, is_namespace_going, keys_to, work};
use crate::service_pods::{
    HEADLESS, TRIGGER_TIME, TriggerTimes, addresses_of, find_port, has_address, hostname, is_endpoint, selector,
    target, touched,
};
use crate::written::Written;
use crate::{Context, Recorder};

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The annotation of an Endpoints object that is an election's record and no Service's.
pub(crate) const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let shutdown = context.shutdown.clone();
    let queue = WorkQueue::<ObjectRef>::default();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        services: informers.of::<Service>().store(),
        pods: informers.of::<Pod>().store(),
        endpoints: informers.of::<Endpoints>().store(),
        written: Written::default(),
        times: TriggerTimes::default(),
        recorder: context.events.recorder("endpoint-controller"),
    });
    informers.of::<Service>().subscribe(keys_to(&queue));
    informers.of::<Pod>().subscribe({
        let (queue, services) = (queue.clone(), controller.services.clone());
        move |change| touched(&services, change).into_iter().for_each(|service| queue.add(service))
    });
    informers.of::<Endpoints>().subscribe({
        let queue = queue.clone();
        let mut listed = false;
        move |change| match change {
            // Perhaps left over by a Service that went while nobody looked. What is made later may be there before its Service.
            Change::Applied { key, .. } if !listed => queue.add(key.clone()),
            Change::Deleted { key, .. } => queue.add(key.clone()),
            Change::Applied { .. } => {}
            Change::Synced => listed = true,
        }
    });
    async move {
        work("endpoints", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

fn is_election(endpoints: &Endpoints) -> bool {
    endpoints.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER))
}

struct Controller {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    written: Written,
    times: TriggerTimes,
    recorder: Recorder,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.services.synced(), self.pods.synced(), self.endpoints.synced());
        if !self.written.shown(&key, &self.endpoints) {
            return Err(Failure::Stale);
        }
        let current = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key) else {
            self.times.forget(&key);
            return match current.filter(|current| !is_election(current)) {
                Some(_) => self.delete(&key).await,
                None => Ok(Next::Settled),
            };
        };
        let Some(wanted) = selector(&service) else { return Ok(Next::Settled) };
        let pods = self.pods.in_namespace(&key.namespace);
        let pods: Vec<&Pod> =
            pods.iter().map(|pod| &**pod).filter(|pod| holds(pod.metadata.labels.as_ref(), wanted)).collect();
        let time = self.times.take_in(&key, &service, pods.iter().copied());
        let subsets = repack(&pods.iter().flat_map(|pod| subsets_of(&service, pod)).collect::<Vec<_>>());
        let same = current.as_ref().is_some_and(|current| is_same(current, &service, &subsets));
        if same {
            return Ok(Next::Settled);
        }
        let mut endpoints = current.as_deref().cloned().unwrap_or_default();
        let cut;
        (endpoints.subsets, cut) = {
            let mut subsets = subsets;
            let cut = truncate(&mut subsets);
            (Some(subsets), cut)
        };
        endpoints.metadata.name = Some(key.name.clone());
        endpoints.metadata.labels = Some(labels(&service));
        let annotations = endpoints.metadata.annotations.get_or_insert_default();
        let mut set = |key: &str, value: Option<String>| match value {
            Some(value) => annotations.insert(key.to_owned(), value),
            None => annotations.remove(key),
        };
        set(TRIGGER_TIME, time.map(rfc3339));
        set(OVER_CAPACITY, cut.then(|| "truncated".to_owned()));
        let name = if current.is_some() { key.name.as_str() } else { "" };
        let path = path::<Endpoints>(&key.namespace, name);
        let written = if current.is_some() {
            self.client.update::<Endpoints>(&path, &endpoints).await
        } else {
            self.client.create::<Endpoints>(&path, &endpoints).await
        };
        match written {
            Err(error) if is_namespace_going(&error) => Ok(Next::Settled),
            Err(error) => {
                let (reason, verb, kind) = match &current {
                    Some(_) => ("FailedToUpdateEndpoint", "update", "endpoint"),
                    None => ("FailedToCreateEndpoint", "create", "endpoint for service"),
                };
                self.recorder.warning(&endpoints, reason, format!("Failed to {verb} {kind} {key}: {error}"));
                Err(error.into())
            }
            Ok(written) => {
                self.written.note(&key, &written);
                Ok(Next::Settled)
            }
        }
    }

    async fn delete(&self, key: &ObjectRef) -> Result<Next, Failure> {
        match self.client.delete(&path::<Endpoints>(&key.namespace, &key.name), &Value::Null).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Settled),
        }
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if !has_address(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels
}

/// Whether an Endpoints object is as it should be.
fn is_same(current: &Endpoints, service: &Service, subsets: &[EndpointSubset]) -> bool {
    let count = |subset: &EndpointSubset| {
        subset.addresses.as_ref().map_or(0, Vec::len) + subset.not_ready_addresses.as_ref().map_or(0, Vec::len)
    };
    let mut has = current.subsets.clone().unwrap_or_default();
    let addresses = has.iter_mut().flat_map(|subset| {
        subset.addresses.iter_mut().flatten().chain(subset.not_ready_addresses.iter_mut().flatten())
    });
    addresses.filter_map(|address| address.target_ref.as_mut()).for_each(|target| target.resource_version = None);
    let marked =
        current.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(OVER_CAPACITY));
    has.iter().map(count).sum::<usize>() <= subsets::MAX_ADDRESSES
        && !marked
        && (has == subsets || repack(&has) == subsets)
        && current.metadata.labels.as_ref() == Some(&labels(service))
}

/// What a Pod adds to a Service's Endpoints: a subset for each port.
fn subsets_of(service: &Service, pod: &Pod) -> Vec<EndpointSubset> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let unready_too = spec.publish_not_ready_addresses.unwrap_or_default();
    if !is_endpoint(pod, unready_too) {
        return Vec::new();
    }
    let family = spec.ip_families.as_deref().and_then(|families| families.first());
    let address = spec.cluster_ip.as_deref().filter(|_| has_address(service));
    let pod_address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let v6 = match family {
        Some(family) => family == "IPv6",
        None => address.or(pod_address).is_some_and(|address| address.contains(':')),
    };
    let Some(ip) = addresses_of(pod, v6).next() else { return Vec::new() };
    let address = EndpointAddress {
        ip: ip.to_string(),
        hostname: hostname(pod, service),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(target(pod)),
    };
    let ready = unready_too || is_ready(pod);
    let subset = |port: Option<EndpointPort>| EndpointSubset {
        addresses: ready.then(|| vec![address.clone()]),
        not_ready_addresses: (!ready).then(|| vec![address.clone()]),
        ports: port.map(|port| vec![port]),
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return if has_address(service) { Vec::new() } else { vec![subset(None)] };
    }
    let found = ports.iter().filter_map(|port| {
        Some(EndpointPort {
            name: port.name.clone(),
            port: find_port(pod, port)?,
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    found.map(|port| subset(Some(port))).collect()
}
