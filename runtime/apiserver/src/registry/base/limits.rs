//! LimitRanges and ResourceQuotas.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{FieldError, meta, names, random};
use serde_json::{Map, Value, json};

use crate::registry::rules::quantities::{self, is_native, limit_name, quota_name, read};
use crate::registry::rules::{self, Errors, given, list, name, text};
use crate::registry::strategy::{Strategy, Writer, put};

const LIMIT_TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];

pub(crate) struct LimitRanges;

impl Strategy for LimitRanges {
    fn default(&self, object: &mut Value) {
        let limits = object.pointer_mut("/spec/limits").and_then(Value::as_array_mut);
        for item in limits.into_iter().flatten().filter(|i| meta::text(i, &["type"]) == "Container") {
            // Who gives a bound and no default means the bound; who gives a limit and no request means the limit.
            fill(item, "default", "max");
            fill(item, "defaultRequest", "default");
            fill(item, "defaultRequest", "min");
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        if meta::name(object).is_empty()
            && let Ok(name) = random::uid()
        {
            meta::metadata_mut(object).insert("name".into(), name.into());
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let (path, limits) = (Path::new("spec.limits"), list(spec, "limits"));
        for (i, limit) in limits.iter().enumerate() {
            let path = path.index(i);
            let kind = text(limit, "type");
            limit_type(&path.child("type"), kind, &mut errors);
            if limits[..i].iter().any(|l| text(l, "type") == kind) {
                errors.push(FieldError::duplicate(path.child("type"), &kind.into()));
            }
            limit_names(&path, limit, kind, &mut errors);
            limit_amounts(&path, limit, kind, &mut errors);
        }
        errors
    }
}

/// Adds to the list of resources at `key` what is at `from` only.
fn fill(item: &mut Value, key: &str, from: &str) {
    let found: Map<String, Value> = item.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
    if found.is_empty() {
        return;
    }
    let target = meta::child(item, key);
    for (resource, quantity) in found {
        target.entry(resource).or_insert(quantity);
    }
}

fn limit_type(path: &Path<'_>, kind: &str, errors: &mut Errors) {
    let before = errors.len();
    name(path, kind, names::qualified_name, errors);
    if errors.len() == before && !kind.contains('/') && !LIMIT_TYPES.contains(&kind) {
        errors.push(FieldError::invalid(path, &kind.into(), "must be a standard limit type or fully qualified"));
    }
}

fn resources<'a>(limit: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    limit.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn limit_names(path: &Path<'_>, limit: &Value, kind: &str, errors: &mut Errors) {
    for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let at = path.child(key);
        if kind == "Pod" && matches!(key, "default" | "defaultRequest") {
            if resources(limit, key).next().is_some() {
                errors.push(FieldError::forbidden(at, "may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for (resource, _) in resources(limit, key) {
            limit_name(&at.key(resource), resource, matches!(kind, "Pod" | "Container"), errors);
        }
    }
    let has_storage = |key: &str| meta::at(limit, &[key, "storage"]).is_some();
    if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(path.child("limits"), why));
    }
}

fn limit_amounts(path: &Path<'_>, limit: &Value, kind: &str, errors: &mut Errors) {
    let mut all: Vec<&String> = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
        .iter()
        .flat_map(|k| resources(limit, k))
        .map(|(r, _)| r)
        .collect();
    all.sort();
    all.dedup();
    for resource in all {
        let get = |key: &str| -> Option<Quantity> {
            let skipped = kind == "Pod" && matches!(key, "default" | "defaultRequest");
            meta::at(limit, &[key, resource]).filter(|_| !skipped).map(read)
        };
        let (min, max) = (get("min"), get("max"));
        let (limit_default, request) = (get("default"), get("defaultRequest"));
        let ratio = get("maxLimitRequestRatio");
        let mut over =
            |field: &str, shown: Quantity, a: Option<Quantity>, a_is: &str, b: Option<Quantity>, b_is: &str| {
                if let (Some(a), Some(b)) = (a, b)
                    && a > b
                {
                    let why = format!("{a_is} value {a} is greater than {b_is} value {b}");
                    let at = path.child(field);
                    errors.push(FieldError::invalid(at.key(resource), &shown.to_string().into(), &why));
                }
            };
        let or = |q: Option<Quantity>| q.unwrap_or(Quantity::ZERO);
        over("min", or(min), min, "min", max, "max");
        over("defaultRequest", or(request), min, "min", request, "default request");
        over("defaultRequest", or(request), request, "default request", max, "max");
        over("defaultRequest", or(request), request, "default request", limit_default, "default limit");
        over("default", or(min), min, "min", limit_default, "default");
        over("default", or(max), limit_default, "default", max, "max");
        if let Some(ratio) = ratio {
            limit_ratio(&path.child("maxLimitRequestRatio").key(resource), ratio, min.zip(max), errors);
        }
        let overcommits = is_native(resource) && !resource.starts_with("hugepages-");
        if let (false, Some(limit_default), Some(request)) = (overcommits, limit_default, request)
            && limit_default != request
        {
            let why =
                format!("default value {limit_default} must equal to defaultRequest value {request} in {resource}");
            let at = path.child("defaultRequest");
            errors.push(FieldError::invalid(at.key(resource), &request.to_string().into(), &why));
        }
    }
}

/// How many times its request a limit may be.
#[allow(clippy::cast_precision_loss, reason = "the bound is shown as a fraction, and upstream computes it as one")]
fn limit_ratio(path: &Path<'_>, ratio: Quantity, bounds: Option<(Quantity, Quantity)>, errors: &mut Errors) {
    let shown = ratio.to_string();
    if ratio < Quantity::whole(1) {
        errors.push(FieldError::invalid(path, &shown.as_str().into(), &format!("ratio {shown} is less than 1")));
    }
    let Some((min, max)) = bounds else { return };
    let most = max.milli_value() as f64 / min.milli_value() as f64;
    if ratio.milli_value() as f64 / 1000.0 > most {
        let why = format!("ratio {shown} is greater than max/min = {most:.6}");
        errors.push(FieldError::invalid(path, &shown.as_str().into(), &why));
    }
}

pub(crate) struct ResourceQuotas;

const PODS: &[&str] = &["pods"];
const COMPUTE: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

impl Strategy for ResourceQuotas {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        amounts(&Path::new("spec.hard"), spec, "hard", &mut errors);
        scopes(spec, &mut errors);
        if let Some(selector) = given(spec, "scopeSelector") {
            scope_selector(spec, selector, &mut errors);
        }
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if writer.subresource == "status" {
            let status = new.get("status").unwrap_or(&Value::Null);
            amounts(&Path::new("status.hard"), status, "hard", &mut errors);
            amounts(&Path::new("status.used"), status, "used", &mut errors);
            return errors;
        }
        errors.extend(self.validate(new));
        let scopes = |o: &Value| -> Vec<String> {
            let mut all: Vec<String> =
                meta::strings(meta::at(o, &["spec", "scopes"])).into_iter().map(str::to_owned).collect();
            all.sort();
            all
        };
        if scopes(new) != scopes(old) {
            let shown = meta::at(new, &["spec", "scopes"]).cloned().unwrap_or_default();
            errors.push(FieldError::invalid("spec.scopes", &shown, rules::IMMUTABLE));
        }
        errors
    }
}

