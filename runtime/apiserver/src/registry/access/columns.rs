//! Columns of certificates and bindings.

use super::cells;
use crate::registry::columns::Cell::{Path, With};
use crate::registry::columns::{AGE, Column, NAME, text, wide};

pub(crate) const SERVICE_ACCOUNT: &[Column] = &[NAME, AGE];
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
