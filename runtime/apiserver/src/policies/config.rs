//! Policies and bindings as requests need them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_cel::{Program, Type};
use kiln_storage::Record;
use serde_json::Value;

use super::variables;
use crate::authz::follow::View;
use crate::registry::cells::items;
use crate::webhooks::matching::{Conditions, Rule, Selector};

const VALIDATING: &str = "/registry/admissionregistration.k8s.io/validatingadmissionpolicies/";
const VALIDATING_BINDINGS: &str = "/registry/admissionregistration.k8s.io/validatingadmissionpolicybindings/";
const MUTATING: &str = "/registry/admissionregistration.k8s.io/mutatingadmissionpolicies/";
const MUTATING_BINDINGS: &str = "/registry/admissionregistration.k8s.io/mutatingadmissionpolicybindings/";

/// Compiled, or why not.
pub(super) type Compiled = Result<Program, String>;

/// What a policy or binding is about.
#[derive(Debug)]
pub(super) struct Matches {
    pub(super) rules: Vec<Rule>,
    pub(super) excludes: Vec<Rule>,
    pub(super) namespaces: Selector,
    pub(super) objects: Selector,
    pub(super) equivalent: bool,
}

impl Matches {
    fn read(matches: &Value) -> Self {
        let rules = |key: &str| items(matches, &[key]).iter().map(Rule::read).collect();
        Self {
            rules: rules("resourceRules"),
            excludes: rules("excludeResourceRules"),
            namespaces: Selector::read(matches.get("namespaceSelector")),
            objects: Selector::read(matches.get("objectSelector")),
            equivalent: meta::text(matches, &["matchPolicy"]) != "Exact",
        }
    }
}

/// One rule of a validating policy.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) source: String,
    pub(super) program: Compiled,
    pub(super) message: String,
    pub(super) message_expression: Option<Program>,
    pub(super) reason: String,
}

/// One change of a mutating policy.
#[derive(Debug)]
pub(super) enum Mutation {
    /// An expression whose object is merged in.
    Apply(Compiled),
    /// An expression that gives the operations of a JSON patch.
    Json(Compiled),
}

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) ignores_failure: bool,
    /// It wants to see what comes of the object after it.
    pub(super) reinvoked: bool,
    pub(super) matches: Matches,
    pub(super) conditions: Conditions,
    /// `apiVersion` and `kind` of the parameters, if it has some.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) variables: Vec<(String, Compiled)>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, Compiled)>,
    pub(super) mutations: Vec<Mutation>,
}

impl Policy {
    fn read(object: &Value, mutating: bool) -> Self {
        let empty = Value::Null;
        let spec = object.get("spec").unwrap_or(&empty);
        let types: Vec<(&str, Type)> = variables(mutating);
        let compile = |source: &str| Program::compile(source, &types).map_err(|e| format!("compilation failed: {e}"));
        let text = |value: &Value, key: &str| meta::text(value, &[key]).to_owned();
        let named = |list: &str, name: &str, expression: &str| -> Vec<(String, Compiled)> {
            let all = items(spec, &[list]).iter();
            all.map(|v| (text(v, name), compile(meta::text(v, &[expression])))).collect()
        };
        let validation = |v: &Value| Validation {
            source: text(v, "expression"),
            program: compile(meta::text(v, &["expression"])),
            message: meta::text(v, &["message"]).trim().to_owned(),
            message_expression: Some(meta::text(v, &["messageExpression"]))
                .filter(|m| !m.is_empty())
                .and_then(|m| compile(m).ok()),
            reason: text(v, "reason"),
        };
        let mutation = |m: &Value| match meta::text(m, &["patchType"]) {
            "JSONPatch" => Mutation::Json(compile(meta::text(m, &["jsonPatch", "expression"]))),
            _ => Mutation::Apply(compile(meta::text(m, &["applyConfiguration", "expression"]))),
        };
        let kind = spec.get("paramKind").filter(|k| k.is_object());
        Self {
            name: meta::name(object).to_owned(),
            ignores_failure: meta::text(spec, &["failurePolicy"]) == "Ignore",
            reinvoked: meta::text(spec, &["reinvocationPolicy"]) == "IfNeeded",
            matches: Matches::read(spec.get("matchConstraints").unwrap_or(&empty)),
            conditions: Conditions::with(items(spec, &["matchConditions"]), &types),
            param_kind: kind.map(|k| (text(k, "apiVersion"), text(k, "kind"))),
            variables: named("variables", "name", "expression"),
            validations: items(spec, &["validations"]).iter().map(validation).collect(),
            annotations: named("auditAnnotations", "key", "valueExpression"),
            mutations: items(spec, &["mutations"]).iter().map(mutation).collect(),
        }
    }
}

