//! Rules in CEL within schemas: what they may say of values, compiled once and asked of each object.

use std::sync::Arc;

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use kiln_cel::{BUDGET, EvalError, Field, LARGEST_REQUEST, ObjectType, Program, Size, Type, Value as Cel};
use serde_json::Value;

use super::schema::{Kind, List, RuleSet, SchemaRef, same_keys};

/// The rules of a node, ready to be asked.
#[derive(Debug)]
pub(crate) struct Compiled {
    ty: Type,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    text: String,
    program: Result<Program, String>,
    message: String,
    message_expression: Option<Program>,
    reason: String,
    /// What the rule is about, below the node.
    field: String,
    transition: bool,
    optional_old: bool,
}

/// Bytes that a value takes in JSON at least.
fn least(schema: SchemaRef<'_>) -> u64 {
    match schema.kind() {
        Kind::Object => {
            let required = schema.properties().filter(|(name, p)| schema.requires(name) && p.default().is_none());
            required.fold(2, |sum, (name, p)| sum + name.len() as u64 + 4 + least(p))
        }
        Kind::Boolean => 4,
        Kind::Array | Kind::Text => 2,
        _ => 1,
    }
}

/// The most elements that a request has room for, each with its comma.
fn room(each: u64) -> u64 {
    LARGEST_REQUEST.saturating_sub(2) / (each + 1).max(1)
}

/// The type of a schema's values.
pub(crate) fn type_of(schema: SchemaRef<'_>, whole: bool, name: &str) -> Type {
    let size = |natural: u64| Size(schema.most().unwrap_or(natural));
    match schema.kind() {
        Kind::Any | Kind::IntOrString => Type::Dyn,
        Kind::Boolean => Type::Bool,
        Kind::Integer => Type::Int,
        Kind::Number => Type::Double,
        Kind::Text => match schema.format() {
            "date" | "date-time" => Type::Time,
            "duration" => Type::Duration,
            "byte" => Type::Bytes(size(LARGEST_REQUEST - 2)),
            _ => Type::Text(size(LARGEST_REQUEST - 2)),
        },
        Kind::Array => {
            let of = schema.items();
            let natural = room(of.map_or(1, least));
            let inner = of.map_or(Type::Dyn, |of| type_of(of, false, &format!("{name}.@idx")));
            Type::List(Arc::new(inner), size(natural))
        }
        Kind::Object => {
            if let Some(of) = schema.additional() {
                // The reference counts keys as if they were empty, and charts and operators rely on what that lets through.
                let key = Type::Text(Size(0));
                let inner = type_of(of, false, &format!("{name}.@elem"));
                return Type::Map(Arc::new((key, inner)), size(room(least(of) + 5)));
            }
            let mut fields = Vec::new();
            for (field, property) in schema.properties() {
                if !(whole || schema.is_embedded()) || !matches!(field, "metadata" | "kind" | "apiVersion") {
                    fields.push(Field::new(field, type_of(property, false, &format!("{name}.{field}"))));
                }
            }
            if whole || schema.is_embedded() {
                let text = || Type::Text(Size(LARGEST_REQUEST - 2));
                let named =
                    vec![Field::new("name", Type::Text(Size(253))), Field::new("generateName", Type::Text(Size(253)))];
                fields.push(Field::new("apiVersion", text()));
                fields.push(Field::new("kind", text()));
                let metadata = ObjectType::new(&format!("{name}.metadata"), named);
                fields.push(Field::new("metadata", Type::Object(Arc::new(metadata))));
            }
            Type::Object(Arc::new(ObjectType::new(name, fields)))
        }
    }
}

fn text<'v>(rule: &'v Value, key: &str) -> &'v str {
    rule.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The variables of a rule: `oldSelf` may be one that is absent.
