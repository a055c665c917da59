//! A pod of a class of runtimes has the overhead of the class, and goes where the class may run.

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{Status, meta};
use serde_json::{Map, Value};

use super::refuse;
use crate::verbs::Cx;

pub(super) async fn create(cx: &Cx<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = meta::text(pod, &["spec", "runtimeClassName"]).to_owned();
    let overhead = meta::at(pod, &["spec", "overhead"]).and_then(Value::as_object).cloned();
    if name.is_empty() {
        return match overhead {
            None => Ok(()),
            Some(_) => {
                let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(refuse(cx, pod, why))
            }
        };
    }
    let class = cx.server.store().read("node.k8s.io", "runtimeclasses", "", &name).await?;
    let Some(class) = class.map(|c| c.object) else {
        return Err(refuse(cx, pod, &format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    let fixed = meta::at(&class, &["overhead", "podFixed"]).and_then(Value::as_object).cloned();
    match (overhead, meta::at(&class, &["overhead"]).is_some()) {
        (Some(_), false) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(refuse(cx, pod, why));
        }
        (Some(given), true) if !given.is_empty() && !same(&given, &fixed.clone().unwrap_or_default()) => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(refuse(cx, pod, why));
        }
        _ => {}
    }
    if let Some(fixed) = fixed {
        meta::child(pod, "spec").insert("overhead".into(), fixed.into());
    }
    place(cx, pod, &class)
}

/// Whether two lists amount to the same.
fn same(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let amount = |v: &Value| Quantity::from_value(v).ok();
    a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| amount(value) == amount(other)))
}

fn place(cx: &Cx<'_>, pod: &mut Value, class: &Value) -> Result<(), Status> {
    for (key, value) in meta::string_map(meta::at(class, &["scheduling", "nodeSelector"])) {
        let given = meta::at(pod, &["spec", "nodeSelector", key]).and_then(Value::as_str);
        if let Some(given) = given.filter(|g| *g != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {given}"
            );
            return Err(refuse(cx, pod, &why));
        }
        let selector = meta::child(pod, "spec").entry("nodeSelector").or_insert(Value::Null);
        meta::object_mut(selector).insert(key.into(), value.into());
    }
    let more = meta::at(class, &["scheduling", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    if more.is_empty() {
        return Ok(());
    }
    let had = meta::at(pod, &["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut merged: Vec<Value> = Vec::new();
    for toleration in had.into_iter().chain(more) {
        if !merged.contains(&toleration) {
            merged.push(toleration);
        }
    }
    meta::child(pod, "spec").insert("tolerations".into(), merged.into());
    Ok(())
}
