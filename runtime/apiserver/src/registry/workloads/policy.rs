//! Budgets that say how many pods may be missing at once.

use serde_json::Value;

use super::controllers::without_status;
use super::view::make;
use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct Budgets;

/// Counts that a status always has.
const COUNTS: &[&str] = &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

fn counts(object: &mut Value) {
    let status = make(object, "status");
    for key in COUNTS {
        default_to(status, key, 0);
    }
}

impl Strategy for Budgets {
    fn default(&self, object: &mut Value) {
        make(object, "spec");
        counts(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        counts(object);
    }
}
