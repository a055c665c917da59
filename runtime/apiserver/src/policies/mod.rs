//! Admission policies: rules in CEL that users write about requests, in this server and without a webhook. A policy says
//! what; its bindings say where, and with which parameters. In flow requests between authorization and storage, out flow
//! changed objects, refusals, warnings and audit annotations.

mod config;
mod evaluate;
mod params;
mod typecheck;

use std::sync::Arc;

use kiln_apimachinery::apply;
use kiln_apimachinery::{Cause, Reason, Status, meta, patch};
use kiln_cel::{BUDGET, MESSAGES, Type};
use serde_json::Value;

pub(crate) use config::Policies;
use config::{Action, Binding, Mutation, Policy};
use evaluate::{Evaluation, Finding, Shape};

use crate::admission::Plugin;
use crate::audit;
use crate::verbs::tree::Tree;
use crate::verbs::{Cx, encode};
use crate::webhooks::matching::{self, Asked, Matched, matched, selected};
use crate::webhooks::rounds::Rounds;

/// The types of what a policy's expressions may name.
pub(crate) fn variables(mutating: bool) -> Vec<(&'static str, Type)> {
    let mut out = matching::variables();
    out.extend([("params", Type::Dyn), ("namespaceObject", Type::Dyn), ("variables", Type::Dyn)]);
    if mutating {
        out.push((MESSAGES, Type::Dyn));
    }
    out
}

/// Tells in a ValidatingAdmissionPolicy's status how its expressions fit what it matches, when it is new or its spec is another.
pub(crate) fn settle(cx: &Cx<'_>, object: &mut Value, old: Option<&Value>) {
    let row = &cx.resource;
    if row.group != "admissionregistration.k8s.io" || row.plural != "validatingadmissionpolicies" {
        return;
    }
    if old.is_some_and(|old| old.get("spec") == object.get("spec")) {
        return;
    }
    let told = typecheck::check(cx.server.registry(), object);
    let generation = meta::at(object, &["metadata", "generation"]).cloned().unwrap_or_default();
    let status = meta::child(object, "status");
    status.insert("observedGeneration".into(), generation);
    status.insert("typeChecking".into(), told);
}

/// How a policy and one of its bindings are met, if they are.
async fn meets(asked: &Asked<'_>, policy: &Policy, binding: &Binding) -> Result<Option<Matched>, Status> {
    let found = matched(asked, &policy.matches.rules, policy.matches.equivalent);
    let Some(found) = found else { return Ok(None) };
    for matches in std::iter::once(&policy.matches).chain(&binding.matches) {
        let inside = matches.rules.is_empty() || matched(asked, &matches.rules, matches.equivalent).is_some();
        let outside = matched(asked, &matches.excludes, matches.equivalent).is_some();
        if !inside || outside || !selected(asked, &matches.namespaces, &matches.objects).await? {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// Policies that change an object that is about to be written; in a second round those that want to see it again.
pub(crate) async fn mutate(
    cx: &Cx<'_>,
    operation: &'static str,
    object: &mut Value,
    old: Option<&Value>,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    let policies = cx.server.policies().current(cx.server).await?;
    if !cx.runs(Plugin::MutatingAdmissionPolicy) || policies.mutating.is_empty() || matching::is_exempt(cx) {
        return Ok(());
    }
    let round = rounds.number();
    rounds.policies.begin(round, object);
    for (policy, binding) in policies.pairs(true) {
        let name = format!("{}/{}", policy.name, binding.name);
        if !rounds.policies.has(round, &name) {
            continue;
        }
        let asked = Asked::new(cx, operation, Some(object), old);
        let Some(found) = meets(&asked, policy, binding).await? else { continue };
        let denied = |why: String| match policy.ignores_failure {
            true => {
                tracing::debug!(policy = policy.name, error = why, "a policy failed and is passed over");
                Ok(())
            }
            false => {
                let text = format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name);
                Err(refusal(&asked, &text, Reason::Invalid))
            }
        };
        let params = match params::of(&asked, policy, binding).await {
            Ok(params) => params,
            Err(why) => {
                denied(why)?;
                continue;
            }
        };
        let mut changed = false;
        for param in params {
            // Asked once: what a mutation changes does not keep the next one from its part.
            let asked = Asked::new(cx, operation, Some(object), old);
            let shape = Shape::new(&asked, &found).await?;
            let evaluation = Evaluation { policy, shape: &shape, params: param.clone() };
            match evaluation.is_met(&mut BUDGET.clone()) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    denied(why)?;
                    continue;
                }
            }
            for mutation in &policy.mutations {
                let asked = Asked::new(cx, operation, Some(object), old);
                match change(&asked, policy, &found, &param, mutation).await {
                    Ok(Some(mut new)) => {
                        cx.resource.strategy.default(&mut new);
                        encode::fill(&cx.resource, &mut new);
                        *object = new;
                        changed = true;
                    }
                    Ok(None) => {}
                    Err(why) => denied(why)?,
                }
            }
        }
        if changed {
            rounds.policies.changed();
            rounds.changed();
        }
        if policy.reinvoked {
            rounds.policies.invoked(name);
        }
    }
    rounds.policies.end(object);
    Ok(())
}

