//! Columns of the tables that `kubectl get` prints, per kind: data. Columns of a priority above 0 show with `-o wide` only.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use super::cells;

/// Where a cell comes from.
#[derive(Clone, Copy)]
pub(crate) enum Cell {
    /// A field, as text; empty if absent.
    Path(&'static [&'static str]),
    /// The number of entries in a list or map.
    Count(&'static [&'static str]),
    /// Time since the object was made.
    Age,
    /// Computed.
    With(fn(&Value, Timestamp) -> Value),
}

/// A column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) format: &'static str,
    pub(crate) priority: i32,
    cell: Cell,
}

impl Column {
    /// The cell of an object.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match self.cell {
            Cell::Path(path) => match meta::at(object, path) {
                Some(value @ (Value::Number(_) | Value::Bool(_) | Value::String(_))) => value.clone(),
                _ if self.kind == "integer" => 0.into(),
                _ => "".into(),
            },
            Cell::Count(path) => {
                let found = meta::at(object, path);
                let n =
                    found.and_then(|v| v.as_array().map(Vec::len).or_else(|| v.as_object().map(serde_json::Map::len)));
                n.unwrap_or(0).into()
            }
            Cell::Age => {
                time::age(meta::at(object, &["metadata", "creationTimestamp"]).and_then(Value::as_str), now).into()
            }
            Cell::With(f) => f(object, now),
        }
    }
}

const fn text(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", priority: 0, cell }
}

const fn number(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "integer", format: "", priority: 0, cell }
}

const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", priority: 1, cell }
}

use Cell::{Age, Count, Path, With};

const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", priority: 0, cell: Path(&["metadata", "name"]) };
const AGE: Column = text("Age", Age);

pub(crate) const DEFAULT: &[Column] = &[NAME, text("Created At", Path(&["metadata", "creationTimestamp"]))];
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
pub(crate) const SERVICE_ACCOUNT: &[Column] = &[NAME, number("Secrets", Count(&["secrets"])), AGE];
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
pub(crate) const POD: &[Column] = &[
    NAME,
    text("Ready", With(cells::pod_ready)),
    text("Status", With(cells::pod_status)),
    text("Restarts", With(cells::pod_restarts)),
    AGE,
    wide("IP", With(cells::pod_ip)),
    wide("Node", With(cells::pod_node)),
    wide("Nominated Node", With(cells::pod_nominated)),
    wide("Readiness Gates", With(cells::none)),
];
pub(crate) const LEASE: &[Column] = &[NAME, text("Holder", Path(&["spec", "holderIdentity"])), AGE];
pub(crate) const CSR: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", Path(&["spec", "signerName"])),
    text("Requestor", Path(&["spec", "username"])),
    text("RequestedDuration", With(cells::csr_duration)),
    text("Condition", With(cells::csr_condition)),
];
pub(crate) const ROLE: &[Column] = &[NAME, text("Created At", Path(&["metadata", "creationTimestamp"]))];
pub(crate) const BINDING: &[Column] = &[
    NAME,
    text("Role", With(cells::binding_role)),
    AGE,
    wide("Users", With(cells::binding_users)),
    wide("Groups", With(cells::binding_groups)),
    wide("ServiceAccounts", With(cells::binding_accounts)),
];
