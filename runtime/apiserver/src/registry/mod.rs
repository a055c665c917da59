//! The kinds that are served: a table of [`Resource`] rows, each with its names, columns and a strategy for what schemas
//! can't say. Everything else (verbs, discovery, OpenAPI, tables) is driven by these rows.

pub(crate) mod access;
mod admission;
mod base;
pub(crate) mod cells;
pub(crate) mod columns;
mod devices;
pub(crate) mod extension;
pub(crate) mod flow;
pub(crate) mod network;
pub(crate) mod resource;
pub(crate) mod rules;
pub(crate) mod storage;
pub(crate) mod strategy;
pub(crate) mod workloads;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kiln_storage::Volatile;

pub(crate) use resource::{Resource, STATUS, Subresource};

use crate::apiextensions::definition as definitions;
use crate::usage;

/// Keys of the nodes' heartbeats.
pub const NODE_LEASE_PREFIX: &str = "/registry/coordination.k8s.io/leases/kube-node-lease/";
/// How long after its last write an event goes, as in Kubernetes.
const EVENT_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Keys that are not worth the wear of flash: heartbeats, and events, which expire anyway.
pub fn volatile() -> Vec<Volatile> {
    let keys = |prefix: &str, lifetime| Volatile { prefix: prefix.to_owned(), lifetime };
    vec![keys(NODE_LEASE_PREFIX, None), keys("/registry/core/events/", Some(EVENT_LIFETIME))]
}

/// The kinds of all areas, core's first.
fn rows() -> impl Iterator<Item = Resource> {
    [
        base::rows(),
        network::rows(),
        storage::rows(),
        workloads::rows(),
        access::rows(),
        devices::rows(),
        flow::rows(),
        admission::rows(),
        extension::rows(),
        definitions::rows(),
        usage::rows(),
    ]
    .into_iter()
    .flatten()
}

/// Rows, and the way to them by plural.
#[derive(Debug, Default)]
struct Rows {
    all: Vec<Arc<Resource>>,
    by_plural: HashMap<String, Vec<Arc<Resource>>>,
}

impl Rows {
    fn new(all: Vec<Arc<Resource>>) -> Self {
        let mut by_plural: HashMap<String, Vec<Arc<Resource>>> = HashMap::new();
        for row in &all {
            by_plural.entry(row.plural.clone()).or_default().push(row.clone());
        }
        Self { all, by_plural }
    }

    fn named(&self, plural: &str) -> &[Arc<Resource>] {
        self.by_plural.get(plural).map_or(&[], Vec::as_slice)
    }
}

/// All rows: those that every server has, and those of custom resources, which come and go.
#[derive(Debug)]
pub(crate) struct Registry {
    builtin: Rows,
    custom: RwLock<Custom>,
}

#[derive(Debug, Default)]
struct Custom {
    rows: Arc<Rows>,
    /// How often they have changed.
    generation: u64,
}

impl Registry {
    pub(crate) fn builtin() -> Self {
        Self { builtin: Rows::new(rows().map(Arc::new).collect()), custom: RwLock::default() }
    }

    fn custom(&self) -> Arc<Rows> {
        self.custom.read().unwrap_or_else(PoisonError::into_inner).rows.clone()
    }

    /// Replaces the rows of custom resources.
    pub(crate) fn set_custom(&self, rows: Vec<Arc<Resource>>) {
        let rows = Arc::new(Rows::new(rows));
        let mut custom = self.custom.write().unwrap_or_else(PoisonError::into_inner);
        custom.rows = rows;
        custom.generation += 1;
    }

    /// A number that grows whenever rows change.
    pub(crate) fn generation(&self) -> u64 {
        self.custom.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// True for a resource that every server has.
    pub(crate) fn builtin_has(&self, group: &str, plural: &str) -> bool {
        self.builtin.named(plural).iter().any(|r| r.group == group)
    }

    /// All rows, in order of the table, those of custom resources last.
    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        self.builtin.all.iter().chain(&self.custom().all).cloned().collect()
    }

    /// The row of a resource in a URL.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let fits = |r: &&Arc<Resource>| r.group == group && r.version == version;
        let own = self.builtin.named(plural).iter().find(fits).cloned();
        own.or_else(|| self.custom().named(plural).iter().find(fits).cloned())
    }

    /// The first row of a resource, whatever its version.
    pub(crate) fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        let fits = |r: &&Arc<Resource>| r.group == group;
        let own = self.builtin.named(plural).iter().find(fits).cloned();
        own.or_else(|| self.custom().named(plural).iter().find(fits).cloned())
    }

    /// True if the objects of a resource are served in this version too.
    pub(crate) fn serves(&self, resource: &Resource, api_version: &str) -> bool {
        let same_place = |r: &Arc<Resource>| r.kind == resource.kind && r.prefix("") == resource.prefix("");
        let fits = |r: &Arc<Resource>| same_place(r) && r.api_version() == api_version;
        if resource.custom.is_some() {
            return self.custom().named(&resource.plural).iter().any(fits);
        }
        self.builtin.all.iter().any(fits)
    }

    /// The rows of the same objects in other versions.
    pub(crate) fn others(&self, resource: &Arc<Resource>) -> Vec<Arc<Resource>> {
        let place = resource.prefix("");
        let other = |r: &&Arc<Resource>| r.prefix("") == place && !Arc::ptr_eq(r, resource);
        if resource.custom.is_some() {
            return self.custom().named(&resource.plural).iter().filter(other).cloned().collect();
        }
        self.builtin.named(&resource.plural).iter().filter(other).cloned().collect()
    }

    /// Groups in order of the table, core (empty) among them, each with its versions.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        for row in self.all() {
            match out.iter_mut().find(|(g, _)| *g == row.group) {
                Some((_, versions)) if versions.contains(&row.version) => {}
                Some((_, versions)) => versions.push(row.version.clone()),
                None => out.push((row.group.clone(), vec![row.version.clone()])),
            }
        }
        out
    }

    /// The rows of a group and version, by plural.
    pub(crate) fn of(&self, group: &str, version: &str) -> Vec<Arc<Resource>> {
        let mut out = self.all();
        out.retain(|r| r.group == group && r.version == version);
        out.sort_by(|a, b| a.plural.cmp(&b.plural));
        out
    }
}
