//! The keywords of a schema, in the order of Helm's validator.

use regex_lite::Regex;
use serde_json::{Map, Number, Value};

use super::fault::{Fault, Rank, all_quoted, number, quoted, shown};
use super::{Found, Walk, formats};

/// The names of types, in the order that they are told in.
const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// Limits of counts, as keywords, and whether they are the most.
const LIMITS: [(&str, bool); 6] = [
    ("minProperties", false),
    ("maxProperties", true),
    ("minItems", false),
    ("maxItems", true),
    ("minLength", false),
    ("maxLength", true),
];

/// A schema's members.
type Schema = Map<String, Value>;

pub(super) fn fault(at: &str, what: String, causes: Vec<Fault>) -> Fault {
    Fault { rank: Rank::Own, at: at.to_owned(), what, causes }
}

/// The type of a value; numbers are not told apart.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether two values are the same; 1 and 1.0 are.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| is_same(one, other)))
        }
        (one, other) => one == other,
    }
}

fn list<'a>(schema: &'a Schema, keyword: &str) -> &'a [Value] {
    schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn map<'a>(schema: &'a Schema, keyword: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    schema.get(keyword).and_then(Value::as_object).into_iter().flatten()
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("{pattern:?} is no pattern: {error}"))
}

/// A JSON pointer one step on.
fn below(at: &str, step: &str) -> String {
    format!("{at}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// Those of some names that a map has not.
fn missing<'a>(value: &Map<String, Value>, names: &'a [Value]) -> Vec<&'a str> {
    names.iter().filter_map(Value::as_str).filter(|name| !value.contains_key(*name)).collect()
}

impl<'a> Walk<'a> {
    /// Applies all keywords of a schema.
    pub(super) fn keywords(&mut self, schema: &'a Schema, value: &Value, at: &str, references: usize) -> Found {
        if self.is_before_2019 && schema.contains_key("$ref") {
            return self.reference(schema, value, at, references);
        }
        if let Some(what) = first(schema, value) {
            return Ok(Some(fault(at, what, Vec::new())));
        }
        if self.is_before_2019
            && let (Some(format), Value::String(text)) = (schema.get("format").and_then(Value::as_str), value)
            && let Some(why) = formats::fault(format, text)
        {
            let what = format!("{} is not valid {format}: {why}", quoted(text));
            return Ok(Some(fault(at, what, Vec::new())));
        }
        let mut faults: Vec<Fault> = self.reference(schema, value, at, references)?.into_iter().collect();
        counts(schema, value, at, &mut faults);
        match value {
            Value::Object(value) => self.object(schema, value, at, &mut faults)?,
            Value::Array(value) => self.array(schema, value, at, &mut faults)?,
            Value::String(text) => {
                if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                    && !regex(pattern)?.is_match(text)
                {
                    let what = format!("{} does not match pattern {}", quoted(text), quoted(pattern));
                    faults.push(fault(at, what, Vec::new()));
                }
            }
            Value::Number(value) => numbers(schema, value, at, &mut faults),
            Value::Null | Value::Bool(_) => {}
        }
        self.combined(schema, value, at, references, &mut faults)?;
        Ok(Fault::of(at, faults))
    }

