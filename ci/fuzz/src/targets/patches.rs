//! Patches: an object, a line of dashes, and what is to be changed.

use kiln_apimachinery::apply::{self, Writer};
use kiln_apimachinery::{Gvk, decode, patch};
use serde_json::Value;

fn good(value: &Value) {
    if !decode::deeper_than(value, 127) {
        super::survives(value);
    }
}

fn both(data: &[u8]) -> Option<(Value, Value)> {
    let [object, change] = super::parts(data)?;
    Some((decode::json(object.as_bytes()).ok()?.value, decode::json(change.as_bytes()).ok()?.value))
}

/// JSON patch: all or nothing, and never deeper than an object may be.
pub(super) fn json(data: &[u8]) {
    let Some((mut object, change)) = both(data) else { return };
    let before = object.clone();
    if decode::deeper_than(&before, decode::MAX_DEPTH) {
        return;
    }
    match patch::json_patch(&mut object, change) {
        Ok(()) => assert!(!decode::deeper_than(&object, decode::MAX_DEPTH)),
        Err(_) => assert_eq!(object, before),
    }
    good(&object);
}

/// Merge patch: a second time it changes nothing.
pub(super) fn merge(data: &[u8]) {
    let Some((mut object, change)) = both(data) else { return };
    patch::merge_patch(&mut object, change.clone());
    good(&object);
    let once = object.clone();
    patch::merge_patch(&mut object, change);
    assert_eq!(object, once);
}

/// Strategic merge patch of an object whose type is known.
pub(super) fn strategic(data: &[u8]) {
    let Some([object, change]) = super::parts(data) else { return };
    let Some((ty, mut object)) = super::object(object) else { return };
    let Ok(change) = decode::json(change.as_bytes()) else { return };
    if patch::strategic_merge_patch(ty, &mut object, change.value).is_ok() {
        good(&object);
    }
}

/// Apply: what was applied is owned by who applied it, and applying it again changes nothing.
pub(super) fn apply(data: &[u8]) {
    let Some([object, change]) = super::parts(data) else { return };
    let live = super::object(object);
    let Some((ty, config)) = super::object(change) else { return };
    let word = |key: &str| config[key].as_str().unwrap_or_default();
    let (group, version) = word("apiVersion").split_once('/').unwrap_or(("", word("apiVersion")));
    let gvk = Gvk::new(group, version, word("kind"));
    let api_version = gvk.api_version();
    let writer = Writer {
        manager: "fuzz",
        api_version: &api_version,
        serves: &|_| true,
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        ignored: &apply::Set::default(),
    };
    let live = live.map(|(_, live)| live).filter(|live| live["kind"] == config["kind"]);
    let Ok(applied) = apply::apply(ty, &gvk, live.as_ref(), &config, &writer, true) else { return };
    good(&applied);
    if applied["metadata"]["managedFields"].is_null() {
        // Nobody owns anything; the next to apply finds an object as from before there were owners.
        return;
    }
    let again = apply::apply(ty, &gvk, Some(&applied), &config, &writer, false);
    match again {
        Ok(again) => assert_eq!(again, applied),
        Err(error) => panic!("applied once, but not twice: {error:?}"),
    }
}
