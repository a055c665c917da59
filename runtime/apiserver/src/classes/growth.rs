//! A claim grows if its class lets it.

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use super::refuse;
use crate::registry::rules::quantities;
use crate::registry::storage::cells::class_of;
use crate::verbs::Cx;

fn size(claim: &Value) -> Quantity {
    meta::at(claim, &["spec", "resources", "requests", "storage"]).map_or(Quantity::ZERO, quantities::read)
}

/// Refuses a claim that asks for more than before, unless it is bound and of a class that allows it.
pub(super) async fn check(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    if size(new) <= size(old) {
        return Ok(());
    }
    if meta::text(old, &["status", "phase"]) != "Bound" {
        return Err(refuse(cx, new, "Only bound persistent volume claims can be expanded"));
    }
    let name = class_of(new);
    if !name.is_empty() && name == class_of(old) {
        let class = cx.server.store().read("storage.k8s.io", "storageclasses", "", name).await?;
        if class.is_some_and(|class| class.object["allowVolumeExpansion"] == true) {
            return Ok(());
        }
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(refuse(cx, new, why))
}
