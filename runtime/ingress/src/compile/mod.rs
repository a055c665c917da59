//! Makes the routing table, the backends' endpoints and the certificates out of the cluster's objects.
//!
//! What changes is noted by the mirrors' handlers, and only if an Ingress of ours has to do with it; one task then does what has
//! become necessary: a change of endpoints sets one backend's endpoints, a change of an Ingress makes the table anew.

mod backends;
mod class;
mod events;
mod gateways;
mod names;
mod rules;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kiln_acme::marks;
use kiln_client::{Change, Informers, ObjectRef, Store};
use kiln_gateway::{Mirrors, Secrets};
use rustls::crypto::CryptoProvider;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use backends::Backends;

use self::events::Events;
use self::gateways::Certificate;
use self::names::Names;
use crate::ExternalNames;
use crate::challenges::Answers;
use crate::proxy::Proxy;
use crate::tls::{CertificateError, Certificates, Loaded, load};

/// How long the table holds at least: changes that come together make one new one.
const HOLD: Duration = Duration::from_millis(20);

/// How long a start waits for what there is of the Gateway API. Without it Ingresses are served all the same.
const GATEWAYS: Duration = Duration::from_secs(5);

/// What a Secret comes to.
#[derive(Debug, Clone)]
struct Held {
    /// A certificate, or why there is none; nothing if it is being made.
    certificate: Option<Result<Loaded, Arc<str>>>,
    /// Answers to challenges.
    answers: Arc<Answers>,
}

impl Held {
    fn read(secret: Option<&Secret>, provider: &CryptoProvider) -> Self {
        let annotations = secret.and_then(|secret| secret.metadata.annotations.as_ref());
        let is_awaited = annotations.is_some_and(|all| all.contains_key(marks::ATTEMPT));
        let certificate = match secret {
            None => Some(Err("there is none of this name".into())),
            Some(secret) => match load(secret, provider) {
                Err(CertificateError::Missing(_)) if is_awaited => None,
                loaded => Some(loaded.map_err(|error| error.to_string().into())),
            },
        };
        Self { certificate, answers: Arc::new(marks::answers(annotations)) }
    }
}

/// The Service that a slice's endpoints are of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What has to be done.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct State {
    work: Work,
    /// Services that Ingresses of ours or HTTPRoutes refer to.
    referenced: HashSet<ObjectRef>,
    /// Those that HTTPRoutes refer to: whether they are there, and which ports they have, is a matter of the rules.
    of_routes: HashSet<ObjectRef>,
}

#[derive(Debug, Default)]
struct Work {
    rules: bool,
    certificates: bool,
    services: HashSet<ObjectRef>,
}

impl Dirty {
    /// No code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) {
        self.state().work.rules = true;
        self.notify.notify_one();
    }

    fn certificates(&self) {
        self.state().work.certificates = true;
        self.notify.notify_one();
    }

    fn service(&self, key: ObjectRef) {
        let mut state = self.state();
        if state.referenced.contains(&key) && state.work.services.insert(key) {
            self.notify.notify_one();
        }
    }
}

impl Dirty {
    fn all_services(&self) {
        let mut state = self.state();
        let State { work, referenced, .. } = &mut *state;
        work.services.extend(referenced.iter().cloned());
        self.notify.notify_one();
    }

    fn ports(&self, change: &Change<Service>) {
        let ports = |service: &Service| -> Vec<i32> {
            service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| port.port).collect()
        };
        let is_same = match change {
            Change::Applied { object, previous: Some(previous), .. } => ports(object) == ports(previous),
            _ => false,
        };
        let is_of_routes = |key| self.state().of_routes.contains(key);
        if !is_same && change.key().is_some_and(is_of_routes) {
            self.rules();
        }
    }
}

/// Keeps all that requests are matched with.
pub(crate) struct Compiler {
    ingresses: Store<Ingress>,
    classes: Store<IngressClass>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    proxy: Arc<Proxy>,
    certificates: Arc<Certificates>,
    backends: Backends,
    secrets: Secrets<Held>,
    mirrors: Mirrors,
    names: Names,
    /// Certificates of listeners of Gateways.
    certificates_of_gateways: Mutex<Vec<Certificate>>,
    /// Ports of listeners of Gateways, and which are for TLS.
    ports: watch::Sender<BTreeMap<u16, bool>>,
    events: Events,
    dirty: Arc<Dirty>,
    node: String,
    compiled: watch::Sender<bool>,
}

