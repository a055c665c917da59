//! Changing a `node.toml` in place: comments, order and everything untouched stay, and what comes out is valid.
//!
//! Keys are dotted (`node.name`, `node.labels.example.org/zone`, `network.interface.0.address`). The schema says what type a
//! value gets, so `imager config set IMAGE node.name=42` writes the string "42".

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use crate::schema::{Field, Kind, ROOT, lookup};
use crate::{ConfigError, NodeConfig};

/// Why an edit was refused. The text given stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file isn't TOML, or the result of the edit isn't a valid `node.toml`.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// No such key in the schema.
    #[error("there is no key `{key}`{}", .nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The dotted key as given.
        key: String,
        /// The nearest one that exists.
        nearest: Option<String>,
    },
    /// The value can't be read as the key's type.
    #[error("`{key}` takes {wanted}, and `{text}` isn't one")]
    WrongType {
        /// The dotted key.
        key: String,
        /// The type with its article.
        wanted: &'static str,
        /// The value as given.
        text: String,
    },
    /// The key is a whole table, which is set key by key.
    #[error("`{key}` is a table; set a key below it, as `{key}.{example}`")]
    IsTable {
        /// The dotted key.
        key: String,
        /// A key below it.
        example: String,
    },
    /// The key isn't in this file.
    #[error("`{key}` is not set")]
    NotSet {
        /// The dotted key.
        key: String,
    },
}

/// The value at a dotted key as text: strings without quotes, everything else as TOML. `None` where it isn't set.
///
/// # Errors
/// [`EditError::UnknownKey`], or [`EditError::Invalid`] where the text is no TOML.
pub fn get(text: &str, dotted_key: &str) -> Result<Option<String>, EditError> {
    known(dotted_key)?;
    let document = document(text)?;
    let mut item = document.as_item();
    for part in parts(dotted_key) {
        let next = match part.parse::<usize>() {
            Ok(index) if item.is_array_of_tables() || item.is_array() => item.get(index),
            _ => item.get(part.as_str()),
        };
        match next {
            Some(next) => item = next,
            None => return Ok(None),
        }
    }
    Ok(Some(match item {
        Item::Value(Value::String(s)) => s.value().clone(),
        other => other.to_string().trim().to_owned(),
    }))
}

/// The text with `dotted_key` set to `new`. A missing table is made; index `n` of an array of tables may be one past its end.
///
/// # Errors
/// [`EditError`]; among them [`EditError::Invalid`] where the file would no longer be valid.
pub fn set(text: &str, dotted_key: &str, new: &str) -> Result<String, EditError> {
    set_all(text, &[(dotted_key, new)])
}

/// As [`set`], for several keys that are only valid together; the check comes after the last of them.
///
/// # Errors
/// As [`set`].
pub fn set_all(text: &str, pairs: &[(&str, &str)]) -> Result<String, EditError> {
    let mut document = document(text)?;
    for (dotted_key, new) in pairs {
        let kind = known(dotted_key)?;
        let new = read_value(dotted_key, kind, new)?;
        let parts = parts(dotted_key);
        let Some((last, path)) = parts.split_last() else {
            continue;
        };
        let table = descend(document.as_table_mut(), path, ROOT, dotted_key)?;
        match table.get_mut(last).and_then(Item::as_value_mut) {
            Some(old) => {
                // Blanks and a comment behind the old value belong to the line, not to the value.
                let decor = old.decor().clone();
                *old = new;
                *old.decor_mut() = decor;
            }
            None => {
                table.insert(last, value(new));
            }
        }
    }
    checked(&document)
}

/// The text without `dotted_key`.
///
/// # Errors
/// [`EditError::NotSet`] where it isn't there, [`EditError::Invalid`] where the file needs it.
pub fn remove(text: &str, dotted_key: &str) -> Result<String, EditError> {
    known(dotted_key)?;
    let not_set = || EditError::NotSet { key: dotted_key.to_owned() };
    if get(text, dotted_key)?.is_none() {
        return Err(not_set());
    }
    let mut document = document(text)?;
    let parts = parts(dotted_key);
    let Some((last, path)) = parts.split_last() else {
        return Err(not_set());
    };
    let mut item = document.as_item_mut();
    for part in path {
        item = match part.parse::<usize>() {
            Ok(index) if item.is_array_of_tables() || item.is_array() => item.get_mut(index),
            _ => item.get_mut(part.as_str()),
        }
        .ok_or_else(not_set)?;
    }
    match (item.as_array_of_tables_mut(), last.parse::<usize>()) {
        (Some(tables), Ok(index)) => {
            tables.remove(index);
        }
        _ => {
            item.as_table_like_mut().ok_or_else(not_set)?.remove(last);
        }
    }
    checked(&document)
}

fn document(text: &str) -> Result<DocumentMut, EditError> {
    text.parse::<DocumentMut>().map_err(|e| {
        let (line, column) = crate::error::position(text, e.span().map_or(0, |s| s.start));
        let problem = crate::Problem::Syntax(e.message().replace('\n', "; "));
        EditError::Invalid(ConfigError { file: "node.toml".to_owned(), line, column, problem: Box::new(problem) })
    })
}

