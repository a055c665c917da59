//! Which groups and versions there are by APIServices, in which order, and who answers for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_apimachinery::meta;
use serde_json::Value;

use super::link::Link;
use crate::registry::cells::items;

/// What an APIService says of its group and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) group: String,
    pub(super) version: String,
    group_priority: i64,
    version_priority: i64,
}

impl Service {
    pub(super) fn of(object: &Value) -> Self {
        let text = |key: &str| meta::text(object, &["spec", key]).to_owned();
        let number = |key: &str| meta::at(object, &["spec", key]).and_then(Value::as_i64).unwrap_or_default();
        Self {
            group: text("group"),
            version: text("version"),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
        }
    }
}

/// Another server that answers for a group and version.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) link: Arc<Link>,
    /// The `Available` condition is true.
    pub(crate) available: bool,
}

/// True if the `Available` condition of an APIService is.
pub(super) fn is_available(object: &Value) -> bool {
    available(object).is_some_and(|c| meta::text(c, &["status"]) == "True")
}

/// The `Available` condition.
pub(super) fn available(object: &Value) -> Option<&Value> {
    items(object, &["status", "conditions"]).iter().find(|c| meta::text(c, &["type"]) == "Available")
}

/// APIServices by name.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<String, (Service, Option<Remote>)>);

impl Table {
    pub(super) fn new(all: BTreeMap<String, (Service, Option<Remote>)>) -> Self {
        Self(all)
    }

    /// Those that other servers answer for, with their names.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = (&str, &Remote)> {
        self.0.iter().filter_map(|(name, (_, remote))| Some((name.as_str(), remote.as_ref()?)))
    }

    /// Who answers for a group and version, if that is another server.
    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<&Remote> {
        let of = |r: &&Remote| r.link.place.group == group && r.link.place.version == version;
        self.remotes().map(|(_, remote)| remote).find(of)
    }

    /// Who answers for a path, if that is another server.
    pub(super) fn route(&self, path: &str) -> Option<&Remote> {
        let (rest, document) = match path.strip_prefix("/openapi/v3") {
            Some(rest) => (rest, true),
            None => (path, false),
        };
        let mut parts = rest.strip_prefix("/apis/")?.split('/');
        let remote = self.remote(parts.next()?, parts.next()?)?;
        (!document || remote.link.told().openapi.is_some()).then_some(remote)
    }

    /// The priority of a group, if any APIService is of it.
    pub(crate) fn group_priority(&self, group: &str) -> Option<i64> {
        self.0.values().map(|(service, _)| service).filter(|s| s.group == group).map(|s| s.group_priority).max()
    }

    /// The priority of a version, if it has an APIService.
    pub(crate) fn version_priority(&self, group: &str, version: &str) -> Option<i64> {
        let of = |s: &&Service| s.group == group && s.version == version;
        self.0.values().map(|(service, _)| service).find(of).map(|s| s.version_priority)
    }
}
