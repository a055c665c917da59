//! Values held against a chart's `values.schema.json`, as Helm does before it renders anything.
//!
//! What JSON Schema's draft 7 has is here, and of later drafts what charts use (`$defs`, `prefixItems`, `dependentRequired`,
//! `dependentSchemas`). `format` counts in drafts before 2019 alone, and a schema that names no draft is of the latest. What is not
//! here: `content...` and `unevaluated...` say nothing, and nothing is fetched, so that a `$ref` to another document lets
//! everything pass. In flow a schema and values, out flow faults.

mod fault;
mod formats;
mod keywords;

use serde_json::{Map, Value};

use self::fault::Fault;
use crate::ChartError;
use crate::chart::Chart;

/// How many schemas one value may lead through, each by reference to the next.
const REFERENCES: usize = 64;
/// How many schemas are applied in all, so that a malicious chart comes to an end.
const STEPS: usize = 5_000_000;

/// Holds the values of a chart and of those in it against their schemas.
///
/// # Errors
/// When they do not fit, or a schema is none.
pub(crate) fn check(chart: &Chart, values: &Map<String, Value>) -> Result<(), ChartError> {
    let told = faults(chart, values).map_err(ChartError::Values)?;
    if told.is_empty() {
        return Ok(());
    }
    let what = "values don't meet the specifications of the schema(s) in the following chart(s):";
    Err(ChartError::Values(format!("{what}\n{told}")))
}

fn faults(chart: &Chart, values: &Map<String, Value>) -> Result<String, String> {
    let mut told = String::new();
    if let Some(text) = &chart.schema {
        let wrong = |what: String| format!("{}: values.schema.json: {what}", chart.name);
        let schema: Value = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        if let Some(fault) = validate(&schema, &Value::Object(values.clone())).map_err(wrong)? {
            told = format!("{}:\n{}", chart.name, fault.lines());
        }
    }
    for child in &chart.children {
        if let Some(Value::Object(values)) = values.get(&child.name) {
            told.push_str(&faults(child, values)?);
        }
    }
    Ok(told)
}

/// What is wrong with a value.
///
/// # Errors
/// When the schema cannot be used.
fn validate(schema: &Value, value: &Value) -> Result<Option<Fault>, String> {
    let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let mut walk = Walk {
        root: schema,
        is_before_2019: ["draft-04", "draft-06", "draft-07"].iter().any(|draft| dialect.contains(draft)),
        steps: STEPS,
    };
    walk.apply(schema, value, "", 0)
}

/// A schema at work.
struct Walk<'a> {
    root: &'a Value,
    /// Nothing beside a `$ref` counts, and formats do.
    is_before_2019: bool,
    /// What is left of them.
    steps: usize,
}

/// What is wrong, or that the schema cannot be used.
type Found = Result<Option<Fault>, String>;

impl<'a> Walk<'a> {
    /// Applies a schema to the value at a place. `references` have led here, one after the other.
    fn apply(&mut self, schema: &'a Value, value: &Value, at: &str, references: usize) -> Found {
        self.steps = self.steps.checked_sub(1).ok_or("it takes too long to apply")?;
        match schema {
            Value::Bool(true) => Ok(None),
            Value::Bool(false) => Ok(Some(keywords::fault(at, "false schema".to_owned(), Vec::new()))),
            Value::Object(schema) => self.keywords(schema, value, at, references),
            other => Err(format!("got {}, want boolean or object", keywords::type_of(other))),
        }
    }

    /// The faults of a value by a schema's references.
    fn reference(&mut self, schema: &'a Map<String, Value>, value: &Value, at: &str, references: usize) -> Found {
        let Some(to) = schema.get("$ref").and_then(Value::as_str) else { return Ok(None) };
        let Some(pointer) = to.strip_prefix('#') else { return Ok(None) };
        if references >= REFERENCES {
            return Err(format!("{to:?} leads back to itself"));
        }
        let target = self.root.pointer(&unescaped(pointer)).ok_or_else(|| format!("there is no {to:?}"))?;
        Ok(self.apply(target, value, at, references + 1)?.map(|fault| Fault::referenced(at, fault)))
    }
}

