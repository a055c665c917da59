//! Columns of Services and what stands behind and before them.

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
pub(crate) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", Path(&["addressType"])),
    text("Ports", With(cells::slice_ports)),
    text("Endpoints", With(cells::slice_endpoints)),
    AGE,
];
pub(crate) const INGRESS: &[Column] = &[
    NAME,
    text("Class", With(cells::ingress_class)),
    text("Hosts", With(cells::ingress_hosts)),
    text("Address", With(cells::ingress_address)),
    text("Ports", With(cells::ingress_ports)),
    AGE,
];
pub(crate) const INGRESS_CLASS: &[Column] = &[
    Column { cell: With(cells::ingress_class_name), ..NAME },
    text("Controller", Path(&["spec", "controller"])),
    text("Parameters", With(cells::ingress_class_parameters)),
    AGE,
];
pub(crate) const NETWORK_POLICY: &[Column] = &[NAME, text("Pod-Selector", With(cells::policy_selector)), AGE];
pub(crate) const IP_ADDRESS: &[Column] = &[NAME, text("ParentRef", With(cells::address_parent))];
pub(crate) const SERVICE_CIDR: &[Column] = &[NAME, text("CIDRs", With(cells::service_cidrs)), AGE];
