//! Others who have a say: webhooks that judge or change requests, and those that convert custom resources. A view of the
//! configurations is kept by the store's watch, so that a configuration counts from the moment its write was answered; a
//! request that no webhook is about costs a look at its rules.

mod call;
pub(crate) mod client;
mod config;
pub(crate) mod matching;
pub(crate) mod rounds;
pub(crate) mod trust;

use std::sync::Arc;

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

pub(crate) use config::Hooks;
use config::Webhook;
use matching::{Asked, Matched};
use rounds::Rounds;

use crate::admission::Plugin;
use crate::verbs::Cx;

/// Webhooks that change an object that is about to be written; in a second round those that want to see it again.
pub(crate) async fn mutate(
    cx: &Cx<'_>,
    operation: &'static str,
    object: &mut Value,
    old: Option<&Value>,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    let hooks = cx.server.hooks().current(cx.server).await?;
    if !cx.runs(Plugin::MutatingAdmissionWebhook) || hooks.mutating.is_empty() || matching::is_exempt(cx) {
        return Ok(());
    }
    let round = rounds.number();
    rounds.webhooks.begin(round, object);
    for (at, hook) in hooks.mutating().enumerate() {
        if !rounds.webhooks.has(round, &hook.id) {
            continue;
        }
        let asked = Asked::new(cx, operation, Some(object), old);
        let Some(matched) = call::wanted(&asked, hook).await? else { continue };
        let changed = call::mutate(&asked, hook, &matched, object).await?;
        call::note(hook, round, at, changed);
        if changed {
            rounds.webhooks.changed();
            rounds.changed();
        }
        if hook.reinvoked {
            rounds.webhooks.invoked(hook.id.clone());
        }
    }
    rounds.webhooks.end(object);
    Ok(())
}

/// Webhooks that let a request pass or not. All are asked at the same time; the first that refuses is told.
pub(crate) async fn validate(
    cx: &Cx<'_>,
    operation: &'static str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let hooks = cx.server.hooks().current(cx.server).await?;
    if !cx.runs(Plugin::ValidatingAdmissionWebhook) || hooks.validating.is_empty() || matching::is_exempt(cx) {
        return Ok(());
    }
    let asked = Asked::new(cx, operation, object, old);
    let mut wanted: Vec<(&Arc<Webhook>, Matched)> = Vec::new();
    for hook in hooks.validating() {
        if let Some(matched) = call::wanted(&asked, hook).await? {
            wanted.push((hook, matched));
        }
    }
    let calls = wanted.iter().map(|(hook, matched)| call::validate(&asked, hook, matched));
    futures_util::future::join_all(calls).await.into_iter().collect()
}

/// Both kinds for a delete or a connection, where there is nothing to change.
pub(crate) async fn judge(
    cx: &Cx<'_>,
    operation: &'static str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let hooks = cx.server.hooks().current(cx.server).await?;
    if hooks.mutating.is_empty() && hooks.validating.is_empty() {
        return Ok(());
    }
    if cx.runs(Plugin::MutatingAdmissionWebhook) && !matching::is_exempt(cx) {
        let asked = Asked::new(cx, operation, object, old);
        for hook in hooks.mutating() {
            if let Some(matched) = call::wanted(&asked, hook).await? {
                let mut nothing = object.cloned().unwrap_or_default();
                if call::mutate(&asked, hook, &matched, &mut nothing).await? && object.is_none() {
                    return Err(Status::internal(format!(
                        "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                        hook.name
                    )));
                }
            }
        }
    }
    validate(cx, operation, object, old).await
}

/// Asks about a connection to what stands behind an object.
pub(crate) async fn connect(cx: &Cx<'_>) -> Result<(), Status> {
    let hooks = cx.server.hooks().current(cx.server).await?;
    if hooks.mutating.is_empty() && hooks.validating.is_empty() {
        return Ok(());
    }
    let kind = match (cx.resource.plural.as_str(), cx.info.subresource.as_str()) {
        ("pods", "exec") => "PodExecOptions",
        ("pods", "attach") => "PodAttachOptions",
        ("pods", "portforward") => "PodPortForwardOptions",
        ("pods", _) => "PodProxyOptions",
        ("services", _) => "ServiceProxyOptions",
        _ => "NodeProxyOptions",
    };
    let mut options = serde_json::json!({"kind": kind, "apiVersion": "v1"});
    let map = meta::object_mut(&mut options);
    for key in ["stdin", "stdout", "stderr", "tty"] {
        if cx.query.has(key) {
            map.insert(key.into(), cx.query.flag(key).into());
        }
    }
    for key in ["container", "path"] {
        cx.query.get(key).into_iter().for_each(|text| drop(map.insert(key.into(), text.into())));
    }
    let command: Vec<&str> = cx.query.all("command").collect();
    if !command.is_empty() {
        map.insert("command".into(), command.into());
    }
    judge(cx, "CONNECT", Some(&options), None).await
}