/// The object as one mutation makes it; the error is a sentence.
async fn change(
    asked: &Asked<'_>,
    policy: &Policy,
    found: &Matched,
    param: &Value,
    mutation: &Mutation,
) -> Result<Option<Value>, String> {
    let text = |status: Status| status.message;
    let shown = asked.shaped(found, asked.object.as_ref()).await.map_err(text)?;
    let shape = Shape::new(asked, found).await.map_err(text)?;
    let value = Evaluation { policy, shape: &shape, params: param.clone() }.mutation(mutation)?;
    let mut object = shown.clone();
    match mutation {
        Mutation::Json(_) => patch::json_patch(&mut object, value).map_err(|e| e.to_string())?,
        Mutation::Apply(_) => {
            let merged = apply::merge(Tree::of(&found.resource), Some(&object), Some(&value))?;
            object = merged.unwrap_or_default();
        }
    }
    if object == shown {
        return Ok(None);
    }
    asked.taken_back(found, object).await.map(Some).map_err(text)
}

/// Policies that let a request pass or not.
pub(crate) async fn validate(
    cx: &Cx<'_>,
    operation: &'static str,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let policies = cx.server.policies().current(cx.server).await?;
    if !cx.runs(Plugin::ValidatingAdmissionPolicy) || policies.validating.is_empty() || matching::is_exempt(cx) {
        return Ok(());
    }
    let asked = Asked::new(cx, operation, object, old);
    let mut denied: Option<(String, Reason)> = None;
    let mut known: Option<Shape<'_>> = None;
    for (policy, binding) in policies.pairs(false) {
        let Some(found) = meets(&asked, policy, binding).await? else { continue };
        // Mostly all match by the same version.
        let shape = match known.take().filter(|shape| shape.is_of(&found)) {
            Some(shape) => shape,
            None => Shape::new(&asked, &found).await?,
        };
        for finding in findings(&asked, policy, binding, known.insert(shape)).await {
            let Finding { message, reason } = finding;
            let by = format!("ValidatingAdmissionPolicy '{}' with binding '{}'", policy.name, binding.name);
            for action in &binding.actions {
                match action {
                    Action::Deny => {
                        denied.get_or_insert((format!("{by} denied request: {message}"), reason));
                    }
                    Action::Warn => cx.warn(format!("Validation failed for {by}: {message}")),
                    Action::Audit => audit::annotate(
                        "validation.policy.admission.k8s.io/validation_failure",
                        serde_json::json!([{
                            "message": message, "policy": policy.name, "binding": binding.name, "expressionIndex": 0,
                            "validationActions": binding.words,
                        }])
                        .to_string(),
                    ),
                }
            }
        }
    }
    match denied {
        Some((message, reason)) => Err(refusal(&asked, &message, reason)),
        None => Ok(()),
    }
}

async fn findings(asked: &Asked<'_>, policy: &Arc<Policy>, binding: &Binding, shape: &Shape<'_>) -> Vec<Finding> {
    let mut out = Vec::new();
    let failed = |why: String| match policy.ignores_failure {
        true => None,
        false => Some(Finding { message: why, reason: Reason::Invalid }),
    };
    match params::of(asked, policy, binding).await {
        Err(why) => out.extend(failed(why)),
        Ok(all) => {
            for params in all {
                out.extend(Evaluation { policy, shape, params }.validations(asked));
            }
        }
    }
    out
}

fn refusal(asked: &Asked<'_>, message: &str, reason: Reason) -> Status {
    let mut status = Status::forbidden(&asked.cx.resource.group_resource(), asked.name(), message);
    let like = Status::failure(reason, "");
    (status.reason, status.code) = (like.reason, like.code);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { message: message.to_owned(), ..Cause::default() });
    }
    status
}
