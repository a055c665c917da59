//! `pods/eviction`: a delete that asks the pod's disruption budget first.

use ::http::{Response, StatusCode};
use jiff::Timestamp;
use kiln_apimachinery::selector::LabelSelector;
use kiln_apimachinery::{Cause, FieldError, GroupResource, Gvk, Reason, Status, meta, time};
use kiln_storage::ListOptions;
use serde_json::{Value, json};

use super::{condition, success};
use crate::admission;
use crate::http::body::Body;
use crate::http::respond;
use crate::verbs::delete::options::{Options, Propagation};
use crate::verbs::store::Stored;
use crate::verbs::{Cx, decode, delete, errors};

const POLICY: &str = "policy";
const BUDGETS: &str = "poddisruptionbudgets";
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const TWO_BUDGETS: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
/// Most evictions that a budget remembers until its controller has seen the pods go.
const MAX_PENDING: usize = 2000;
/// Seconds after which a budget that is not up to date may be asked again.
const AGAIN: u32 = 10;

pub(crate) async fn serve(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let gvk = Gvk::new(POLICY, "v1", "Eviction");
    let eviction = decode::body_as(cx, &gvk)?;
    admission::create_part(cx, &eviction).await?;
    if meta::name(&eviction) != cx.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = options(cx, &eviction)?;
    loop {
        let pod = pod(cx).await?;
        if !is_covered(&pod.object) {
            let mut options = options.clone();
            // A pod that has not ended yet must not begin to run before it goes.
            if meta::text(&pod.object, &["status", "phase"]) == "Pending"
                && !meta::is_terminating(&pod.object)
                && options.revision.is_none()
            {
                options.revision = Some(pod.record.mod_revision.to_string());
            }
            match go(cx, pod, options.clone()).await {
                Err(status) if status.is(Reason::Conflict) && options.revision.is_some() => {
                    let found = self::pod(cx).await?;
                    if Some(found.record.mod_revision.to_string()) == options.revision {
                        return Err(status);
                    }
                    continue;
                }
                done => done?,
            }
            return Ok(success(StatusCode::CREATED));
        }
        let budgets = budgets(cx, &pod.object).await?;
        let mut options = options.clone();
        let asked = options.revision.clone();
        let mut unhealthy = None;
        match budgets.as_slice() {
            [] => {}
            [budget] => {
                if may_go_unhealthy(&pod.object, &budget.object) {
                    unhealthy = Some(meta::name(&budget.object).to_owned());
                    options.revision = Some(pod.record.mod_revision.to_string());
                } else {
                    spend(cx, &pod.object, budget, options.dry_run).await?;
                }
            }
            _ => {
                let status =
                    Status { status: "Failure".into(), message: TWO_BUDGETS.into(), code: 500, ..Status::default() };
                return Ok(respond::status(&status));
            }
        }
        return match (go(cx, pod, options).await, unhealthy) {
            (Err(status), Some(budget)) if status.is(Reason::Conflict) && asked.is_none() => Err(pending(&budget)),
            (done, _) => done.map(|()| success(StatusCode::CREATED)),
        };
    }
}

async fn pod(cx: &Cx<'_>) -> Result<Stored, Status> {
    let found = cx.server.store().read("", "pods", cx.namespace(), &cx.info.name).await?;
    found.ok_or_else(|| Status::not_found(&cx.resource.group_resource(), &cx.info.name))
}

/// How the pod is to be deleted, a dry run of the request itself counted in.
fn options(cx: &Cx<'_>, eviction: &Value) -> Result<Options, Status> {
    let body = eviction.get("deleteOptions").cloned().unwrap_or_default();
    let key = "ignoreStoreReadErrorWithClusterBreakingPotential";
    if body.get(key) == Some(&Value::Bool(true)) {
        let why = "can not be set for pod eviction, try after removing the option";
        let error = FieldError::invalid(format!("deleteOptions.{key}"), &true.into(), why);
        return Err(Status::invalid(&Gvk::new(POLICY, "v1", "Eviction"), &cx.info.name, &[error]));
    }
    let inner = meta::strings(body.get("dryRun"));
    if cx.dry_run && !inner.is_empty() && inner != ["All"] {
        return Err(errors::plain(format!(
            "Non-matching dry-run options in request and content: [All] and [{}]",
            inner.join(" ")
        )));
    }
    let text = |path: &[&str]| meta::at(&body, path).and_then(Value::as_str).filter(|t| !t.is_empty()).map(Into::into);
    let propagation = match meta::text(&body, &["propagationPolicy"]) {
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "Orphan" => Some(Propagation::Orphan),
        _ => None,
    };
    Ok(Options {
        uid: text(&["preconditions", "uid"]),
        revision: text(&["preconditions", "resourceVersion"]),
        grace: body.get("gracePeriodSeconds").and_then(Value::as_i64).map(|s| if s < 0 { 1 } else { s }),
        propagation,
        orphan_dependents: body.get("orphanDependents").and_then(Value::as_bool),
        dry_run: cx.dry_run || inner.contains(&"All"),
    })
}

/// True for a pod that a budget protects: one that runs.
fn is_covered(pod: &Value) -> bool {
    let phase = meta::text(pod, &["status", "phase"]);
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && !meta::is_terminating(pod)
}

/// The budgets that select a pod.
async fn budgets(cx: &Cx<'_>, pod: &Value) -> Result<Vec<Stored>, Status> {
    let Some(resource) = cx.server.registry().any_version(POLICY, BUDGETS) else { return Ok(Vec::new()) };
    let page = cx.server.storage().list(&resource.prefix(cx.namespace()), ListOptions::default()).await;
    let mut out = Vec::new();
    for record in page.map_err(errors::storage)?.records {
        let budget = Stored::parse(record)?;
        let selector = meta::at(&budget.object, &["spec", "selector"]).map(LabelSelector::from_object);
        if selector.is_some_and(|s| s.is_ok_and(|s| s.matches(&meta::labels(pod)))) {
            out.push(budget);
        }
    }
    Ok(out)
}