impl Compiler {
    /// One that reads these mirrors.
    pub(crate) fn new(
        informers: &mut Informers,
        node: String,
        proxy: Arc<Proxy>,
        certificates: Arc<Certificates>,
        provider: Arc<CryptoProvider>,
        external: ExternalNames,
    ) -> Self {
        let (client, dirty) = (informers.client(), Arc::new(Dirty::default()));
        let ingresses = informers.of::<Ingress>();
        ingresses.subscribe({
            let dirty = dirty.clone();
            move |change| {
                if is_of_rules(change) {
                    dirty.rules();
                }
            }
        });
        let ingresses = ingresses.store();
        let classes = informers.of::<IngressClass>();
        classes.subscribe({
            let dirty = dirty.clone();
            move |_| dirty.rules()
        });
        let classes = classes.store();
        let services = informers.of::<Service>();
        services.subscribe({
            let dirty = dirty.clone();
            move |change| {
                change.key().into_iter().for_each(|key| dirty.service(key.clone()));
                dirty.ports(change);
            }
        });
        let services = services.store();
        let slices = informers.of::<EndpointSlice>();
        slices.subscribe({
            let dirty = dirty.clone();
            move |change| {
                let (Change::Applied { object, .. } | Change::Deleted { object, .. }) = change else { return };
                service_of(object).into_iter().for_each(|key| dirty.service(key));
            }
        });
        let slices = slices.store();
        let secrets = Secrets::new(client.clone(), move |secret| Held::read(secret, &provider), {
            let dirty = dirty.clone();
            move || dirty.certificates()
        });
        let names = Names::new(external, {
            let dirty = dirty.clone();
            move || dirty.all_services()
        });
        let mirrors = Mirrors::new(client.clone(), {
            let dirty = dirty.clone();
            move || dirty.rules()
        });
        Self {
            ingresses,
            classes,
            services,
            slices,
            proxy,
            certificates,
            backends: Backends::default(),
            secrets,
            mirrors,
            names,
            certificates_of_gateways: Mutex::default(),
            ports: watch::Sender::default(),
            events: Events::new(client, &node),
            dirty,
            node,
            compiled: watch::Sender::new(false),
        }
    }

    /// The backends, as they are at any time.
    pub(crate) fn backends(&self) -> Backends {
        self.backends.clone()
    }

    /// Ports that Gateways have listeners for, and which are for TLS.
    pub(crate) fn ports(&self) -> watch::Receiver<BTreeMap<u16, bool>> {
        self.ports.subscribe()
    }

    /// Waits until there is a first table.
    pub(crate) async fn compiled(&self) {
        // The sender lives as long as this, so the wait cannot fail.
        _ = self.compiled.subscribe().wait_for(|compiled| *compiled).await;
    }

    /// Keeps everything up to date until the shutdown.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.work() => {}
            () = self.mirrors.clone().run(shutdown.clone()) => {}
        }
    }

    async fn work(&self) {
        tokio::join!(self.ingresses.synced(), self.classes.synced(), self.services.synced(), self.slices.synced());
        _ = tokio::time::timeout(GATEWAYS, self.mirrors.synced()).await;
        self.dirty.rules();
        loop {
            self.dirty.notify.notified().await;
            let work = std::mem::take(&mut self.dirty.state().work);
            if work.rules {
                self.compile().await;
            } else {
                for service in &work.services {
                    self.refresh(service);
                }
                if work.certificates {
                    self.certify(&self.ours()).await;
                }
            }
            if work.rules || work.certificates {
                self.compiled.send_replace(true);
                tokio::time::sleep(HOLD).await;
            }
        }
    }
}

/// Whether a change of an Ingress may change what is done with requests: one of its status does not.
fn is_of_rules(change: &Change<Ingress>) -> bool {
    let Change::Applied { object, previous: Some(previous), .. } = change else { return true };
    object.spec != previous.spec
        || object.metadata.annotations != previous.metadata.annotations
        || object.metadata.uid != previous.metadata.uid
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectRef> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectRef::namespaced(slice.metadata.namespace.as_deref()?, name.as_str()))
}
