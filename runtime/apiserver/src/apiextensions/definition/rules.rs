//! Expressions in CEL within a definition's schemas: they must compile, and cost no more than is let.

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use serde_json::{Value, json};

use crate::apiextensions::rules::{compile, compile_message, type_of};
use crate::apiextensions::schema::{Kind, List, Schema, SchemaRef};
use crate::registry::rules::Errors;

/// The most that one expression may cost on the largest object.
const PER_EXPRESSION: u64 = 10_000_000;
/// The most that all expressions of a schema may cost.
const PER_SCHEMA: u64 = 100_000_000;
/// Bytes of the largest request.
const LARGEST: u64 = kiln_cel::LARGEST_REQUEST;

/// Complaints about expressions.
pub(super) fn check(path: &Path<'_>, schema: &Value, errors: &mut Errors) {
    let schema = Schema::read(schema);
    if !schema.root().has_rules() {
        return;
    }
    let mut walk = Walk { total: 0, dearest: Vec::new(), errors };
    walk.node(path, schema.root(), 1, true, None);
    let (total, dearest) = (walk.total, walk.dearest);
    if total > PER_SCHEMA {
        for field in dearest {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(field, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, &too_dear(what, total, PER_SCHEMA)));
    }
}

fn too_dear(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

struct Walk<'e> {
    total: u64,
    /// The fields that cost the most.
    dearest: Vec<String>,
    errors: &'e mut Errors,
}

impl Walk<'_> {
    /// `times` is how often the value may be there; `apart` is where values of two states can't be told to belong together.
    fn node(&mut self, path: &Path<'_>, schema: SchemaRef<'_>, times: u64, whole: bool, apart: Option<&str>) {
        if !schema.has_rules() {
            return;
        }
        if let Some(rules) = schema.rules() {
            let ty = type_of(schema, whole, "object");
            let at = path.child("x-kubernetes-validations");
            for (i, rule) in rules.sources.iter().enumerate() {
                self.rule(&at.index(i), &ty, rule, times, apart);
            }
        }
        let more = |each: u64| times.saturating_mul(schema.most().unwrap_or(LARGEST / each.max(1)));
        let here = path.to_string();
        match schema.kind() {
            Kind::Array => {
                if let Some(items) = schema.items() {
                    let apart = apart.or((schema.list() != List::Map).then_some(here.as_str()));
                    self.node(&path.child("items"), items, more(3), false, apart);
                }
            }
            _ => {
                let apart = apart.or(schema.is_atomic().then_some(here.as_str()));
                let properties = path.child("properties");
                for (name, property) in schema.properties() {
                    self.node(&properties.key(name), property, times, false, apart);
                }
                if let Some(other) = schema.additional() {
                    self.node(&path.child("additionalProperties"), other, more(8), false, apart);
                }
            }
        }
    }

    fn rule(&mut self, path: &Path<'_>, ty: &kiln_cel::Type, rule: &Value, times: u64, apart: Option<&str>) {
        let at = path.child("rule");
        let source = rule.get("rule").and_then(Value::as_str).unwrap_or_default();
        match compile(ty, rule) {
            Err(why) => self.errors.push(FieldError::invalid(at, &json!(rule), &why)),
            Ok(program) => {
                self.cost(&at, "estimated rule cost", program.cost().saturating_mul(times));
                let transition = program.uses("oldSelf");
                if let (true, Some(apart)) = (transition, apart) {
                    let why =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {apart}");
                    self.errors.push(FieldError::invalid(at, &source.into(), &why));
                }
                if let (false, Some(found)) = (transition, rule.get("optionalOldSelf")) {
                    let why = "may not be set if oldSelf is not used in rule";
                    self.errors.push(FieldError::invalid(path.child("optionalOldSelf"), found, why));
                }
            }
        }
        let at = path.child("messageExpression");
        match compile_message(ty, rule) {
            None => {}
            Some(Err(why)) => self.errors.push(FieldError::invalid(at, &json!(rule), &why)),
            Some(Ok(program)) => {
                self.cost(&at, "estimated messageExpression cost", program.cost().saturating_mul(times));
            }
        }
    }

    fn cost(&mut self, path: &Path<'_>, what: &str, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost > PER_EXPRESSION {
            self.errors.push(FieldError::forbidden(path, &too_dear(what, cost, PER_EXPRESSION)));
        }
        if cost > PER_SCHEMA / 20 && self.dearest.len() < 4 {
            self.dearest.push(path.to_string());
        }
    }
}

/// True if a rule's `fieldPath` leads to a field below the schema that has the rule.
pub(super) fn leads(schema: &Value, path: &str) -> bool {
    let (mut at, mut rest) = (schema, path);
    while !rest.is_empty() {
        let name;
        if let Some((quoted, after)) = rest.strip_prefix("['").and_then(|r| r.split_once("']")) {
            (name, rest) = (quoted, after);
        } else {
            let Some(after) = rest.strip_prefix('.') else { return false };
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (name, rest) = (&after[..end], &after[end..]);
        }
        match at.get("properties").and_then(|p| p.get(name)).or_else(|| at.get("additionalProperties")) {
            Some(found) => at = found,
            None => return false,
        }
    }
    !path.is_empty()
}
