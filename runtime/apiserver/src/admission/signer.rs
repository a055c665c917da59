//! Certificates are approved and signed by those only who hold `approve` and `sign` on the signer.

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use crate::authz::{Attributes, allowed};
use crate::verbs::Cx;

const GROUP: &str = "certificates.k8s.io";

pub(crate) async fn update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    if cx.resource.group != GROUP || cx.resource.plural != "certificatesigningrequests" {
        return Ok(());
    }
    let verb = match cx.info.subresource.as_str() {
        "approval" if conditions(new) != conditions(old) => "approve",
        "status" if meta::at(new, &["status", "certificate"]) != meta::at(old, &["status", "certificate"]) => "sign",
        _ => return Ok(()),
    };
    let signer = meta::text(old, &["spec", "signerName"]);
    let domain = signer.split_once('/').map(|(d, _)| format!("{d}/*")).unwrap_or_default();
    for name in [signer, domain.as_str()] {
        let asked = Attributes::resource(verb, GROUP, "signers", "", name);
        if allowed(cx.server, cx.user, &asked).await?.is_ok() {
            return Ok(());
        }
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(Status::forbidden(&cx.resource.group_resource(), meta::name(old), &why))
}

fn conditions(object: &Value) -> Option<&Value> {
    meta::at(object, &["status", "conditions"]).filter(|c| c.as_array().is_some_and(|a| !a.is_empty()))
}
