//! What members of a set carry: a label that selects them, and annotations that say whose they are.

use std::collections::BTreeMap;
use std::fmt;

use kiln_apimachinery::meta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Kind;

const HASH: &str = "objectset.rio.cattle.io/hash";
const ID: &str = "objectset.rio.cattle.io/id";
const GVK: &str = "objectset.rio.cattle.io/owner-gvk";
const NAME: &str = "objectset.rio.cattle.io/owner-name";
const NAMESPACE: &str = "objectset.rio.cattle.io/owner-namespace";

/// Whom a set belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Owner {
    fn annotations(&self) -> [(&'static str, String); 4] {
        [
            (ID, String::new()),
            (GVK, self.kind.to_string()),
            (NAME, self.name.clone()),
            (NAMESPACE, self.namespace.clone()),
        ]
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        self.annotations().iter().for_each(|(_, text)| hash.update(text));
        hash.finalize()[..20].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Selects the members by their label.
    pub(super) fn selector(&self) -> String {
        format!("{HASH}={}", self.hash())
    }

    /// Makes an object a member.
    pub(super) fn mark(&self, object: &mut Value) {
        for (key, value) in self.annotations() {
            meta::set_annotation(object, key, &value);
        }
        let labels = meta::child(object, "metadata").entry("labels").or_insert(Value::Null);
        meta::object_mut(labels).insert(HASH.to_owned(), json!(self.hash()));
    }

    /// Whether annotations name this owner.
    pub(super) fn owns(&self, annotations: &BTreeMap<String, String>) -> bool {
        let is = |(key, value): (&'static str, String)| annotations.get(key).is_some_and(|found| *found == value);
        self.annotations().into_iter().all(is)
    }
}
