//! Columns of Pods.

use super::cells;
use crate::registry::cells as shared;
use crate::registry::columns::Cell::With;
use crate::registry::columns::{AGE, Column, NAME, text, wide};

pub(crate) const POD: &[Column] = &[
    NAME,
    text("Ready", With(cells::pod_ready)),
    text("Status", With(cells::pod_status)),
    text("Restarts", With(cells::pod_restarts)),
    AGE,
    wide("IP", With(cells::pod_ip)),
    wide("Node", With(cells::pod_node)),
    wide("Nominated Node", With(cells::pod_nominated)),
    wide("Readiness Gates", With(shared::none)),
];
