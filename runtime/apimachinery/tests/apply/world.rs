//! An object that is applied and updated.

use kiln_apimachinery::Gvk;
use kiln_apimachinery::apply::{self, ApplyError, Set, Writer, update};
use serde_json::{Value, json};

use crate::common::{THING, Ty, thing, writer};

pub(crate) const EARLY: &str = "2026-01-01T00:00:00Z";
pub(crate) const LATER: &str = "2026-01-02T00:00:00Z";

pub(crate) fn gvk() -> Gvk {
    Gvk::new("", "v1", "Thing")
}

/// An object as it is stored, with a uid, so that it counts as there.
pub(crate) struct World {
    pub(crate) ty: Ty,
    pub(crate) live: Option<Value>,
    pub(crate) now: &'static str,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { ty: THING, live: None, now: EARLY }
    }

    pub(crate) fn try_apply(&mut self, manager: &str, parts: Value, force: bool) -> Result<&Value, ApplyError> {
        let nothing = Set::default();
        let by = writer(manager, self.now, &nothing);
        let new = apply::apply(self.ty, &gvk(), self.live.as_ref(), &thing(parts), &by, force)?;
        Ok(self.live.insert(new))
    }

    pub(crate) fn apply(&mut self, manager: &str, parts: Value) -> &Value {
        self.try_apply(manager, parts, false).unwrap()
    }

    pub(crate) fn refused(&mut self, manager: &str, parts: Value) -> String {
        self.try_apply(manager, parts, false).unwrap_err().to_string()
    }

    pub(crate) fn update_by(&mut self, by: &Writer<'_>, new: Value) -> &Value {
        let mut new = new;
        update(self.ty, self.live.as_ref(), &mut new, by);
        self.live.insert(new)
    }

    pub(crate) fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) -> &Value {
        let mut new = self.live.clone().unwrap_or_else(|| thing(json!({})));
        change(&mut new);
        self.update_by(&writer(manager, self.now, &Set::default()), new)
    }

    pub(crate) fn object(&self) -> &Value {
        self.live.as_ref().unwrap()
    }

    /// `manager operation` and its fields.
    pub(crate) fn owners(&self) -> Vec<(String, Value)> {
        let list = self.object()["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let name = |e: &Value| format!("{} {}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap());
        list.iter().map(|e| (name(e), e["fieldsV1"].clone())).collect()
    }

    pub(crate) fn fields(&self, owner: &str) -> Value {
        self.owners().into_iter().find(|(name, _)| name == owner).map(|(_, fields)| fields).unwrap_or_default()
    }
}
