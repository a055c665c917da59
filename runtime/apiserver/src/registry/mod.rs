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
mod resource;
pub(crate) mod rules;
pub(crate) mod storage;
pub(crate) mod strategy;
pub(crate) mod workloads;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_storage::Volatile;

pub(crate) use resource::{Resource, Subresource};

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
    ]
    .into_iter()
    .flatten()
}

/// All rows.
#[derive(Debug)]
pub(crate) struct Registry {
    rows: Vec<Arc<Resource>>,
    by_name: HashMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    pub(crate) fn builtin() -> Self {
        let rows: Vec<Arc<Resource>> = rows().map(Arc::new).collect();
        let key = |r: &Arc<Resource>| ((r.group.clone(), r.version.clone(), r.plural.clone()), r.clone());
        let by_name = rows.iter().map(key).collect();
        Self { rows, by_name }
    }

    /// All rows, in order of the table.
    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// The row of a resource in a URL.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The first row of a resource, whatever its version.
    pub(crate) fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.rows.iter().find(|r| r.group == group && r.plural == plural)
    }

    /// True if the objects of a resource are served in this version too.
    pub(crate) fn serves(&self, resource: &Resource, api_version: &str) -> bool {
        let same_place = |r: &Arc<Resource>| r.kind == resource.kind && r.prefix("") == resource.prefix("");
        self.rows.iter().any(|r| same_place(r) && r.api_version() == api_version)
    }

    /// Groups in order of the table, core (empty) among them, each with its versions.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        for row in &self.rows {
            match out.iter_mut().find(|(g, _)| *g == row.group) {
                Some((_, versions)) if versions.contains(&row.version) => {}
                Some((_, versions)) => versions.push(row.version.clone()),
                None => out.push((row.group.clone(), vec![row.version.clone()])),
            }
        }
        out
    }

    /// The rows of a group and version, by plural.
    pub(crate) fn of(&self, group: &str, version: &str) -> Vec<&Arc<Resource>> {
        let mut out: Vec<_> = self.rows.iter().filter(|r| r.group == group && r.version == version).collect();
        out.sort_by(|a, b| a.plural.cmp(&b.plural));
        out
    }
}