fn amounts(path: &Path<'_>, holder: &Value, key: &str, errors: &mut Errors) {
    for (resource, amount) in resources(holder, key) {
        let at = path.key(resource);
        quota_name(&at, resource, errors);
        quantities::amount(&at, resource, amount, errors);
    }
}

/// Whether a scope says anything about a resource.
fn concerns(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => PODS.contains(&resource),
        "VolumeAttributesClass" => CLAIMS.contains(&resource),
        _ => PODS.contains(&resource) || COMPUTE.contains(&resource),
    }
}

fn misfits(spec: &Value, scope: &str) -> usize {
    let known = |r: &&String| quantities::is_quota_resource(r) && SCOPES.contains(&scope) && !concerns(scope, r);
    resources(spec, "hard").map(|(r, _)| r).filter(known).count()
}

fn scopes(spec: &Value, errors: &mut Errors) {
    let all = meta::strings(spec.get("scopes"));
    let shown = json!(all);
    let mut complain = |why: &str| errors.push(FieldError::invalid("spec.scopes", &shown, why));
    for scope in &all {
        if !SCOPES.contains(scope) {
            complain("unsupported scope");
        }
        for _ in 0..misfits(spec, scope) {
            complain("unsupported scope applied to resource");
        }
    }
    for _ in OPPOSITES.iter().filter(|pair| pair.iter().all(|s| all.contains(s))) {
        complain("conflicting scopes");
    }
}

fn scope_selector(spec: &Value, selector: &Value, errors: &mut Errors) {
    let path = Path::new("spec.scopeSelector.matchExpressions");
    let expressions = list(selector, "matchExpressions");
    for requirement in expressions {
        let (scope, operator) = (text(requirement, "scopeName"), text(requirement, "operator"));
        let values = list(requirement, "values");
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(path.child("scopeName"), &scope.into(), "unsupported scope"));
        }
        for _ in 0..misfits(spec, scope) {
            errors.push(FieldError::invalid(path, selector, "unsupported scope applied to resource"));
        }
        let classes = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !classes && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(path.child("operator"), &operator.into(), why));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(path.child("values"), &json!(values), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(path.child("operator"), &other.into(), why));
            }
        }
    }
    for pair in OPPOSITES {
        if pair.iter().all(|s| expressions.iter().any(|e| text(e, "scopeName") == *s)) {
            let shown = spec.get("scopes").cloned().unwrap_or_default();
            errors.push(FieldError::invalid(path, &shown, "conflicting scopes"));
        }
    }
}
