//! The LimitRanges of a namespace: what containers get that don't say, and what pods and claims may ask for.

use std::collections::BTreeMap;

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use super::{all, refuse};
use crate::verbs::Cx;

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Quantity>;

/// The items of all LimitRanges of the namespace, by range.
async fn ranges(cx: &Cx<'_>) -> Result<Vec<Vec<Value>>, Status> {
    let prefix = format!("/registry/core/limitranges/{}/", cx.namespace());
    let found = all(cx, &prefix).await?;
    Ok(found
        .iter()
        .map(|r| meta::at(r, &["spec", "limits"]).and_then(Value::as_array).cloned().unwrap_or_default())
        .collect())
}

/// Gives containers the requests and limits that they lack.
pub(super) async fn fill(cx: &Cx<'_>, pod: &mut Value) -> Result<(), Status> {
    for range in ranges(cx).await? {
        let defaults = |key: &str| -> BTreeMap<String, Value> {
            let of_containers = range.iter().filter(|l| meta::text(l, &["type"]) == "Container");
            let lists = of_containers.filter_map(|l| l.get(key).and_then(Value::as_object));
            lists.flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let (requests, limits) = (defaults("defaultRequest"), defaults("default"));
        let mut said = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let name = meta::text(container, &["name"]).to_owned();
                let added_limits = add(container, "limits", &limits);
                let added = add(container, "requests", &requests);
                for (kind, added) in [("request", added), ("limit", added_limits)] {
                    if !added.is_empty() {
                        said.push(format!("{} {kind} for {what} {name}", added.join(", ")));
                    }
                }
            }
        }
        if !said.is_empty() {
            meta::set_annotation(pod, ANNOTATION, &format!("LimitRanger plugin set: {}", said.join("; ")));
        }
    }
    Ok(())
}

fn add(container: &mut Value, key: &str, defaults: &BTreeMap<String, Value>) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let resources = meta::object_mut(container).entry("resources").or_insert(Value::Null);
    let list = meta::child(resources, key);
    let lacking: Vec<_> = defaults.iter().filter(|(resource, _)| !list.contains_key(*resource)).collect();
    for (resource, amount) in &lacking {
        list.insert((*resource).clone(), (*amount).clone());
    }
    lacking.into_iter().map(|(resource, _)| resource.clone()).collect()
}

/// Refuses a pod or claim that asks for less or more than it may.
pub(super) async fn check(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    for range in ranges(cx).await? {
        let mut broken = Vec::new();
        for limit in &range {
            let kind = meta::text(limit, &["type"]);
            match (cx.resource.plural.as_str(), kind) {
                ("pods", "Container") => {
                    for container in containers(object, "containers").chain(containers(object, "initContainers")) {
                        let (requests, limits) = (of(container, "requests"), of(container, "limits"));
                        bounds(limit, kind, &requests, &limits, &mut broken);
                    }
                }
                ("pods", "Pod") => {
                    bounds(limit, kind, &total(object, "requests"), &total(object, "limits"), &mut broken)
                }
                ("persistentvolumeclaims", "PersistentVolumeClaim") => {
                    let requests = amounts(meta::at(object, &["spec", "resources", "requests"]));
                    claim_bounds(limit, kind, &requests, &mut broken);
                }
                _ => {}
            }
        }
        match broken.as_slice() {
            [] => {}
            [one] => return Err(refuse(cx, object, one)),
            many => return Err(refuse(cx, object, &format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

fn amounts(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object).into_iter().flatten();
    list.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
}

fn of(container: &Value, key: &str) -> Amounts {
    amounts(meta::at(container, &["resources", key]))
}

fn containers<'a>(pod: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    meta::at(pod, &["spec", key]).and_then(Value::as_array).into_iter().flatten()
}

fn sum(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let whole = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), whole);
    }
}

fn most(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|have| amount > have) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What a pod needs at most at any time: containers and sidecars together, or an init container with the sidecars that
/// were started before it.
pub(crate) fn total(pod: &Value, key: &str) -> Amounts {
    let mut whole = Amounts::new();
    for container in containers(pod, "containers") {
        sum(&mut whole, &of(container, key));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in containers(pod, "initContainers") {
        let mut needs = of(container, key);
        if meta::text(container, &["restartPolicy"]) == "Always" {
            sum(&mut whole, &needs);
            sum(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            sum(&mut needs, &sidecars);
        }
        most(&mut starting, &needs);
    }
    most(&mut whole, &starting);
    let own = amounts(meta::at(pod, &["spec", "resources", key]));
    whole.extend(own.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")));
    whole
}

fn bounds(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, broken: &mut Vec<String>) {
    for (name, enforced) in amounts(limit.get("min")) {
        let begin = format!("minimum {name} usage per {kind} is {enforced}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => broken.push(format!("{begin}.  No request is specified")),
            (Some(request), _) if *request < enforced => broken.push(format!("{begin}, but request is {request}")),
            (_, Some(limit)) if *limit < enforced => broken.push(format!("{begin}, but limit is {limit}")),
            _ => {}
        }
    }
    for (name, enforced) in amounts(limit.get("max")) {
        let begin = format!("maximum {name} usage per {kind} is {enforced}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => broken.push(format!("{begin}.  No limit is specified")),
            (_, Some(limit)) if *limit > enforced => broken.push(format!("{begin}, but limit is {limit}")),
            (Some(request), _) if *request > enforced => broken.push(format!("{begin}, but request is {request}")),
            _ => {}
        }
    }
    for (name, enforced) in amounts(limit.get("maxLimitRequestRatio")) {
        ratio(&name, kind, enforced, requests.get(&name), limits.get(&name), broken);
    }
}

#[allow(clippy::cast_precision_loss, reason = "the ratio is shown as a fraction, and upstream computes it as one")]
fn ratio(
    name: &str,
    kind: &str,
    enforced: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    broken: &mut Vec<String>,
) {
    let begin = format!("{name} max limit to request ratio per {kind} is {enforced}");
    let positive = |q: Option<&Quantity>| q.filter(|q| !q.is_zero()).map(|q| q.milli_value() as f64);
    match (positive(request), positive(limit)) {
        (None, _) => broken.push(format!("{begin}, but no request is specified or request is 0")),
        (_, None) => broken.push(format!("{begin}, but no limit is specified or limit is 0")),
        (Some(request), Some(limit)) => {
            let found = limit / request;
            if found * 1000.0 > enforced.milli_value() as f64 {
                broken.push(format!("{begin}, but provided ratio is {found:.6}"));
            }
        }
    }
}

fn claim_bounds(limit: &Value, kind: &str, requests: &Amounts, broken: &mut Vec<String>) {
    bounds(&serde_json::json!({"min": limit.get("min")}), kind, requests, &Amounts::new(), broken);
    for (name, enforced) in amounts(limit.get("max")) {
        let begin = format!("maximum {name} usage per {kind} is {enforced}");
        match requests.get(&name) {
            None => broken.push(format!("{begin}.  No request is specified")),
            Some(request) if *request > enforced => broken.push(format!("{begin}, but request is {request}")),
            Some(_) => {}
        }
    }
}
