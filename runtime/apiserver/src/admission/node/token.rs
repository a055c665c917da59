//! Tokens that a node asks for: of accounts of its own pods only, bound to the pod, and for audiences that the pod names.

use kiln_apimachinery::{GroupResource, Status, meta};
use serde_json::Value;

use super::refuse;
use crate::authz::node::references;
use crate::authz::{Attributes, allowed};
use crate::verbs::Cx;

pub(super) async fn create(cx: &Cx<'_>, node: &str, request: &Value) -> Result<(), Status> {
    let account = cx.info.name.as_str();
    let refuse = |why: &str| refuse(cx, account, why);
    let reference = |key: &str| meta::text(request, &["spec", "boundObjectRef", key]);
    let name = reference("name");
    if reference("apiVersion") != "v1" || reference("kind") != "Pod" || name.is_empty() {
        return Err(refuse("node requested token not bound to a pod"));
    }
    let uid = reference("uid");
    if uid.is_empty() {
        return Err(refuse("node requested token with a pod binding without a uid"));
    }
    let found = cx.server.store().read("", "pods", cx.namespace(), name).await?;
    let pod = found.ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), name))?.object;
    if meta::uid(&pod) != uid {
        return Err(refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        )));
    }
    if meta::text(&pod, &["spec", "nodeName"]) != node {
        return Err(refuse("node requested token bound to a pod scheduled on a different node"));
    }
    let audience = match meta::strings(meta::at(request, &["spec", "audiences"]))[..] {
        [] => "",
        [one] => one,
        _ => return Err(refuse("node may only request 0 or 1 audiences")),
    };
    if references::token_audiences(&pod).contains(&audience) || by_driver(cx, &pod, audience).await? {
        return Ok(());
    }
    let verb = "request-serviceaccounts-token-audience";
    let asked = Attributes::resource(verb, "", audience, cx.namespace(), account);
    if allowed(cx.server, cx.user, &asked).await?.is_ok() {
        return Ok(());
    }
    let user = &cx.user.name;
    Err(refuse(&format!(
        "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
    )))
}

/// True if a CSI driver of the pod's volumes wants tokens for the audience.
async fn by_driver(cx: &Cx<'_>, pod: &Value, audience: &str) -> Result<bool, Status> {
    let store = cx.server.store();
    let mut drivers: Vec<String> = Vec::new();
    for volume in meta::at(pod, &["spec", "volumes"]).and_then(Value::as_array).into_iter().flatten() {
        drivers.push(meta::text(volume, &["csi", "driver"]).to_owned());
    }
    for claim in references::claims(pod) {
        let Some(claim) = store.read("", "persistentvolumeclaims", cx.namespace(), &claim).await? else { continue };
        let volume = meta::text(&claim.object, &["spec", "volumeName"]);
        if let Some(volume) = store.read("", "persistentvolumes", "", volume).await? {
            drivers.push(meta::text(&volume.object, &["spec", "csi", "driver"]).to_owned());
        }
    }
    for driver in drivers.iter().filter(|d| !d.is_empty()) {
        let Some(driver) = store.read("storage.k8s.io", "csidrivers", "", driver).await? else { continue };
        let requests = meta::at(&driver.object, &["spec", "tokenRequests"]).and_then(Value::as_array);
        if requests.into_iter().flatten().any(|r| meta::text(r, &["audience"]) == audience) {
            return Ok(true);
        }
    }
    Ok(false)
}
