//! A policy, a request and one parameter: what the expressions say.

use std::sync::Arc;

use kiln_apimachinery::{Reason, Status};
use kiln_cel::{BUDGET, EvalError, Program, Value as Cel};
use serde_json::Value;

use super::config::{Compiled, Mutation, Policy};
use crate::admission::host::Authorizer;
use crate::audit;
use crate::registry::Resource;
use crate::webhooks::matching::{Asked, Matched, Verdict};

/// A rule that is broken.
pub(super) struct Finding {
    pub(super) message: String,
    pub(super) reason: Reason,
}

/// What the expressions see of a request, in the shape of one version: the same for all policies that match by that.
pub(super) struct Shape<'a> {
    resource: Arc<Resource>,
    host: Authorizer<'a>,
    authority: Cel<'static>,
    object: Value,
    old: Value,
    request: Value,
    namespace: Value,
}

impl<'a> Shape<'a> {
    pub(super) async fn new(asked: &'a Asked<'_>, found: &Matched) -> Result<Self, Status> {
        let host = Authorizer::of(asked.cx).await?;
        let is_namespace = asked.cx.resource.group.is_empty() && asked.cx.resource.plural == "namespaces";
        let namespace = if is_namespace { None } else { asked.namespace().await? };
        Ok(Self {
            resource: found.resource.clone(),
            authority: host.of_request(asked.cx),
            host,
            object: asked.shaped(found, asked.object.as_ref()).await?,
            old: asked.shaped(found, asked.old).await?,
            request: asked.request(found, ""),
            namespace: namespace.unwrap_or_default(),
        })
    }

    /// True if a match is by this version.
    pub(super) fn is_of(&self, found: &Matched) -> bool {
        Arc::ptr_eq(&self.resource, &found.resource)
    }
}

/// What the expressions of a policy see.
pub(super) struct Evaluation<'a> {
    pub(super) policy: &'a Policy,
    pub(super) shape: &'a Shape<'a>,
    pub(super) params: Value,
}

impl Evaluation<'_> {
    /// The variables, of which those of the policy may use the ones before.
    fn variables<'v>(&'v self, budget: &mut u64) -> Vec<(&'static str, Cel<'v>)> {
        let shape = self.shape;
        let mut out = vec![
            ("object", Cel::of(&shape.object, None)),
            ("oldObject", Cel::of(&shape.old, None)),
            ("request", Cel::of(&shape.request, None)),
            ("params", Cel::of(&self.params, None)),
            ("namespaceObject", Cel::of(&shape.namespace, None)),
            ("authorizer", shape.host.root()),
            ("authorizer.requestResource", shape.authority.clone()),
            ("variables", Cel::Results(Arc::default())),
        ];
        let at = out.len() - 1;
        let mut known: Vec<(String, Result<Cel<'v>, EvalError>)> = Vec::new();
        for (name, program) in &self.policy.variables {
            let value = run(program, &out, &self.shape.host, budget);
            known.push((name.clone(), value));
            out[at].1 = Cel::Results(Arc::new(known.clone()));
        }
        out
    }

    /// Whether the policy's conditions let the request through to its rules; the error is a sentence.
    pub(super) fn is_met(&self, budget: &mut u64) -> Result<bool, String> {
        if self.policy.conditions.is_empty() {
            return Ok(true);
        }
        let variables = self.variables(budget);
        match self.policy.conditions.ask(&variables, &self.shape.host, budget) {
            Verdict::Holds => Ok(true),
            Verdict::No => Ok(false),
            Verdict::Failed(why) => Err(why),
        }
    }

    /// The rules that are broken.
    pub(super) fn validations(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let mut budget = BUDGET;
        let failed = |message: String| match self.policy.ignores_failure {
            true => None,
            false => Some(Finding { message, reason: Reason::Invalid }),
        };
        match self.is_met(&mut budget) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => return failed(why).into_iter().collect(),
        }
        let variables = self.variables(&mut budget);
        let mut out = Vec::new();
        for rule in &self.policy.validations {
            match run(&rule.program, &variables, &self.shape.host, &mut budget) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => {
                    let said = rule.message_expression.as_ref().and_then(|program| {
                        let said = program.run(&variables, Some(&self.shape.host), &mut budget).ok()?;
                        said.as_text().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty() && !t.contains('\n'))
                    });
                    let message = said.unwrap_or_else(|| match rule.message.as_str() {
                        "" => format!("failed expression: {}", rule.source.trim()),
                        message => message.to_owned(),
                    });
                    out.push(Finding { message, reason: reason(&rule.reason) });
                }
                Ok(other) => out.extend(failed(format!("expression '{}' gives a {}", rule.source, other.type_name()))),
                Err(why) => out.extend(failed(format!("expression '{}' resulted in error: {why}", rule.source))),
            }
        }
        for (key, program) in &self.policy.annotations {
            match run(program, &variables, &self.shape.host, &mut budget) {
                Ok(Cel::Null) => {}
                Ok(value) => {
                    let text = value.as_text().unwrap_or_default().trim().to_owned();
                    if !text.is_empty() {
                        audit::annotate(&format!("{}/{key}", self.policy.name), text);
                    }
                }
                Err(why) => {
                    tracing::debug!(policy = self.policy.name, key, error = %why, name = asked.name(), "no annotation");
                    out.extend(failed(format!("audit annotation '{key}' resulted in error: {why}")));
                }
            }
        }
        out
    }

    /// What a mutation asks for, as JSON.
    pub(super) fn mutation(&self, mutation: &Mutation) -> Result<Value, String> {
        let mut budget = BUDGET;
        let variables = self.variables(&mut budget);
        let (Mutation::Apply(program) | Mutation::Json(program)) = mutation;
        let found = run(program, &variables, &self.shape.host, &mut budget).map_err(|why| why.to_string())?;
        found.to_json().map_err(|why| why.to_string())
    }
}

fn run<'v>(
    program: &'v Compiled,
    variables: &[(&str, Cel<'v>)],
    host: &Authorizer<'_>,
    budget: &mut u64,
) -> Result<Cel<'v>, EvalError> {
    let compiled: Result<&Program, _> = program.as_ref().map_err(|why| EvalError::Failed(why.clone()));
    compiled?.run(variables, Some(host), budget)
}

fn reason(name: &str) -> Reason {
    match name {
        "Forbidden" => Reason::Forbidden,
        "Unauthorized" => Reason::Unauthorized,
        "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
        _ => Reason::Invalid,
    }
}
