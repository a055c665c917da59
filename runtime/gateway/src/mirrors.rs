//! Mirrors of the API's objects, which are there for as long as the API is installed.
//!
//! One definition is watched by its name. When it is established the collections are mirrored, and when it goes the mirrors
//! go, so that a cluster without the API pays for one silent watch.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::Resource;
use kiln_client::{BoxFuture, Change, Client, Informer, ListParams, Object, Store, collection};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::objects::{Definition, Gateway, GatewayClass, HttpRoute, NamespaceView, ReferenceGrant};

/// The definition that stands for all: it is the smallest, and all come in one bundle.
const SENTINEL: &str = "metadata.name=gatewayclasses.gateway.networking.k8s.io";

/// The objects.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The classes.
    pub classes: Store<GatewayClass>,
    /// The Gateways.
    pub gateways: Store<Gateway>,
    /// The HTTPRoutes.
    pub routes: Store<HttpRoute>,
    /// The ReferenceGrants.
    pub grants: Store<ReferenceGrant>,
    /// The Namespaces.
    pub namespaces: Store<NamespaceView>,
}

struct Running {
    stores: Stores,
    _end: DropGuard,
}

type Changed = Arc<dyn Fn() + Send + Sync>;

/// The mirrors, if the API is installed. Cloning it gives another handle of the same.
#[derive(Clone)]
pub struct Mirrors {
    client: Client,
    changed: Changed,
    running: Arc<Mutex<Option<Running>>>,
    /// That it is known whether there is the API.
    asked: tokio::sync::watch::Sender<bool>,
}

impl Mirrors {
    /// None yet. `changed` is told when anything may be resolved differently; changes of statuses alone are not told.
    pub fn new(client: Client, changed: impl Fn() + Send + Sync + 'static) -> Self {
        let asked = tokio::sync::watch::Sender::new(false);
        Self { client, changed: Arc::new(changed), running: Arc::default(), asked }
    }

    /// The objects; none while the API is not installed, or not all were seen once.
    pub fn stores(&self) -> Option<Stores> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(|running| running.stores.clone()).filter(is_synced)
    }

    /// Waits until it is known whether the API is installed, and if it is until all objects were seen once.
    pub async fn synced(&self) {
        // The sender lives as long as this, so the wait cannot fail.
        _ = self.asked.subscribe().wait_for(|asked| *asked).await;
        let stores = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|r| r.stores.clone());
        if let Some(Stores { classes, gateways, routes, grants, namespaces }) = stores {
            tokio::join!(classes.synced(), gateways.synced(), routes.synced(), grants.synced(), namespaces.synced());
        }
    }

    /// Follows the API until the shutdown.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let params = ListParams { fields: SENTINEL.to_owned(), ..ListParams::default() };
            let sentinel = Informer::<Definition>::new(self.client.clone(), collection::<Definition>(), params);
            let end = shutdown.clone();
            let tell = |change: &Change<Definition>| match change {
                Change::Applied { object, .. } if object.is_established() => self.start(&end),
                Change::Applied { .. } | Change::Deleted { .. } => self.stop(),
                Change::Synced => _ = self.asked.send_replace(true),
            };
            sentinel.run(shutdown, tell).await;
            self.stop();
        })
    }

    fn stop(&self) {
        let old = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if old.is_some() {
            (self.changed)();
        }
    }

    fn start(&self, shutdown: &CancellationToken) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return;
        }
        let stop = shutdown.child_token();
        let stores = Stores {
            classes: self.mirror(&stop, |new: &GatewayClass, old| new.spec == old.spec),
            gateways: self.mirror(&stop, |new: &Gateway, old| new.spec == old.spec),
            routes: self.mirror(&stop, |new: &HttpRoute, old| new.spec == old.spec),
            grants: self.mirror(&stop, |new: &ReferenceGrant, old| new.spec == old.spec),
            namespaces: self.mirror(&stop, |new: &NamespaceView, old| new.metadata.labels == old.metadata.labels),
        };
        *running = Some(Running { stores, _end: stop.drop_guard() });
    }

    /// Mirrors a collection. `is_same` says whether an object still says what it said.
    fn mirror<T: Object + Resource>(&self, stop: &CancellationToken, is_same: fn(&T, &T) -> bool) -> Store<T> {
        let informer = Informer::<T>::new(self.client.clone(), collection::<T>(), ListParams::default());
        let (store, changed) = (informer.store(), self.changed.clone());
        tokio::spawn(informer.run(stop.clone(), move |change: &Change<T>| {
            let is_known = match change {
                Change::Applied { object, previous: Some(previous), .. } => {
                    object.uid() == previous.uid() && is_same(object, previous)
                }
                _ => false,
            };
            if !is_known {
                changed();
            }
        }));
        store
    }
}

fn is_synced(stores: &Stores) -> bool {
    let Stores { classes, gateways, routes, grants, namespaces } = stores;
    classes.is_synced() && gateways.is_synced() && routes.is_synced() && grants.is_synced() && namespaces.is_synced()
}

impl std::fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirrors").finish_non_exhaustive()
    }
}
