//! Nodes that bring something rare are tainted with its name: whoever asks for it may go there. In Kubernetes this is an
//! option, and so it is here.

use std::collections::BTreeSet;

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::rules::quantities::is_extended;

/// Lets a pod bear the taints that are named as the extended resources that its containers ask for.
pub(super) fn tolerate(pod: &mut Value) {
    let lists =
        ["containers", "initContainers"].into_iter().filter_map(|key| meta::at(pod, &["spec", key])?.as_array());
    let requests = lists.flatten().filter_map(|c| meta::at(c, &["resources", "requests"])?.as_object());
    let names: BTreeSet<String> = requests.flat_map(|r| r.keys()).filter(|name| is_extended(name)).cloned().collect();
    if names.is_empty() {
        return;
    }
    let mut list = meta::at(pod, &["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    for name in names {
        let ours = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        // One that is the same but for its seconds is put right.
        let same = |t: &&mut Value| {
            ["key", "operator", "value", "effect"].iter().all(|key| meta::text(t, &[key]) == meta::text(&ours, &[key]))
        };
        match list.iter_mut().find(same) {
            Some(known) => *known = ours,
            None => list.push(ours),
        }
    }
    meta::child(pod, "spec").insert("tolerations".into(), list.into());
}
