//! Definitions and custom resources.

use kiln_apimachinery::{meta, names};
use serde_json::Value;

use crate::apiextensions::definition::unknown_formats;

/// Finalizers that need no domain.
const STANDARD: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// Finalizers that are not in the old state, if there is one, and have odd names.
pub(super) fn finalizers(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let before = old.map(meta::finalizers).unwrap_or_default();
    let mut added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
    added.sort_unstable();
    added.dedup();
    for name in added {
        let tell = |why: &str| format!("metadata.finalizers: {name:?}: {why}");
        out.extend(names::qualified_name(name).iter().map(|why| tell(why)));
        if !name.contains('/') && !STANDARD.contains(&name) {
            let path = if name.contains('.') { " including a path (/)" } else { "" };
            out.push(tell(&format!(
                "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            )));
        }
    }
}

/// Formats that nobody checks.
pub(super) fn definition(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let before = old.map(unknown_formats).unwrap_or_default();
    let added = unknown_formats(new).into_iter().filter(|format| !before.contains(format));
    out.extend(added.map(|format| format!("unrecognized format {format:?}")));
}
