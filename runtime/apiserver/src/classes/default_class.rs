//! Claims and ingresses without a class get the default one, if there is one.

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use super::all;
use crate::registry::storage::cells::{BETA_CLASS, DEFAULT_CLASS};
use crate::verbs::Cx;

const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";

pub(super) async fn storage(cx: &Cx<'_>, claim: &mut Value) -> Result<(), Status> {
    if meta::annotation(claim, BETA_CLASS).is_some() || meta::at(claim, &["spec", "storageClassName"]).is_some() {
        return Ok(());
    }
    let classes = all(cx, "/registry/storage.k8s.io/storageclasses/").await?;
    if let Some(name) = newest(classes, &DEFAULT_CLASS) {
        meta::child(claim, "spec").insert("storageClassName".into(), name.into());
    }
    Ok(())
}

pub(super) async fn ingress(cx: &Cx<'_>, ingress: &mut Value) -> Result<(), Status> {
    let chosen = meta::at(ingress, &["spec", "ingressClassName"]).is_some();
    if chosen || meta::annotation(ingress, INGRESS_ANNOTATION).is_some() {
        return Ok(());
    }
    let classes = all(cx, "/registry/networking.k8s.io/ingressclasses/").await?;
    if let Some(name) = newest(classes, &[DEFAULT_INGRESS]) {
        meta::child(ingress, "spec").insert("ingressClassName".into(), name.into());
    }
    Ok(())
}

/// The name of the newest class that is marked as the default one; of several of one age the first by name.
fn newest(classes: Vec<Value>, marks: &[&str]) -> Option<String> {
    let marked = |c: &Value| marks.iter().any(|m| meta::annotation(c, m) == Some("true"));
    let made = |c: &Value| meta::text(c, &["metadata", "creationTimestamp"]).to_owned();
    let mut found: Vec<Value> = classes.into_iter().filter(marked).collect();
    found.sort_by(|a, b| made(b).cmp(&made(a)).then_with(|| meta::name(a).cmp(meta::name(b))));
    found.first().map(|c| meta::name(c).to_owned())
}