/// A URL's fragment without its percent signs.
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use serde_json::json;

    use super::*;

    fn told(schema: Value, value: Value) -> String {
        validate(&schema, &value).unwrap().map(Fault::lines).unwrap_or_default()
    }

    #[test]
    fn each_keyword_has_its_words() {
        let rows = [
            (json!({"type": "string"}), json!(3), "got number, want string"),
            (json!({"type": ["integer", "null"]}), json!(1.5), "got number, want null or integer"),
            (json!({"enum": ["a", 1, null]}), json!("c"), "value must be one of 'a', 1, <nil>"),
            (json!({"const": "it's \"x\""}), json!(0), "value must be 'it\\'s \"x\"'"),
            (json!({"const": []}), json!(0), "const failed"),
            (json!({"minimum": 0}), json!(-5), "minimum: got -5, want 0"),
            (json!({"maximum": 65535}), json!(70000), "maximum: got 70,000, want 65,535"),
            (json!({"exclusiveMinimum": 0.5}), json!(0.5), "exclusiveMinimum: got 0.5, want 0.5"),
            (json!({"minimum": 1, "exclusiveMinimum": true}), json!(1), "exclusiveMinimum: got 1, want 1"),
            (json!({"multipleOf": 0.25}), json!(0.3), "multipleOf: got 0.3, want 0.25"),
            (json!({"minLength": 2}), json!("ü"), "minLength: got 1, want 2"),
            (json!({"maxLength": 1}), json!("ab"), "maxLength: got 2, want 1"),
            (json!({"pattern": "^a+$"}), json!("b"), "'b' does not match pattern '^a+$'"),
            (json!({"required": ["a"]}), json!({}), "missing property 'a'"),
            (json!({"required": ["a", "b"]}), json!({}), "missing properties 'a', 'b'"),
            (json!({"minProperties": 1}), json!({}), "minProperties: got 0, want 1"),
            (
                json!({"additionalProperties": false}),
                json!({"x": 1, "y": 2}),
                "additional properties 'x', 'y' not allowed",
            ),
            (json!({"dependencies": {"a": ["b"]}}), json!({"a": 1}), "properties 'b' required, if 'a' exists"),
            (json!({"minItems": 1}), json!([]), "minItems: got 0, want 1"),
            (json!({"uniqueItems": true}), json!([1, 2, 1.0]), "items at 0 and 2 are equal"),
            (
                json!({"items": [{}], "additionalItems": false}),
                json!([1, 2, 3]),
                "last 2 additionalItem(s) not allowed",
            ),
            (json!({"not": {"type": "object"}}), json!({}), "not failed"),
            (json!({"oneOf": [true, {"type": "object"}]}), json!({}), "oneOf failed, subschemas 0, 1 matched"),
            (json!(false), json!(1), "false schema"),
        ];
        for (schema, value, expected) in rows {
            assert_eq!(told(schema.clone(), value), format!("- at '': {expected}\n"), "{schema}");
        }
    }

    #[test]
    fn what_led_to_a_fault_stands_below_it() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {
                "image": {"type": "object", "required": ["tag"], "properties": {"pull": {"enum": ["Always"]}}},
                "a b": {"type": "string"},
            },
            "properties": {
                "image": {"$ref": "#/definitions/image", "maxProperties": 0},
                "name": {"$ref": "#/definitions/a%20b"},
                "port": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]},
                "list": {"contains": {"type": "string"}},
                "far": {"$ref": "https://example.org/else.json"},
            },
            "propertyNames": {"maxLength": 5},
            "if": {"required": ["far"]}, "then": {"required": ["near"]}, "else": false,
        });
        let value = json!({"image": {"pull": "x"}, "name": 1, "port": "x", "list": [1], "far": 1});
        assert_eq!(
            told(schema, value),
            "- at '/image': validation failed\n  - at '/image': missing property 'tag'\n  - at '/image/pull': value must be 'Always'\n\
             - at '/list': no items match contains schema\n  - at '/list/0': got number, want string\n\
             - at '/name': got number, want string\n\
             - at '/port': anyOf failed\n  - at '/port': got string, want integer\n  - at '/port': 'x' does not match pattern '^[0-9]+$'\n\
             - at '': missing property 'near'\n"
        );
    }

    #[test]
    fn formats_count_in_old_drafts_alone() {
        let schema = |draft: &str| json!({"$schema": draft, "format": "email", "maxLength": 1});
        let old = "http://json-schema.org/draft-07/schema#";
        assert_eq!(told(schema(old), json!("x y")), "- at '': 'x y' is not valid email: missing @\n");
        assert_eq!(told(schema(old), json!(17)), "");
        let new = "https://json-schema.org/draft/2020-12/schema";
        assert_eq!(told(schema(new), json!("x y")), "- at '': maxLength: got 3, want 1\n");
    }

    #[test]
    fn a_schema_that_is_none_is_told() {
        let cases = [
            (json!([1]), "got array, want boolean or object"),
            (json!({"$ref": "#/nowhere"}), "there is no \"#/nowhere\""),
            (json!({"$ref": "#"}), "\"#\" leads back to itself"),
            (json!({"pattern": "("}), "\"(\" is no pattern"),
        ];
        for (schema, expected) in cases {
            let error = validate(&schema, &json!("x")).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn charts_in_charts_are_named() {
        let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let chart = Chart::from_files(vec![
            file("Chart.yaml", "name: top\nversion: 1.0.0\n"),
            file("values.schema.json", "{\"properties\": {\"replicas\": {\"type\": \"integer\"}}}"),
            file("charts/sub/Chart.yaml", "name: sub\nversion: 1.0.0\n"),
            file("charts/sub/values.schema.json", "{\"required\": [\"age\"]}"),
        ])
        .unwrap();
        let values = json!({"replicas": "two", "sub": {}});
        let error = check(&chart, values.as_object().unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "values don't meet the specifications of the schema(s) in the following chart(s):\ntop:\n\
             - at '/replicas': got string, want integer\nsub:\n- at '': missing property 'age'\n"
        );
    }
}