fn checked(document: &DocumentMut) -> Result<String, EditError> {
    let text = document.to_string();
    NodeConfig::parse(&text, "node.toml")?;
    Ok(text)
}

/// The key's path; below `node.labels` the rest is one key, dots and all.
fn parts(dotted_key: &str) -> Vec<String> {
    match dotted_key.strip_prefix("node.labels.") {
        Some(label) => vec!["node".to_owned(), "labels".to_owned(), label.to_owned()],
        None => dotted_key.split('.').map(str::to_owned).collect(),
    }
}

fn known(dotted_key: &str) -> Result<Kind, EditError> {
    lookup(dotted_key)
        .ok_or_else(|| EditError::UnknownKey { key: dotted_key.to_owned(), nearest: suggestion(dotted_key) })
}

/// The longest known front of the key, with the first wrong part replaced by the nearest right one.
fn suggestion(dotted_key: &str) -> Option<String> {
    let mut fields = ROOT;
    let mut good: Vec<String> = Vec::new();
    for part in dotted_key.split('.') {
        if part.parse::<usize>().is_ok() && !good.is_empty() {
            good.push(part.to_owned());
            continue;
        }
        let right = match fields.iter().find(|f| f.key == part) {
            Some(field) => field,
            None => {
                let keys: Vec<&'static str> = fields.iter().map(|f| f.key).collect();
                let nearest = crate::error::nearest(part, &keys)?;
                fields.iter().find(|f| f.key == nearest)?
            }
        };
        good.push(right.key.to_owned());
        match right.kind {
            Kind::Table(inner) | Kind::Tables(inner) => fields = inner,
            _ => break,
        }
    }
    Some(good.join("."))
}

fn read_value(key: &str, kind: Kind, text: &str) -> Result<Value, EditError> {
    let wrong = || EditError::WrongType { key: key.to_owned(), wanted: kind.name(), text: text.to_owned() };
    let as_toml = || text.parse::<Value>().map_err(|_| wrong());
    match kind {
        Kind::Integer => as_toml().and_then(|v| if v.is_integer() { Ok(v) } else { Err(wrong()) }),
        Kind::Switch => as_toml().and_then(|v| if v.is_bool() { Ok(v) } else { Err(wrong()) }),
        Kind::Text | Kind::TextOrList => Ok(match text.parse::<Value>() {
            Ok(v) if v.is_str() || (v.is_array() && matches!(kind, Kind::TextOrList)) => v,
            _ => Value::from(text),
        }),
        // A list is TOML, or words with commas between them.
        Kind::TextList => match text.parse::<Value>() {
            Ok(v) if v.is_array() => Ok(v),
            _ => Ok(Value::Array(text.split(',').map(str::trim).filter(|w| !w.is_empty()).collect::<Array>())),
        },
        Kind::TextMap => as_toml().and_then(|v| if v.is_inline_table() { Ok(v) } else { Err(wrong()) }),
        Kind::Table(fields) => Err(is_table(key, fields)),
        Kind::Tables(fields) => Err(is_table(&format!("{key}.0"), fields)),
    }
}

fn is_table(key: &str, fields: &[Field]) -> EditError {
    EditError::IsTable { key: key.to_owned(), example: fields.first().map_or("", |f| f.key).to_owned() }
}

/// The table that `path` leads to, with missing ones made in the style the file is written in.
fn descend<'a>(
    mut table: &'a mut dyn TableLike,
    path: &[String],
    mut fields: &'static [Field],
    key: &str,
) -> Result<&'a mut dyn TableLike, EditError> {
    let unknown = || EditError::UnknownKey { key: key.to_owned(), nearest: None };
    let mut path = path.iter();
    while let Some(part) = path.next() {
        let kind = fields.iter().find(|f| f.key == part).map(|f| f.kind).ok_or_else(unknown)?;
        let fresh = match kind {
            Kind::Table(inner) => {
                fields = inner;
                let mut fresh = Table::new();
                // `[network]` needs no header of its own when only its interfaces are written.
                fresh.set_implicit(inner.iter().all(|f| matches!(f.kind, Kind::Tables(_))));
                Item::Table(fresh)
            }
            Kind::Tables(inner) => {
                fields = inner;
                Item::ArrayOfTables(ArrayOfTables::new())
            }
            _ => Item::Value(Value::InlineTable(InlineTable::new())),
        };
        let item = table.entry(part).or_insert(fresh);
        table = if matches!(kind, Kind::Tables(_)) {
            let index: usize = path.next().and_then(|i| i.parse().ok()).ok_or_else(unknown)?;
            let tables = item.as_array_of_tables_mut().ok_or_else(unknown)?;
            if index == tables.len() {
                tables.push(Table::new());
            }
            tables
                .get_mut(index)
                .ok_or_else(|| EditError::NotSet { key: format!("network.interface.{}", index.saturating_sub(1)) })?
        } else {
            item.as_table_like_mut().ok_or_else(unknown)?
        };
    }
    Ok(table)
}
