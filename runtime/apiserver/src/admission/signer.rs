//! Certificates are approved and signed by those only who hold `approve` and `sign` on the signer.

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use super::Plugin;
use crate::authz::{Attributes, allowed};
use crate::verbs::Cx;

const GROUP: &str = "certificates.k8s.io";

pub(crate) async fn update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    if cx.resource.group != GROUP || cx.resource.plural != "certificatesigningrequests" {
        return Ok(());
    }
    let (verb, plugin) = match cx.info.subresource.as_str() {
        "approval" => ("approve", Plugin::CertificateApproval),
        "status" if ["certificate", "conditions"].iter().any(|k| part(new, k) != part(old, k)) => {
            ("sign", Plugin::CertificateSigning)
        }
        _ => return Ok(()),
    };
    if !cx.runs(plugin) {
        return Ok(());
    }
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

/// A part of the status; an empty list is none.
fn part<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    meta::at(object, &["status", key]).filter(|c| c.as_array().is_none_or(|a| !a.is_empty()))
}
