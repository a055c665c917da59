//! Columns of claims, classes and slices.

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::items;
use crate::registry::columns::Cell::{Path, With};
use crate::registry::columns::{AGE, Column, NAME, text};

pub(crate) const PLAIN: &[Column] = &[NAME, AGE];
pub(crate) const CLAIM: &[Column] = &[NAME, text("State", With(claim_state)), AGE];
pub(crate) const SLICE: &[Column] = &[
    NAME,
    text("Node", Path(&["spec", "nodeName"])),
    text("Driver", Path(&["spec", "driver"])),
    text("Pool", Path(&["spec", "pool", "name"])),
    AGE,
];

fn claim_state(claim: &Value, _: Timestamp) -> Value {
    let going = meta::is_terminating(claim);
    let allocated = meta::at(claim, &["status", "allocation"]).is_some_and(Value::is_object);
    let reserved = allocated && !items(claim, &["status", "reservedFor"]).is_empty();
    let states =
        [(going, "deleted"), (!allocated && !going, "pending"), (allocated, "allocated"), (reserved, "reserved")];
    states.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect::<Vec<_>>().join(",").into()
}
