//! Columns of nodes, settings and events.

use super::cells;
use crate::registry::columns::Cell::{Count, Path, With};
use crate::registry::columns::{AGE, Column, NAME, number, text, wide};

pub(crate) const NAMESPACE: &[Column] = &[NAME, text("Status", Path(&["status", "phase"])), AGE];
pub(crate) const NODE: &[Column] = &[
    NAME,
    text("Status", With(cells::node_status)),
    text("Roles", With(cells::node_roles)),
    AGE,
    text("Version", Path(&["status", "nodeInfo", "kubeletVersion"])),
    wide("Internal-IP", With(cells::node_internal_ip)),
    wide("External-IP", With(cells::node_external_ip)),
    wide("OS-Image", With(cells::node_os_image)),
    wide("Kernel-Version", With(cells::node_kernel)),
    wide("Container-Runtime", With(cells::node_runtime)),
];
pub(crate) const CONFIG_MAP: &[Column] = &[NAME, number("Data", With(cells::config_map_data)), AGE];
pub(crate) const SECRET: &[Column] = &[NAME, text("Type", Path(&["type"])), number("Data", Count(&["data"])), AGE];
pub(crate) const EVENT: &[Column] = &[
    text("Last Seen", With(cells::event_last_seen)),
    text("Type", Path(&["type"])),
    text("Reason", Path(&["reason"])),
    text("Object", With(cells::event_object)),
    wide("Subobject", With(cells::event_subobject)),
    wide("Source", With(cells::event_source)),
    text("Message", With(cells::event_message)),
    wide("First Seen", With(cells::event_first_seen)),
    Column { kind: "integer", ..wide("Count", With(cells::event_count)) },
    Column { format: "name", ..wide("Name", Path(&["metadata", "name"])) },
];
pub(crate) const LEASE: &[Column] = &[NAME, text("Holder", Path(&["spec", "holderIdentity"])), AGE];
