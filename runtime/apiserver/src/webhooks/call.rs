//! One webhook and one request: whether it is asked, what it is asked, and what its answer means.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kiln_apimachinery::{Reason, Status, meta, patch, random};
use kiln_cel::{BUDGET, Value as Cel};
use serde_json::{Value, json};

use super::client;
use super::config::Webhook;
use super::matching::{Asked, Matched, Verdict, matched, selected};
use crate::admission::host::Authorizer;
use crate::audit;
use crate::metrics::admission::{Called, Outcome};
use crate::verbs::encode;

/// How the webhook's rules are met, if it is to be asked.
pub(super) async fn wanted(asked: &Asked<'_>, hook: &Webhook) -> Result<Option<Matched>, Status> {
    let Some(found) = matched(asked, &hook.rules, hook.equivalent) else { return Ok(None) };
    if !selected(asked, &hook.namespaces, &hook.objects).await? {
        return Ok(None);
    }
    if hook.conditions.is_empty() {
        return Ok(Some(found));
    }
    let object = asked.shaped(&found, asked.object.as_ref()).await?;
    let old = asked.shaped(&found, asked.old).await?;
    let request = asked.request(&found, "");
    let host = Authorizer::of(asked.cx).await?;
    let variables = [
        ("object", Cel::of(&object, None)),
        ("oldObject", Cel::of(&old, None)),
        ("request", Cel::of(&request, None)),
        ("authorizer", host.root()),
        ("authorizer.requestResource", host.of_request(asked.cx)),
    ];
    match hook.conditions.ask(&variables, &host, &mut BUDGET.clone()) {
        Verdict::Holds => Ok(Some(found)),
        Verdict::No => Ok(None),
        Verdict::Failed(_) if hook.ignores_failure => Ok(None),
        Verdict::Failed(why) => Err(Status::forbidden(&asked.cx.resource.group_resource(), asked.name(), &why)),
    }
}

/// Why a webhook did not let a request pass.
enum Refusal {
    /// It could not be asked.
    Call(String),
    /// It said no.
    Denied(Status),
    /// It asked for what can't be, or can't be asked.
    Broken(Status),
}

/// Asks a webhook that validates.
pub(super) async fn validate(asked: &Asked<'_>, hook: &Webhook, found: &Matched) -> Result<(), Status> {
    let began = Instant::now();
    let done = review(asked, hook, found, false).await.map(drop);
    settle(asked, hook, "validating", began, done).map(drop)
}

/// Asks a webhook that changes the object; true if it did.
pub(super) async fn mutate(
    asked: &Asked<'_>,
    hook: &Webhook,
    found: &Matched,
    object: &mut Value,
) -> Result<bool, Status> {
    let began = Instant::now();
    let changed = async {
        let response = review(asked, hook, found, true).await?;
        let Some(text) = response.get("patch").and_then(Value::as_str).filter(|p| !p.is_empty()) else {
            return Ok(None);
        };
        let bad = |why: String| Refusal::Call(format!("received undecodable patch in webhook response: {why}"));
        let kind = meta::text(&response, &["patchType"]);
        if !matches!(kind, "JSONPatch" | "") {
            return Err(Refusal::Call(format!("unsupported patch type {kind:?}")));
        }
        let bytes = STANDARD.decode(text).map_err(|e| bad(e.to_string()))?;
        let wanted: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if wanted.as_array().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        if asked.object.is_none() {
            return Err(Refusal::Broken(Status::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            ))));
        }
        let mut shown = asked.shaped(found, Some(object)).await.map_err(Refusal::Broken)?;
        let before = shown.clone();
        patch::json_patch(&mut shown, wanted).map_err(|e| Refusal::Broken(Status::internal(e)))?;
        if shown == before {
            return Ok(None);
        }
        asked.taken_back(found, shown).await.map(Some).map_err(Refusal::Broken)
    };
    match settle(asked, hook, "admit", began, changed.await)? {
        Some(Some(mut new)) => {
            asked.cx.resource.strategy.default(&mut new);
            encode::fill(&asked.cx.resource, &mut new);
            *object = new;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Notes for the audit log what a webhook did.
pub(super) fn note(hook: &Webhook, round: usize, at: usize, mutated: bool) {
    let told = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated});
    audit::annotate(&format!("mutation.webhook.admission.k8s.io/round_{round}_index_{at}"), told.to_string());
}

