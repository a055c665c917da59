//! Whether an object is as its schema says, in the words of the validator that Kubernetes has for custom resources.

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use regex_lite::Regex;
use serde_json::{Map, Value};

use super::{Fact, Flags, Kind, List, Pattern, SchemaRef, formats};

/// Where nothing stands before: what complaints about the whole object are about.
const NOWHERE: &str = "<nil>";

/// Complaints about a value. `place` is where it stands in the object, empty for the object itself.
pub(crate) fn check(schema: SchemaRef<'_>, value: &Value, place: &str) -> Vec<FieldError> {
    check_change(schema, value, None, place)
}

/// The same about a change: what is as it was before is let be, even if the schema would not have it today.
pub(crate) fn check_change(schema: SchemaRef<'_>, new: &Value, old: Option<&Value>, place: &str) -> Vec<FieldError> {
    let mut walk = Walk { place, errors: Vec::new() };
    walk.value(schema, new, old, &Path::new(""));
    walk.errors
}

struct Walk<'p> {
    place: &'p str,
    errors: Vec<FieldError>,
}

/// How a number is written in complaints.
fn number(value: f64, of: &Value) -> String {
    if of.is_i64() || of.is_u64() { format!("{}", value.trunc()) } else { format!("{value}") }
}

/// The JSON type of a value, as the validator names it.
fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