fn count(budget: &Value, key: &str) -> i64 {
    meta::at(budget, &["status", key]).and_then(Value::as_i64).unwrap_or(0)
}

/// A pod that is not ready may go if the budget says so, or if the others are enough.
fn may_go_unhealthy(pod: &Value, budget: &Value) -> bool {
    let conditions = meta::at(pod, &["status", "conditions"]).and_then(Value::as_array);
    let is_ready = |c: &Value| meta::text(c, &["type"]) == "Ready" && meta::text(c, &["status"]) == "True";
    if conditions.is_some_and(|list| list.iter().any(is_ready)) {
        return false;
    }
    let always = meta::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
    let desired = count(budget, "desiredHealthy");
    always || (desired > 0 && count(budget, "currentHealthy") >= desired)
}

fn too_many(message: String, seconds: u32) -> Status {
    let mut status = Status::failure(Reason::TooManyRequests, VIOLATES);
    let cause = Cause { reason: "DisruptionBudget".into(), message, field: String::new() };
    let details =
        kiln_apimachinery::Details { causes: vec![cause], retry_after_seconds: seconds, ..Default::default() };
    status.details = Some(Box::new(details));
    status
}

fn pending(budget: &str) -> Status {
    too_many(format!("The disruption budget {budget} is still being processed by the server."), AGAIN)
}

/// Takes one disruption off the budget, or refuses.
async fn spend(cx: &Cx<'_>, pod: &Value, budget: &Stored, dry_run: bool) -> Result<(), Status> {
    let name = meta::name(&budget.object).to_owned();
    let mut budget = budget.clone();
    loop {
        let new = spent(&budget.object, meta::name(pod), cx.server.now())?;
        if dry_run {
            return Ok(());
        }
        match cx.server.store().replace(POLICY, BUDGETS, &budget, &new).await {
            Err(status) if status.is(Reason::Conflict) => {}
            done => return done,
        }
        let found = cx.server.store().read(POLICY, BUDGETS, cx.namespace(), &name).await?;
        budget = found.ok_or_else(|| Status::not_found(&GroupResource::new(POLICY, BUDGETS), &name))?;
    }
}

fn spent(budget: &Value, pod: &str, now: Timestamp) -> Result<Value, Status> {
    let name = meta::name(budget);
    let generation = meta::at(budget, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    if count(budget, "observedGeneration") < generation {
        return Err(pending(name));
    }
    let allowed = count(budget, "disruptionsAllowed");
    let resource = GroupResource::new(POLICY, "poddisruptionbudget");
    if allowed < 0 {
        return Err(Status::forbidden(&resource, name, "pdb disruptions allowed is negative"));
    }
    let disrupted = meta::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if disrupted.is_some_and(|pods| pods.len() > MAX_PENDING) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&resource, name, why));
    }
    if allowed == 0 {
        return Err(too_many(used_up(budget), 0));
    }
    let mut new = budget.clone();
    let status = meta::child(&mut new, "status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    let pods = status.entry("disruptedPods").or_insert(Value::Null);
    meta::object_mut(pods).insert(pod.into(), time::rfc3339(now).into());
    if allowed == 1 {
        let none_left = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": count(budget, "observedGeneration"),
        });
        condition(&mut new, none_left, now);
    }
    Ok(new)
}

/// Why a budget has nothing left.
fn used_up(budget: &Value) -> String {
    let name = meta::name(budget);
    let conditions = meta::at(budget, &["status", "conditions"]).and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|c| {
        let of = |key: &str| meta::text(c, &[key]);
        of("type") == "DisruptionAllowed" && of("status") == "False" && !of("message").is_empty()
    });
    let told = found.map(|c| (meta::text(c, &["reason"]), meta::text(c, &["message"])));
    let (healthy, desired) = (count(budget, "currentHealthy"), count(budget, "desiredHealthy"));
    match told {
        Some(("SyncFailed", why)) => {
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}")
        }
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        Some((reason, why)) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {why}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// Marks the pod as disrupted and deletes it.
async fn go(cx: &Cx<'_>, mut pod: Stored, mut options: Options) -> Result<(), Status> {
    if !options.dry_run {
        loop {
            let record = &pod.record;
            let (uid, revision) = (meta::uid(&pod.object).to_owned(), record.mod_revision.to_string());
            preconditions(&cx.info.name, &options, &uid, &revision)?;
            let mut new = pod.object.clone();
            let evicted = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            });
            condition(&mut new, evicted, cx.server.now());
            match cx.server.store().replace("", "pods", &pod, &new).await {
                Err(status) if status.is(Reason::Conflict) => pod = self::pod(cx).await?,
                done => break done?,
            }
        }
        if options.revision.is_some() {
            options.revision = Some(self::pod(cx).await?.record.mod_revision.to_string());
        }
    }
    delete::with(cx, &options).await
}

fn preconditions(name: &str, options: &Options, uid: &str, revision: &str) -> Result<(), Status> {
    for (what, asked, found, happened) in [
        ("UID", &options.uid, uid, "deleted and then recreated"),
        ("ResourceVersion", &options.revision, revision, "modified"),
    ] {
        if let Some(asked) = asked.as_deref().filter(|asked| *asked != found) {
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). The object might \
                 have been {happened}"
            );
            return Err(Status::conflict(&GroupResource::new("", "Pod"), name, &why));
        }
    }
    Ok(())
}