    /// What other schemas say of the same value.
    fn combined(
        &mut self,
        schema: &'a Schema,
        value: &Value,
        at: &str,
        references: usize,
        faults: &mut Vec<Fault>,
    ) -> Result<(), String> {
        if let Some(not) = schema.get("not")
            && self.apply(not, value, at, references)?.is_none()
        {
            faults.push(fault(at, "not failed".to_owned(), Vec::new()));
        }
        for (keyword, least) in [("allOf", usize::MAX), ("anyOf", 1), ("oneOf", 1)] {
            let all = list(schema, keyword);
            let (mut causes, mut fit) = (Vec::new(), Vec::new());
            for (index, schema) in all.iter().enumerate() {
                match self.apply(schema, value, at, references)? {
                    Some(cause) => causes.push(cause),
                    None => fit.push(index),
                }
            }
            match fit.as_slice() {
                [one, other, ..] if keyword == "oneOf" => {
                    let what = format!("oneOf failed, subschemas {one}, {other} matched");
                    faults.push(fault(at, what, Vec::new()));
                }
                fit if fit.len() < least.min(all.len()) => {
                    let none = if keyword == "oneOf" { ", none matched" } else { "" };
                    faults.push(fault(at, format!("{keyword} failed{none}"), causes));
                }
                _ => {}
            }
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.apply(condition, value, at, references)?.is_none() { "then" } else { "else" };
            if let Some(schema) = schema.get(branch) {
                faults.extend(self.apply(schema, value, at, references)?);
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        schema: &'a Schema,
        value: &Map<String, Value>,
        at: &str,
        faults: &mut Vec<Fault>,
    ) -> Result<(), String> {
        let whole = || Value::Object(value.clone());
        match missing(value, list(schema, "required")).as_slice() {
            [] => {}
            [name] => faults.push(fault(at, format!("missing property {}", quoted(name)), Vec::new())),
            names => {
                let what = format!("missing properties {}", all_quoted(names.iter().copied()));
                faults.push(fault(at, what, Vec::new()));
            }
        }
        for keyword in ["dependencies", "dependentSchemas", "dependentRequired"] {
            for (name, needs) in map(schema, keyword).filter(|(name, _)| value.contains_key(*name)) {
                let Some(names) = needs.as_array() else {
                    faults.extend(self.apply(needs, &whole(), at, 0)?);
                    continue;
                };
                let names = missing(value, names);
                if !names.is_empty() {
                    let what = format!("properties {} required, if {} exists", all_quoted(names), quoted(name));
                    faults.push(fault(at, what, Vec::new()));
                }
            }
        }
        let patterns = map(schema, "patternProperties").map(|(text, schema)| Ok((regex(text)?, schema)));
        let patterns: Vec<(Regex, &'a Value)> = patterns.collect::<Result<_, String>>()?;
        let mut additional = Vec::new();
        for (name, value) in value {
            let at = below(at, name);
            let own = schema.get("properties").and_then(|properties| properties.get(name));
            let matching = patterns.iter().filter(|(pattern, _)| pattern.is_match(name)).map(|(_, schema)| *schema);
            let schemas: Vec<&'a Value> = own.into_iter().chain(matching).collect();
            for schema in schemas.iter().copied() {
                faults.extend(self.apply(schema, value, &at, 0)?);
            }
            match schema.get("additionalProperties").filter(|_| schemas.is_empty()) {
                Some(Value::Bool(false)) => additional.push(name.as_str()),
                Some(schema) => faults.extend(self.apply(schema, value, &at, 0)?),
                None => {}
            }
        }
        if !additional.is_empty() {
            let what = format!("additional properties {} not allowed", all_quoted(additional));
            faults.push(fault(at, what, Vec::new()));
        }
        if let Some(names) = schema.get("propertyNames") {
            for name in value.keys() {
                // Told at the name itself, as a document of its own.
                if let Some(cause) = self.apply(names, &Value::from(name.as_str()), "", 0)? {
                    let causes = if cause.rank == Rank::Group { cause.causes } else { vec![cause] };
                    faults.push(fault("", format!("invalid propertyName {}", quoted(name)), causes));
                }
            }
        }
        Ok(())
    }

    fn array(&mut self, schema: &'a Schema, value: &[Value], at: &str, faults: &mut Vec<Fault>) -> Result<(), String> {
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            let pairs = (1..value.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
            if let Some((i, j)) = pairs.into_iter().find(|(i, j)| is_same(&value[*i], &value[*j])) {
                faults.push(fault(at, format!("items at {i} and {j} are equal"), Vec::new()));
            }
        }
        let place = |index: usize| below(at, &index.to_string());
        // A list of schemas is for the first items, and what comes behind them has a keyword of its own.
        let (first, rest) = match (schema.get("prefixItems"), schema.get("items")) {
            (Some(Value::Array(first)), rest) => (first.as_slice(), rest),
            (_, Some(Value::Array(first))) => (first.as_slice(), schema.get("additionalItems")),
            (_, rest) => (&[][..], rest),
        };
        for (index, (item, schema)) in value.iter().zip(first).enumerate() {
            faults.extend(self.apply(schema, item, &place(index), 0)?);
        }
        let behind = value.len().saturating_sub(first.len());
        match rest {
            Some(Value::Bool(false)) if behind > 0 && !first.is_empty() => {
                faults.push(fault(at, format!("last {behind} additionalItem(s) not allowed"), Vec::new()));
            }
            Some(schema) => {
                for (index, item) in value.iter().enumerate().skip(first.len()) {
                    faults.extend(self.apply(schema, item, &place(index), 0)?);
                }
            }
            None => {}
        }
        if let Some(schema) = schema.get("contains") {
            let mut causes = Vec::new();
            for (index, item) in value.iter().enumerate() {
                causes.extend(self.apply(schema, item, &place(index), 0)?);
            }
            if causes.len() == value.len() {
                faults.push(fault(at, "no items match contains schema".to_owned(), causes));
            }
        }
        Ok(())
    }
}

/// What is looked at first: where it does not fit, nothing else is told.
fn first(schema: &Schema, value: &Value) -> Option<String> {
    let wanted: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let fits = |name: &&str| *name == type_of(value) || *name == "integer" && is_whole;
    if !wanted.is_empty() && !wanted.iter().any(fits) {
        let names: Vec<&str> = TYPES.into_iter().filter(|name| wanted.contains(name)).collect();
        return Some(format!("got {}, want {}", type_of(value), names.join(" or ")));
    }
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    if let Some(one) = schema.get("const").filter(|one| !is_same(one, value)) {
        return Some(if is_plain(one) { format!("value must be {}", shown(one)) } else { "const failed".to_owned() });
    }
    let all = schema.get("enum").and_then(Value::as_array)?;
    if all.iter().any(|one| is_same(one, value)) {
        return None;
    }
    Some(match all.as_slice() {
        all if !all.iter().all(is_plain) => "enum failed".to_owned(),
        [one] => format!("value must be {}", shown(one)),
        all => format!("value must be one of {}", all.iter().map(shown).collect::<Vec<_>>().join(", ")),
    })
}

/// How many members, items or characters there are.
fn counts(schema: &Schema, value: &Value, at: &str, faults: &mut Vec<Fault>) {
    let (what, count) = match value {
        Value::Object(value) => ("Properties", value.len()),
        Value::Array(value) => ("Items", value.len()),
        Value::String(text) => ("Length", text.chars().count()),
        _ => return,
    };
    let Ok(count) = u64::try_from(count) else { return };
    for (keyword, is_most) in LIMITS.into_iter().filter(|(keyword, _)| keyword.ends_with(what)) {
        let limit = schema.get(keyword).and_then(Value::as_f64);
        let Some(limit) = limit.filter(|limit| *limit >= 0.0).map(|limit| limit as u64) else { continue };
        if if is_most { count > limit } else { count < limit } {
            let what = format!("{keyword}: got {}, want {}", number(&count.into()), number(&limit.into()));
            faults.push(fault(at, what, Vec::new()));
        }
    }
}

/// Whether a number is within a limit.
type Fits = fn(f64, f64) -> bool;

/// What a number may be. In draft 4 `exclusiveMinimum` says what `minimum` means, and so on.
fn numbers(schema: &Schema, value: &Number, at: &str, faults: &mut Vec<Fault>) {
    let Some(got) = value.as_f64() else { return };
    let excludes = |keyword: &str| schema.get(keyword) == Some(&Value::Bool(true));
    let rows: [(&str, &str, Fits); 5] = [
        ("minimum", "exclusiveMinimum", |got, want| got >= want),
        ("maximum", "exclusiveMaximum", |got, want| got <= want),
        ("exclusiveMinimum", "", |got, want| got > want),
        ("exclusiveMaximum", "", |got, want| got < want),
        ("multipleOf", "", |got, want| {
            want == 0.0 || ((got / want).round() * want - got).abs() < f64::EPSILON * got.abs()
        }),
    ];
    for (keyword, strict, fits) in rows {
        let Some(limit) = schema.get(keyword).and_then(Value::as_number) else { continue };
        let Some(want) = limit.as_f64() else { continue };
        let is_strict = excludes(strict);
        if !fits(got, want) || is_strict && got.to_bits() == want.to_bits() {
            let keyword = if is_strict { strict } else { keyword };
            let what = format!("{keyword}: got {}, want {}", number(value), number(limit));
            faults.push(fault(at, what, Vec::new()));
        }
    }
}
