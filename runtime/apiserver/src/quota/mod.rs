//! ResourceQuotas: what a namespace may have. A create or update takes its part of every quota that it falls under before it
//! is stored, by a write of the quota's status that fails if another came between. What is used is counted anew when a
//! quota changes, and when something has gone.

mod scope;
mod usage;

use std::collections::BTreeMap;

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{Reason, Status, meta};
use kiln_storage::ListOptions;
use serde_json::{Value, json};

use crate::server::ApiServer;
use crate::verbs::store::Stored;
use crate::verbs::{Cx, errors};

/// How often a write of a quota is tried again that others overtook.
const ATTEMPTS: usize = 8;

/// Amounts by resource.
type Amounts = BTreeMap<String, Quantity>;

fn read(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object).into_iter().flatten();
    list.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
}

fn write(amounts: &Amounts) -> Value {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// `cpu=1,memory=2Gi`.
fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

async fn quotas(server: &ApiServer, namespace: &str) -> Result<Vec<Stored>, Status> {
    let prefix = format!("/registry/core/resourcequotas/{namespace}/");
    let page = server.storage().list(&prefix, ListOptions::default()).await.map_err(errors::storage)?;
    page.records.into_iter().map(Stored::parse).collect()
}

/// What is counted, and where: the object itself and, of a pod, its status.
fn counts(cx: &Cx<'_>) -> bool {
    cx.resource.namespaced && cx.resource.review.is_none() && matches!(cx.info.subresource.as_str(), "" | "resize")
}

/// Takes what the object needs of the namespace's quotas; true if it took anything.
pub(crate) async fn take(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<bool, Status> {
    if !counts(cx) || cx.namespace().is_empty() {
        return Ok(false);
    }
    let mut taken = false;
    for quota in quotas(cx.server, cx.namespace()).await? {
        taken |= take_of(cx, quota, new, old).await?;
    }
    Ok(taken)
}

async fn take_of(cx: &Cx<'_>, mut quota: Stored, new: &Value, old: Option<&Value>) -> Result<bool, Status> {
    let (group, plural) = (cx.resource.group.as_str(), cx.resource.plural.as_str());
    let name = meta::name(&quota.object).to_owned();
    for _ in 0..ATTEMPTS {
        if !scope::matches(&quota.object, plural, new) {
            return Ok(false);
        }
        let hard = read(meta::at(&quota.object, &["status", "hard"]));
        let concerned: Amounts =
            usage::of(group, plural, new).into_iter().filter(|(resource, _)| hard.contains_key(resource)).collect();
        if plural == "pods" && group.is_empty() && old.is_none() {
            usage::require(new, hard.keys()).map_err(|why| refuse(cx, new, &format!("failed quota: {name}: {why}")))?;
        }
        let before = old.filter(|o| scope::matches(&quota.object, plural, o));
        let before = before.map(|o| usage::of(group, plural, o)).unwrap_or_default();
        let requested: Amounts = concerned
            .into_iter()
            .map(|(resource, amount)| {
                let had = before.get(&resource).copied().unwrap_or(Quantity::ZERO);
                (resource, amount.minus(had))
            })
            .filter(|(_, amount)| !amount.is_zero() && !amount.is_negative())
            .collect();
        if requested.is_empty() {
            return Ok(false);
        }
        let mut used = read(meta::at(&quota.object, &["status", "used"]));
        let exceeded: Vec<&String> = requested
            .iter()
            .filter(|(r, amount)| used.get(*r).copied().unwrap_or(Quantity::ZERO).plus(**amount) > hard[*r])
            .map(|(r, _)| r)
            .collect();
        if !exceeded.is_empty() {
            let pick = |all: &Amounts| -> Amounts {
                let of = |r: &&String| ((**r).clone(), all.get(*r).copied().unwrap_or(Quantity::ZERO));
                exceeded.iter().map(of).collect()
            };
            let (requested, used, limited) = (shown(&pick(&requested)), shown(&pick(&used)), shown(&pick(&hard)));
            let why = format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}");
            return Err(refuse(cx, new, &why));
        }
        if cx.dry_run {
            return Ok(false);
        }
        for (resource, amount) in requested {
            let whole = used.get(&resource).map_or(amount, |u| u.plus(amount));
            used.insert(resource, whole);
        }
        let mut next = quota.object.clone();
        next["status"]["used"] = write(&used);
        match cx.server.store().replace("", "resourcequotas", &quota, &next).await {
            Ok(()) => return Ok(true),
            Err(status) if status.is(Reason::Conflict) => {}
            Err(status) if status.is(Reason::NotFound) => return Ok(false),
            Err(status) => return Err(status),
        }
        match cx.server.store().read("", "resourcequotas", cx.namespace(), &name).await? {
            Some(found) => quota = found,
            None => return Ok(false),
        }
    }
    Err(Status::modified(&kiln_apimachinery::GroupResource::new("", "resourcequotas"), &name))
}

fn refuse(cx: &Cx<'_>, object: &Value, why: &str) -> Status {
    Status::forbidden(&cx.resource.group_resource(), meta::name(object), why)
}

/// True if a write of the object may change what quotas say is used, other than by what it took.
pub(crate) fn concerns(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> bool {
    let is = |plural: &str| cx.resource.group.is_empty() && cx.resource.plural == plural;
    let phase = |o: &Value| meta::text(o, &["status", "phase"]).to_owned();
    let deadline = |o: &Value| meta::at(o, &["spec", "activeDeadlineSeconds"]).cloned();
    match old {
        None => is("resourcequotas"),
        // A status that somebody else wrote is put right.
        Some(old) if is("resourcequotas") => ["spec", "status"].iter().any(|part| new.get(part) != old.get(part)),
        // With a deadline a pod falls under other quotas.
        Some(old) if is("pods") => phase(new) != phase(old) || deadline(new) != deadline(old),
        Some(old) if is("persistentvolumeclaims") => scope::attributes_classes(new) != scope::attributes_classes(old),
        Some(old) => is("services") && new.get("spec") != old.get("spec"),
    }
}

/// Counts anew what the quotas of a namespace bound. What goes wrong is told; the next change counts again.
pub(crate) async fn count(server: &ApiServer, namespace: &str) {
    if let Err(status) = recount(server, namespace).await {
        tracing::warn!(namespace, error = status.message, "the quotas could not be counted");
    }
}

async fn recount(server: &ApiServer, namespace: &str) -> Result<(), Status> {
    for mut quota in quotas(server, namespace).await? {
        let name = meta::name(&quota.object).to_owned();
        for _ in 0..ATTEMPTS {
            let hard = meta::at(&quota.object, &["spec", "hard"]).cloned().unwrap_or_else(|| json!({}));
            let mut used: Amounts = read(Some(&hard)).into_keys().map(|r| (r, Quantity::ZERO)).collect();
            usage::sum(server, namespace, &quota.object, &mut used).await?;
            let mut next = quota.object.clone();
            next["status"] = json!({"hard": hard, "used": write(&used)});
            if next == quota.object {
                break;
            }
            match server.store().replace("", "resourcequotas", &quota, &next).await {
                Err(status) if status.is(Reason::Conflict) => {}
                Err(status) if status.is(Reason::NotFound) => break,
                done => {
                    done?;
                    break;
                }
            }
            match server.store().read("", "resourcequotas", namespace, &name).await? {
                Some(found) => quota = found,
                None => break,
            }
        }
    }
    Ok(())
}