impl Walk<'_> {
    /// The field of a complaint.
    fn field(&self, path: &Path<'_>) -> String {
        let path = path.to_string();
        match (self.place, path.as_str()) {
            ("", "") => NOWHERE.into(),
            ("", _) => path,
            (place, "") => place.into(),
            (place, _) => format!("{place}.{path}"),
        }
    }

    fn invalid(&mut self, path: &Path<'_>, value: &Value, rule: &str) {
        let error = FieldError::invalid(self.field(path), value, &format!("{path} in body {rule}"));
        self.errors.push(error);
    }

    /// A complaint about which of several schemas holds.
    fn junction(&mut self, path: &Path<'_>, rule: &str) {
        let field = if self.place.is_empty() { NOWHERE } else { self.place };
        self.errors.push(FieldError::invalid(field, &"".into(), &format!("{:?} {rule}", path.to_string())));
    }

    fn value(&mut self, schema: SchemaRef<'_>, value: &Value, old: Option<&Value>, path: &Path<'_>) {
        if old == Some(value) {
            return;
        }
        if value.is_null() {
            let kind = schema.kind();
            if kind != Kind::Any && !schema.is_nullable() {
                self.wrong_type(path, kind, value);
            }
            for fact in schema.facts() {
                if let Fact::Enum(values) = fact {
                    self.choice(path, value, values);
                }
            }
            return;
        }
        self.kind(schema, value, path);
        for fact in schema.facts() {
            self.fact(schema, fact, value, path);
        }
        match value {
            Value::Object(map) => self.object(schema, map, old, path),
            Value::Array(list) => self.list(schema, list, old, path),
            _ => {}
        }
    }

    fn wrong_type(&mut self, path: &Path<'_>, kind: Kind, value: &Value) {
        let found = found(value);
        let why = format!("{path} in body must be of type {}: {found:?}", kind.words());
        self.errors.push(FieldError::wrong_type(self.field(path), &found.into(), "").because(&why));
    }

    fn kind(&mut self, schema: SchemaRef<'_>, value: &Value, path: &Path<'_>) {
        let kind = schema.kind();
        let fits = match (kind, value) {
            (Kind::Any, _)
            | (Kind::Object, Value::Object(_))
            | (Kind::Array, Value::Array(_))
            | (Kind::Text | Kind::IntOrString, Value::String(_))
            | (Kind::Number, Value::Number(_))
            | (Kind::Boolean, Value::Bool(_)) => true,
            (Kind::Integer | Kind::IntOrString, Value::Number(_)) => is_whole(value),
            _ => false,
        };
        if !fits {
            self.wrong_type(path, kind, value);
        }
    }

    fn fact(&mut self, schema: SchemaRef<'_>, fact: &Fact, value: &Value, path: &Path<'_>) {
        match (fact, value) {
            (Fact::Enum(values), _) => self.choice(path, value, values),
            (Fact::Format(name), Value::String(text)) => {
                let name = schema.str(*name);
                if matches!(schema.kind(), Kind::Text | Kind::Any) && !formats::fits(name, text) {
                    let why = format!("{path} in body must be of type {name}: {text:?}");
                    self.errors.push(FieldError::wrong_type(self.field(path), value, "").because(&why));
                }
            }
            (Fact::Pattern(pattern), Value::String(text)) if !pattern.matches(schema, text) => {
                self.invalid(path, value, &format!("should match '{}'", schema.str(pattern.text)));
            }
            (Fact::MinLength(least), Value::String(text)) if count(text.chars()) < *least => {
                self.invalid(path, value, &format!("should be at least {least} chars long"));
            }
            (Fact::MaxLength(most), Value::String(text)) if count(text.chars()) > *most => {
                let most = usize::try_from(*most).unwrap_or(0);
                self.errors.push(FieldError::too_long(self.field(path), most));
            }
            (Fact::Minimum(..) | Fact::Maximum(..) | Fact::MultipleOf(_), Value::Number(_)) => {
                self.bounds(fact, value, path);
            }
            (Fact::MinItems(least), Value::Array(list)) if count(list.iter()) < *least => {
                self.invalid(path, &list.len().into(), &format!("should have at least {least} items"));
            }
            (Fact::MaxItems(most), Value::Array(list)) if count(list.iter()) > *most => {
                let most = usize::try_from(*most).unwrap_or(0);
                self.errors.push(FieldError::too_many(self.field(path), list.len(), most));
            }
            (Fact::MinProperties(least), Value::Object(map)) if count(map.iter()) < *least => {
                self.invalid(path, &map.len().into(), &format!("should have at least {least} properties"));
            }
            (Fact::MaxProperties(most), Value::Object(map)) if count(map.iter()) > *most => {
                let most = usize::try_from(*most).unwrap_or(0);
                self.errors.push(FieldError::too_many(self.field(path), map.len(), most));
            }
            (Fact::Required(names), Value::Object(map)) => {
                for name in names.iter().map(|n| schema.str(*n)).filter(|n| !map.contains_key(*n)) {
                    self.errors.push(FieldError::required(self.field(&path.child(name)), ""));
                }
            }
            (Fact::AllOf(nodes), _) => {
                let before = self.errors.len();
                let mut valid = 0;
                for node in nodes {
                    let mut found = self.tried(schema.to(*node), value, path);
                    valid += usize::from(found.is_empty());
                    self.errors.append(&mut found);
                }
                if self.errors.len() > before {
                    let more = if valid == 0 { ". None validated" } else { "" };
                    self.junction(path, &format!("must validate all the schemas (allOf){more}"));
                }
            }
            (Fact::AnyOf(nodes), _) => {
                let tried = nodes.iter().map(|node| self.tried(schema.to(*node), value, path));
                let tried: Vec<_> = tried.collect();
                if !tried.iter().any(Vec::is_empty) {
                    self.junction(path, "must validate at least one schema (anyOf)");
                    self.errors.extend(tried.into_iter().next().unwrap_or_default());
                }
            }
            (Fact::OneOf(nodes), _) => {
                let tried = nodes.iter().map(|node| self.tried(schema.to(*node), value, path));
                let tried: Vec<_> = tried.collect();
                match tried.iter().filter(|found| found.is_empty()).count() {
                    1 => {}
                    0 => {
                        self.junction(path, "must validate one and only one schema (oneOf). Found none valid");
                        self.errors.extend(tried.into_iter().next().unwrap_or_default());
                    }
                    many => {
                        let rule =
                            format!("must validate one and only one schema (oneOf). Found {many} valid alternatives");
                        self.junction(path, &rule);
                    }
                }
            }
            (Fact::Not(node), _) if self.tried(schema.to(*node), value, path).is_empty() => {
                self.junction(path, "must not validate the schema (not)");
            }
            _ => {}
        }
    }

    /// What one of several schemas says.
    fn tried(&self, schema: SchemaRef<'_>, value: &Value, path: &Path<'_>) -> Vec<FieldError> {
        let mut walk = Walk { place: self.place, errors: Vec::new() };
        walk.value(schema, value, None, path);
        walk.errors
    }

    fn choice(&mut self, path: &Path<'_>, value: &Value, values: &[Value]) {
        let same = |a: &Value, b: &Value| match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            _ => a == b,
        };
        if values.iter().any(|v| same(v, value)) {
            return;
        }
        let words: Vec<String> = values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), Into::into)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.errors.push(FieldError::not_supported(self.field(path), value, &words));
    }

    fn bounds(&mut self, fact: &Fact, value: &Value, path: &Path<'_>) {
        let n = value.as_f64().unwrap_or_default();
        let rule = match fact {
            Fact::Minimum(least, false) if n < *least => {
                format!("should be greater than or equal to {}", number(*least, value))
            }
            Fact::Minimum(least, true) if n <= *least => format!("should be greater than {}", number(*least, value)),
            Fact::Maximum(most, false) if n > *most => {
                format!("should be less than or equal to {}", number(*most, value))
            }
            Fact::Maximum(most, true) if n >= *most => format!("should be less than {}", number(*most, value)),
            Fact::MultipleOf(of) if *of > 0.0 && (n / of).fract() != 0.0 => {
                format!("should be a multiple of {of}")
            }
            _ => return,
        };
        self.invalid(path, value, &rule);
    }

    fn object(&mut self, schema: SchemaRef<'_>, map: &Map<String, Value>, old: Option<&Value>, path: &Path<'_>) {
        // What has one owner is looked at as a whole.
        let old = old.filter(|_| !schema.is_atomic());
        let closed = schema.has(Flags::CLOSED);
        for (key, value) in map {
            match schema.field_schema(key) {
                Some(inner) => self.value(inner, value, old.and_then(|o| o.get(key)), &path.child(key)),
                None if closed => {
                    let why = format!("{path}.{key} in body is a forbidden property");
                    let error = FieldError::invalid(self.field(path), &key.as_str().into(), &why);
                    self.errors.push(error);
                }
                None => {}
            }
        }
    }

    fn list(&mut self, schema: SchemaRef<'_>, list: &[Value], old: Option<&Value>, path: &Path<'_>) {
        let Some(items) = schema.items() else { return };
        let old = old.and_then(Value::as_array).filter(|_| schema.list() == List::Map);
        for (at, value) in list.iter().enumerate() {
            let before = old.and_then(|old| old.iter().find(|o| same_keys(schema, o, value)));
            self.value(items, value, before, &path.index(at));
        }
    }
}

/// True if two elements of a list that is a map are the same one in two states.
pub(crate) fn same_keys(schema: SchemaRef<'_>, a: &Value, b: &Value) -> bool {
    let of = |value: &Value, key: &str| -> Option<Value> {
        let default = || schema.items().and_then(|i| i.property(key)).and_then(|p| p.default().cloned());
        value.get(key).cloned().or_else(default)
    };
    schema.keys().all(|key| of(a, key) == of(b, key))
}

fn count(items: impl Iterator) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

impl Pattern {
    fn matches(&self, schema: SchemaRef<'_>, text: &str) -> bool {
        let regex = self.compiled.get_or_init(|| Regex::new(schema.str(self.text)).ok());
        // A pattern that this engine can't read is one that was let through for its classes of letters.
        regex.as_ref().is_none_or(|r| r.is_match(text))
    }
}