fn variables(ty: &Type, rule: &Value) -> [(&'static str, Type); 2] {
    let old = match rule.get("optionalOldSelf") {
        Some(Value::Bool(true)) => Type::Optional(Arc::new(ty.clone())),
        _ => ty.clone(),
    };
    [("self", ty.clone()), ("oldSelf", old)]
}

/// What a rule of a schema is when it is compiled; the error is a sentence.
pub(crate) fn compile(ty: &Type, rule: &Value) -> Result<Program, String> {
    let program = Program::compile(text(rule, "rule"), &variables(ty, rule));
    let program = program.map_err(|why| format!("compilation failed: {why}"))?;
    match program.result() {
        Type::Bool | Type::Dyn => Ok(program),
        _ => Err("must evaluate to a bool".into()),
    }
}

/// The same of its `messageExpression`, if it has one.
pub(crate) fn compile_message(ty: &Type, rule: &Value) -> Option<Result<Program, String>> {
    let source = text(rule, "messageExpression").trim();
    if source.is_empty() {
        return None;
    }
    let compiled = Program::compile(source, &variables(ty, rule));
    Some(compiled.map_err(|why| format!("messageExpression compilation failed: {why}")).and_then(|program| {
        match program.result() {
            Type::Text(_) => Ok(program),
            _ => Err("messageExpression must evaluate to a string".into()),
        }
    }))
}

fn ready(schema: SchemaRef<'_>, whole: bool, rules: &RuleSet) -> Compiled {
    let ty = type_of(schema, whole, "object");
    let rules = rules.sources.iter().map(|source| {
        let program = compile(&ty, source);
        let field = field_of(text(source, "fieldPath"));
        Rule {
            text: text(source, "rule").to_owned(),
            transition: program.as_ref().is_ok_and(|p| p.uses("oldSelf")),
            program,
            message: text(source, "message").trim().to_owned(),
            message_expression: compile_message(&ty, source).and_then(Result::ok),
            reason: text(source, "reason").to_owned(),
            field,
            optional_old: source.get("optionalOldSelf") == Some(&Value::Bool(true)),
        }
    });
    let rules = rules.collect();
    Compiled { ty, rules }
}

/// A rule's `fieldPath` as complaints write it.
fn field_of(path: &str) -> String {
    path.trim().trim_start_matches('.').replace("['", ".").replace("']", "").trim_start_matches('.').to_owned()
}

/// Complaints of the rules in a whole object's schema.
pub(crate) fn check(root: SchemaRef<'_>, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk { errors: Vec::new(), budget: BUDGET, updates: old.is_some() };
    walk.value(root, new, old, &Path::new(""), (true, false));
    walk.errors
}

struct Walk {
    errors: Vec<FieldError>,
    budget: u64,
    updates: bool,
}

impl Walk {
    /// `stays` is true of what is part of something that is as it was.
    fn value(
        &mut self,
        schema: SchemaRef<'_>,
        new: &Value,
        old: Option<&Value>,
        path: &Path<'_>,
        (whole, stays): (bool, bool),
    ) {
        if !schema.has_rules() || self.budget == 0 {
            return;
        }
        let stays = stays || old == Some(new);
        if let Some(rules) = schema.rules().filter(|_| !new.is_null()) {
            let compiled = rules.compiled.get_or_init(|| ready(schema, whole, rules));
            for rule in &compiled.rules {
                self.rule(schema, compiled, rule, (new, old), path, stays);
            }
        }
        match new {
            Value::Object(map) => {
                let old = old.filter(|_| !schema.is_atomic());
                for (key, value) in map {
                    let before = old.and_then(|o| o.get(key));
                    if let Some(property) = schema.property(key) {
                        self.value(property, value, before, &path.child(key), (false, stays));
                    } else if let Some(other) = schema.additional() {
                        self.value(other, value, before, &path.key(key), (false, stays));
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = schema.items() else { return };
                let old = old.and_then(Value::as_array).filter(|_| schema.list() == List::Map);
                for (at, value) in list.iter().enumerate() {
                    let before = old.and_then(|old| old.iter().find(|o| same_keys(schema, o, value)));
                    self.value(items, value, before, &path.index(at), (false, stays));
                }
            }
            _ => {}
        }
    }

    fn rule(
        &mut self,
        schema: SchemaRef<'_>,
        compiled: &Compiled,
        rule: &Rule,
        (new, old): (&Value, Option<&Value>),
        path: &Path<'_>,
        stays: bool,
    ) {
        let kind = schema.kind().words();
        let mut complain = |why: String| {
            self.errors.push(FieldError::invalid(shown(path, ""), &kind.into(), &why));
        };
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => return complain(format!("rule compile error: {why}")),
        };
        let old = old.filter(|_| self.updates).map(|old| Cel::of(old, Some(&compiled.ty)));
        let old = match (rule.transition, rule.optional_old, old) {
            (false, ..) => Cel::Null,
            (true, true, old) => Cel::Optional(old.map(Arc::new)),
            (true, false, Some(old)) => old,
            // There is nothing to compare with.
            (true, false, None) => return,
        };
        let variables = [("self", Cel::of(new, Some(&compiled.ty))), ("oldSelf", old)];
        let told = match rule.message.as_str() {
            "" => rule.text.trim().to_owned(),
            message => message.to_owned(),
        };
        match program.run(&variables, None, &mut self.budget) {
            Ok(Cel::Bool(true)) => return,
            Ok(_) => {}
            Err(EvalError::TooCostly) => {
                self.budget = 0;
                return complain(format!(
                    "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {told}",
                    EvalError::TooCostly
                ));
            }
            Err(EvalError::Failed(why)) if why.starts_with("no such overload") => {
                return complain(format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {told}"
                ));
            }
            Err(why) => return complain(format!("{why} evaluating rule: {told}")),
        }
        if self.budget == 0 {
            return complain(
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            );
        }
        // What stays as it is need not please rules that are newer, but for those that ask for a change. Yet a rule that can't
        // be evaluated refuses it as anything else.
        if stays && !rule.transition {
            return;
        }
        let message = rule.message_expression.as_ref().and_then(|program| {
            let said = program.run(&variables, None, &mut self.budget).ok()?;
            let text = said.as_text().map(str::trim).filter(|t| !t.is_empty() && !t.contains(['\n', '\r']))?;
            Some(text.to_owned())
        });
        let detail = message.unwrap_or(match rule.message.as_str() {
            "" => format!("failed rule: {}", rule.text.trim()),
            message => message.to_owned(),
        });
        let field = shown(path, &rule.field);
        let value = if new.is_object() || new.is_array() { None } else { Some(new) };
        self.errors.push(match (rule.reason.as_str(), value) {
            ("FieldValueForbidden", _) => FieldError::forbidden(field, &detail),
            ("FieldValueRequired", _) => FieldError::required(field, &detail),
            ("FieldValueDuplicate", value) => {
                FieldError::duplicate(field, value.unwrap_or(&Value::Null)).because(&detail)
            }
            (_, Some(value)) => FieldError::invalid(field, value, &detail),
            (_, None) => FieldError::invalid_unshown(field, &detail),
        });
    }
}

/// A path with a field below it.
fn shown(path: &Path<'_>, field: &str) -> String {
    match (path.to_string(), field) {
        (path, "") if path.is_empty() => "<nil>".into(),
        (path, "") => path,
        (path, field) if path.is_empty() => field.into(),
        (path, field) => format!("{path}.{field}"),
    }
}
