//! Owners of `spec.replicas` seen through the subresource `scale`, and back.

use serde_json::Value;

use super::owners::{Entry, Owners};
use super::path::Element;
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";

fn replicas() -> Set {
    Set::of(&[&["spec", "replicas"]])
}

/// The `managedFields` of a scale, of those of its parent. `path` is where the parent keeps its replicas, `serves` says
/// in which versions it is served. The error says what is malformed.
pub fn to_scale(parent: Option<&Value>, path: &[&str], serves: &dyn Fn(&str) -> bool) -> Result<Option<Value>, String> {
    let steps: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
    let mut owners = Owners::read(parent)?;
    owners.0.retain(|e| serves(&e.id.api_version) && e.fields.has(&steps));
    for entry in &mut owners.0 {
        let id = super::owners::Id { api_version: SCALE_VERSION.to_owned(), ..entry.id.clone() };
        *entry = Entry::new(id, replicas(), entry.time.take());
    }
    Ok(owners.write())
}

/// The `managedFields` of a parent after its scale, which had those of [`to_scale`], was written and has these.
pub fn to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    path: &[&str],
    serves: &dyn Fn(&str) -> bool,
    api_version: &str,
) -> Result<Option<Value>, String> {
    let steps: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
    let at = Set::of(&[path]);
    let mut owners = Owners::read(parent)?;
    let mut scales = Owners::read(scale)?;
    owners.0.retain(|e| serves(&e.id.api_version));
    for entry in owners.0.iter_mut().filter(|e| e.fields.has(&steps)) {
        let id = super::owners::Id { api_version: SCALE_VERSION.to_owned(), ..entry.id.clone() };
        // An owner that the scale still has keeps the field; from another it was taken.
        if scales.take(&id).is_none() {
            entry.lose(&at);
        }
    }
    for entry in scales.0.into_iter().filter(|e| !e.fields.intersection(&replicas()).is_empty()) {
        let id = super::owners::Id { api_version: api_version.to_owned(), ..entry.id };
        let before = owners.take(&id).map(|e| e.fields).unwrap_or_default();
        owners.0.push(Entry::new(id, before.union(at.clone()), entry.time));
    }
    Ok(owners.write())
}
