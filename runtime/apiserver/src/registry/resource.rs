//! One row: everything the generic parts need to know about a resource.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use kiln_apimachinery::gvk::api_version;
use kiln_apimachinery::{GroupResource, Gvk};
use kiln_schema::TypeRef;
use serde_json::Value;

use super::columns::{self, Column};
use super::strategy::{Plain, Strategy};
use crate::apiextensions::{Custom, CustomColumn};
use crate::reviews::Review;

/// A part of an object with its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subresource {
    pub(crate) name: &'static str,
    pub(crate) verbs: &'static [&'static str],
    /// Group, version and kind of what is read and written there, if that is not the object itself.
    pub(crate) kind: Option<(&'static str, &'static str, &'static str)>,
}

/// `status`, as most kinds have it.
pub(crate) const STATUS: Subresource = Subresource { name: "status", verbs: &["get", "patch", "update"], kind: None };

/// What stands behind an object, as a part of the object: every method is passed on.
pub(crate) const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];

/// Two ways to write the same stored objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    pub(crate) to_stored: fn(&mut Value),
    pub(crate) from_stored: fn(&mut Value),
}

/// Verbs of a resource that is stored.
pub(crate) const STORED_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A row of the table.
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) subresources: Vec<Subresource>,
    pub(crate) verbs: &'static [&'static str],
    /// The type of the objects; `None` if nothing is known of them but their metadata.
    pub(crate) schema: Option<TypeRef<'static>>,
    /// Paths that field selectors may name besides the object's name and namespace.
    pub(crate) selectable: Vec<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) strategy: Arc<dyn Strategy>,
    /// A PUT of an absent object creates it.
    pub(crate) create_on_update: bool,
    /// A PUT needs no resourceVersion.
    pub(crate) unconditional_update: bool,
    /// `metadata.generation` counts changes of anything but metadata and status.
    pub(crate) generations: bool,
    /// Where the objects are kept, if they share the place of another resource.
    pub(crate) stored_as: Option<(String, String)>,
    pub(crate) conversion: Option<Conversion>,
    /// A question that is answered and not stored.
    pub(crate) review: Option<Review>,
    /// What a custom resource's definition says of it.
    pub(crate) custom: Option<Arc<Custom>>,
}

impl Resource {
    /// A namespaced kind in `group/version` that is stored as it comes.
    pub(crate) fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            subresources: Vec::new(),
            verbs: STORED_VERBS,
            schema: kiln_schema::lookup(&api_version(group, version), kind),
            selectable: Vec::new(),
            columns: columns::DEFAULT.to_vec(),
            strategy: Arc::new(Plain),
            create_on_update: false,
            unconditional_update: true,
            generations: false,
            stored_as: None,
            conversion: None,
            review: None,
            custom: None,
        }
    }

    pub(crate) fn cluster(self) -> Self {
        Self { namespaced: false, ..self }
    }

    pub(crate) fn short(self, names: &[&str]) -> Self {
        Self { short_names: owned(names), ..self }
    }

    pub(crate) fn in_all(self) -> Self {
        Self { categories: vec!["all".into()], ..self }
    }

    pub(crate) fn categories(self, names: &[&str]) -> Self {
        Self { categories: owned(names), ..self }
    }

    pub(crate) fn with_status(mut self) -> Self {
        self.subresources.push(STATUS);
        self
    }

    pub(crate) fn subresource(mut self, name: &'static str, verbs: &'static [&'static str]) -> Self {
        self.subresources.push(Subresource { name, verbs, kind: None });
        self
    }

    /// A subresource that is read and written as another kind: its group, version and name.
    pub(crate) fn subresource_as(
        mut self,
        name: &'static str,
        verbs: &'static [&'static str],
        kind: (&'static str, &'static str, &'static str),
    ) -> Self {
        self.subresources.push(Subresource { name, verbs, kind: Some(kind) });
        self
    }

    pub(crate) fn selectable(self, paths: &[&str]) -> Self {
        Self { selectable: owned(paths), ..self }
    }

    pub(crate) fn columns(self, columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), ..self }
    }

    pub(crate) fn strategy(self, strategy: impl Strategy + 'static) -> Self {
        Self { strategy: Arc::new(strategy), ..self }
    }

    pub(crate) fn create_on_update(self) -> Self {
        Self { create_on_update: true, ..self }
    }

    pub(crate) fn conditional_update(self) -> Self {
        Self { unconditional_update: false, ..self }
    }

    pub(crate) fn generations(self) -> Self {
        Self { generations: true, ..self }
    }

    pub(crate) fn stored_as(self, group: &str, plural: &str, conversion: Conversion) -> Self {
        Self { stored_as: Some((group.into(), plural.into())), conversion: Some(conversion), ..self }
    }

    /// A resource that has none but these verbs.
    pub(crate) fn verbs(self, verbs: &'static [&'static str]) -> Self {
        Self { verbs, ..self }
    }

    pub(crate) fn review(self, review: Review) -> Self {
        Self { review: Some(review), verbs: &["create"], ..self }
    }

    pub(crate) fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }

    pub(crate) fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.plural)
    }

    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn has_subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The kind of a list of these.
    pub(crate) fn list_kind(&self) -> String {
        self.custom.as_ref().map_or_else(|| format!("{}List", self.kind), |custom| custom.list_kind.clone())
    }

    /// What heads the columns of a table.
    pub(crate) fn headers(&self) -> Vec<Value> {
        let own = self.columns.iter().map(Column::header);
        own.chain(self.custom.iter().flat_map(|c| c.columns.iter()).map(CustomColumn::header)).collect()
    }

    /// The cells of an object's row.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let own = self.columns.iter().map(|c| c.cell(object, now));
        own.chain(self.custom.iter().flat_map(|c| c.columns.iter()).map(|c| c.cell(object, now))).collect()
    }

    /// The prefix of all keys, or of those in one namespace.
    pub(crate) fn prefix(&self, namespace: &str) -> String {
        let (group, plural) = match &self.stored_as {
            Some((group, plural)) => (group.as_str(), plural.as_str()),
            None => (self.group.as_str(), self.plural.as_str()),
        };
        let group = if group.is_empty() { "core" } else { group };
        if self.namespaced && !namespace.is_empty() {
            format!("/registry/{group}/{plural}/{namespace}/")
        } else {
            format!("/registry/{group}/{plural}/")
        }
    }

    /// The key of one object.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        self.prefix(namespace) + name
    }
}

/// A namespaced kind of the core group.
pub(crate) fn core(kind: &str, plural: &str) -> Resource {
    Resource::new("", "v1", kind, plural)
}

/// A namespaced kind in version 1 of a group.
pub(crate) fn v1(group: &str, kind: &str, plural: &str) -> Resource {
    Resource::new(group, "v1", kind, plural)
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural)
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::Registry;

    #[test]
    fn every_kind_that_is_served_and_every_kind_of_a_part_has_a_type() {
        for row in Registry::builtin().all() {
            // What the server measures itself is never sent to it.
            assert!(row.schema.is_some() || row.api_version().starts_with("metrics.k8s.io/"), "{row:?}");
            for (group, version, kind) in row.subresources.iter().filter_map(|s| s.kind) {
                let version = super::api_version(group, version);
                assert!(kiln_schema::lookup(&version, kind).is_some(), "{version} {kind}");
            }
        }
    }
}