/// What comes of a rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deny,
    Warn,
    Audit,
}

/// Which parameters a binding takes.
#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// It is an error if there are none.
    pub(super) required: bool,
}

/// A binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    policy: String,
    pub(super) params: Option<ParamRef>,
    pub(super) matches: Option<Matches>,
    pub(super) actions: Vec<Action>,
    /// The actions as they are written.
    pub(super) words: Vec<String>,
}

impl Binding {
    fn read(object: &Value) -> Self {
        let empty = Value::Null;
        let spec = object.get("spec").unwrap_or(&empty);
        let text = |value: &Value, key: &str| meta::text(value, &[key]).to_owned();
        let params = spec.get("paramRef").filter(|p| p.is_object()).map(|p| ParamRef {
            name: text(p, "name"),
            namespace: text(p, "namespace"),
            selector: Selector::read(p.get("selector")),
            required: text(p, "parameterNotFoundAction") != "Allow",
        });
        let words: Vec<String> = meta::strings(spec.get("validationActions")).into_iter().map(str::to_owned).collect();
        let action = |word: &String| match word.as_str() {
            "Deny" => Some(Action::Deny),
            "Warn" => Some(Action::Warn),
            "Audit" => Some(Action::Audit),
            _ => None,
        };
        Self {
            name: meta::name(object).to_owned(),
            policy: text(spec, "policyName"),
            params,
            matches: spec.get("matchResources").filter(|m| m.is_object()).map(Matches::read),
            actions: words.iter().filter_map(action).collect(),
            words,
        }
    }
}

/// All policies and their bindings, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub(super) validating: BTreeMap<String, Arc<Policy>>,
    pub(super) mutating: BTreeMap<String, Arc<Policy>>,
    validating_bindings: BTreeMap<String, Arc<Binding>>,
    mutating_bindings: BTreeMap<String, Arc<Binding>>,
}

impl Policies {
    /// Policies, each with each of its bindings.
    pub(super) fn pairs(&self, mutating: bool) -> impl Iterator<Item = (&Arc<Policy>, &Arc<Binding>)> {
        let (policies, bindings) = match mutating {
            true => (&self.mutating, &self.mutating_bindings),
            false => (&self.validating, &self.validating_bindings),
        };
        policies.values().flat_map(move |policy| {
            bindings.values().filter(|b| b.policy == policy.name).map(move |binding| (policy, binding))
        })
    }
}

impl View for Policies {
    const PREFIXES: &'static [&'static str] = &[VALIDATING, VALIDATING_BINDINGS, MUTATING, MUTATING_BINDINGS];

    fn put(&mut self, record: &Record) {
        // What can't be read was not written here.
        let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { return };
        let (key, name) = (&*record.key, meta::name(&object).to_owned());
        if key.starts_with(VALIDATING_BINDINGS) {
            self.validating_bindings.insert(name, Arc::new(Binding::read(&object)));
        } else if key.starts_with(MUTATING_BINDINGS) {
            self.mutating_bindings.insert(name, Arc::new(Binding::read(&object)));
        } else if key.starts_with(VALIDATING) {
            self.validating.insert(name, Arc::new(Policy::read(&object, false)));
        } else {
            self.mutating.insert(name, Arc::new(Policy::read(&object, true)));
        }
    }

    fn remove(&mut self, record: &Record) {
        let (key, name) = (&*record.key, record.key.rsplit('/').next().unwrap_or_default());
        if key.starts_with(VALIDATING_BINDINGS) {
            self.validating_bindings.remove(name);
        } else if key.starts_with(MUTATING_BINDINGS) {
            self.mutating_bindings.remove(name);
        } else if key.starts_with(VALIDATING) {
            self.validating.remove(name);
        } else {
            self.mutating.remove(name);
        }
    }
}