/// What the failure policy makes of a refusal.
fn settle<T>(
    asked: &Asked<'_>,
    hook: &Webhook,
    kind: &'static str,
    began: Instant,
    done: Result<T, Refusal>,
) -> Result<Option<T>, Status> {
    let called = Called { name: &hook.name, kind, operation: asked.operation, took: began.elapsed() };
    let outcome = match &done {
        Ok(_) => Outcome::Passed,
        Err(Refusal::Denied(status)) => Outcome::Refused(status.code),
        Err(Refusal::Broken(_)) => Outcome::Broken,
        Err(Refusal::Call(_)) if hook.ignores_failure => Outcome::FailedOpen,
        Err(Refusal::Call(_)) => Outcome::Failed,
    };
    asked.cx.server.metrics().admission.webhook(&called, outcome);
    match done {
        Ok(value) => Ok(Some(value)),
        Err(Refusal::Denied(status) | Refusal::Broken(status)) => Err(status),
        Err(Refusal::Call(why)) => {
            if hook.ignores_failure {
                tracing::warn!(webhook = hook.name, error = why, "a webhook failed and is passed over");
                return Ok(None);
            }
            Err(Status::internal(format!("failed calling webhook {:?}: {why}", hook.name)))
        }
    }
}

/// Sends the review; gives the response of a webhook that lets the request pass.
async fn review(asked: &Asked<'_>, hook: &Webhook, found: &Matched, mutating: bool) -> Result<Value, Refusal> {
    if asked.cx.dry_run && !hook.may_dry_run {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Refusal::Broken(Status::bad_request(why)));
    }
    let uid = random::uid().map_err(|e| Refusal::Broken(Status::internal(e)))?;
    let mut request = asked.request(found, &uid);
    let object = asked.shaped(found, asked.object.as_ref()).await.map_err(Refusal::Broken)?;
    let old = asked.shaped(found, asked.old).await.map_err(Refusal::Broken)?;
    request["object"] = object;
    request["oldObject"] = old;
    let version = format!("admission.k8s.io/{}", hook.review);
    let body = json!({"kind": "AdmissionReview", "apiVersion": version, "request": request});
    let sent = client::post(asked.cx.server, &hook.target, Bytes::from(body.to_string()), hook.timeout).await;
    let answer = sent.map_err(|e| Refusal::Call(format!("failed to call webhook: {e}")))?;
    let invalid = |why: String| Refusal::Call(format!("received invalid webhook response: {why}"));
    let response = answer.get("response").filter(|r| r.is_object());
    let response = response.ok_or_else(|| invalid("webhook response was absent".into()))?;
    if hook.review == "v1" {
        let found = meta::text(response, &["uid"]);
        if found != uid {
            return Err(invalid(format!("expected response.uid={uid:?}, got {found:?}")));
        }
        let (kind, told) = (meta::text(&answer, &["kind"]), meta::text(&answer, &["apiVersion"]));
        if (kind, told) != ("AdmissionReview", version.as_str()) {
            let wanted = format!("{version}, Kind=AdmissionReview");
            return Err(invalid(format!("expected webhook response of {wanted}, got {told}, Kind={kind}")));
        }
        let patched = response.get("patch").and_then(Value::as_str).is_some_and(|p| !p.is_empty());
        let wrong = match (mutating, patched, response.get("patchType").and_then(Value::as_str)) {
            (true, true, None) => Some("webhook returned response.patch but not response.patchType"),
            (true, false, Some(_)) => Some("webhook returned response.patchType but not response.patch"),
            (true, true, Some("")) => Some("webhook returned invalid response.patchType of \"\""),
            (false, true, _) => Some("validating webhook may not return response.patch"),
            (false, _, Some(_)) => Some("validating webhook may not return response.patchType"),
            _ => None,
        };
        if let Some(why) = wrong {
            return Err(invalid(why.into()));
        }
    }
    for (key, value) in meta::string_map(response.get("auditAnnotations")) {
        audit::annotate(&format!("{}/{key}", hook.name), value.to_owned());
    }
    for warning in meta::strings(response.get("warnings")) {
        asked.cx.warn(warning.to_owned());
    }
    if response.get("allowed") == Some(&Value::Bool(true)) {
        return Ok(response.clone());
    }
    Err(Refusal::Denied(denied(&hook.name, response.get("status").unwrap_or(&Value::Null))))
}

/// The refusal that a webhook asks for.
fn denied(name: &str, result: &Value) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (meta::text(result, &["message"]), meta::text(result, &["reason"]));
    let text = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = result.get("code").and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok());
    let known = [
        Reason::Forbidden,
        Reason::Invalid,
        Reason::BadRequest,
        Reason::Conflict,
        Reason::NotFound,
        Reason::AlreadyExists,
        Reason::Unauthorized,
    ];
    let found = known.into_iter().find(|r| r.as_str() == reason).unwrap_or(Reason::BadRequest);
    let mut status = Status::failure(found, text);
    status.code = code.filter(|c| *c >= 400).unwrap_or(400);
    status
}
