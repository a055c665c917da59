//! Columns of Services.

use super::cells;
use crate::registry::columns::Cell::{Path, With};
use crate::registry::columns::{AGE, Column, NAME, text, wide};

pub(crate) const SERVICE: &[Column] = &[
    NAME,
    text("Type", Path(&["spec", "type"])),
    text("Cluster-IP", With(cells::service_cluster_ip)),
    text("External-IP", With(cells::service_external_ip)),
    text("Port(s)", With(cells::service_ports)),
    AGE,
    wide("Selector", With(cells::service_selector)),
];
pub(crate) const ENDPOINTS: &[Column] = &[NAME, text("Endpoints", With(cells::endpoints)), AGE];
