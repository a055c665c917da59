//! Columns of nodes, settings and events.

use super::cells;
use crate::registry::columns::Cell::{Count, Path, With};
use crate::registry::columns::{AGE, Column, NAME, boolean, number, text, wide};

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
pub(crate) const CONFIG_MAP: &[Column] = &[NAME, text("Data", With(cells::config_map_data)), AGE];
pub(crate) const SECRET: &[Column] = &[NAME, text("Type", Path(&["type"])), text("Data", Count(&["data"])), AGE];
pub(crate) const EVENT: &[Column] = &[
    text("Last Seen", With(cells::event_last_seen)),
    text("Type", Path(&["type"])),
    text("Reason", Path(&["reason"])),
    text("Object", With(cells::event_object)),
    wide("Subobject", With(cells::event_subobject)),
    wide("Source", With(cells::event_source)),
    text("Message", With(cells::event_message)),
    wide("First Seen", With(cells::event_first_seen)),
    wide("Count", With(cells::event_count)),
    Column { format: "name", ..wide("Name", Path(&["metadata", "name"])) },
];
pub(crate) const LEASE: &[Column] = &[NAME, text("Holder", Path(&["spec", "holderIdentity"])), AGE];
pub(crate) const RESOURCE_QUOTA: &[Column] =
    &[NAME, text("Request", With(cells::quota_requests)), text("Limit", With(cells::quota_limits)), AGE];
pub(crate) const LIMIT_RANGE: &[Column] = &[NAME, text("Created At", Path(&["metadata", "creationTimestamp"]))];
pub(crate) const COMPONENT_STATUS: &[Column] = &[
    NAME,
    text("Status", With(cells::component_status)),
    text("Message", With(cells::component_message)),
    text("Error", With(cells::component_error)),
];
pub(crate) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value", Path(&["value"])),
    boolean("Global-Default", Path(&["globalDefault"])),
    AGE,
    text("PreemptionPolicy", Path(&["preemptionPolicy"])),
];
pub(crate) const RUNTIME_CLASS: &[Column] = &[NAME, text("Handler", Path(&["handler"])), AGE];
