//! From text to a [`NodeConfig`]: every key and type against the schema, before
//! [`build`] looks at the values.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{nearest, position};
use crate::schema::{Field, Kind, ROOT, VERSION};
use crate::{ConfigError, NodeConfig, Problem, build};

/// A fault and the bytes it is about.
pub(crate) type Fault = (Range<usize>, Problem);

/// See [`NodeConfig::parse`].
pub(crate) fn parse(text: &str, source_name: &str) -> Result<NodeConfig, ConfigError> {
    decode(text).map_err(|(span, problem)| {
        let (line, column) = position(text, span.start);
        ConfigError { file: source_name.to_owned(), line, column, problem: Box::new(problem) }
    })
}

fn decode(text: &str) -> Result<NodeConfig, Fault> {
    let root = DeTable::parse(text)
        .map_err(|e| (e.span().unwrap_or(0..0), Problem::Syntax(e.message().replace('\n', "; "))))?;
    let root = root.get_ref();
    // The version comes before all else: a later format's keys are not this one's mistakes.
    let version = version(root)?;
    check(root, ROOT, "")?;
    build::config(version, root)
}

fn version(root: &DeTable<'_>) -> Result<u32, Fault> {
    let Some((_, value)) = root.iter().find(|(k, _)| k.get_ref() == "version") else {
        let why = "write `version = 1` as the first line".to_owned();
        return Err((0..0, Problem::Missing { key: "version".to_owned(), why }));
    };
    let Some(found) = integer(value.get_ref()) else {
        let found = type_name(value.get_ref());
        return Err((
            value.span(),
            Problem::WrongType { key: "version".to_owned(), wanted: Kind::Integer.name(), found },
        ));
    };
    match u32::try_from(found) {
        Ok(found) if found == VERSION => Ok(found),
        Ok(found) if found > VERSION => {
            Err((value.span(), Problem::NewerVersion { found: found.into(), known: VERSION }))
        }
        _ => Err((value.span(), wrong("version", format!("there is no version {found}; write {VERSION}")))),
    }
}

/// Every key of `table` must be a row of `fields` and hold that row's type.
fn check(table: &DeTable<'_>, fields: &[Field], path: &str) -> Result<(), Fault> {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let Some(field) = fields.iter().find(|f| f.key == name) else {
            let valid: Vec<&'static str> = fields.iter().map(|f| f.key).collect();
            let table = if path.is_empty() { String::new() } else { format!("[{path}]") };
            let nearest = nearest(name, &valid);
            return Err((key.span(), Problem::UnknownKey { key: name.to_owned(), table, nearest, valid }));
        };
        let dotted = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        check_value(value, field.kind, &dotted)?;
    }
    Ok(())
}

fn check_value(value: &Spanned<DeValue<'_>>, kind: Kind, dotted: &str) -> Result<(), Fault> {
    let wrong = |at: &Spanned<DeValue<'_>>, key: String, wanted: &'static str| {
        Err((at.span(), Problem::WrongType { key, wanted, found: type_name(at.get_ref()) }))
    };
    match (kind, value.get_ref()) {
        (Kind::Integer, DeValue::Integer(_))
        | (Kind::Text | Kind::TextOrList, DeValue::String(_))
        | (Kind::Switch, DeValue::Boolean(_)) => Ok(()),
        (Kind::TextList | Kind::TextOrList, DeValue::Array(items)) => {
            match items.iter().position(|i| !i.get_ref().is_str()) {
                Some(i) => wrong(&items[i], format!("{dotted}[{i}]"), Kind::Text.name()),
                None => Ok(()),
            }
        }
        (Kind::TextMap, DeValue::Table(entries)) => match entries.iter().find(|(_, v)| !v.get_ref().is_str()) {
            Some((key, v)) => wrong(v, format!("{dotted}.{}", key.get_ref()), Kind::Text.name()),
            None => Ok(()),
        },
        (Kind::Table(fields), DeValue::Table(inner)) => check(inner, fields, dotted),
        (Kind::Tables(fields), DeValue::Array(items)) => {
            for item in items {
                match item.get_ref() {
                    DeValue::Table(inner) => check(inner, fields, dotted)?,
                    _ => return wrong(item, dotted.to_owned(), Kind::Table(fields).name()),
                }
            }
            Ok(())
        }
        _ => wrong(value, dotted.to_owned(), kind.name()),
    }
}

pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A whole number of any notation; `None` where it is another type or doesn't fit.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// A value that isn't allowed, at the dotted `key`.
pub(crate) fn wrong(key: &str, why: String) -> Problem {
    Problem::WrongValue { key: key.to_owned(), why }
}
