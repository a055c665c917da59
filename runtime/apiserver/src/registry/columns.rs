//! Columns of the tables that `kubectl get` prints, per kind: data. Columns of a priority above 0 show with `-o wide` only.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::{Value, json};

/// Where a cell comes from.
#[derive(Clone, Copy)]
pub(crate) enum Cell {
    /// A field, as text; empty if absent.
    Path(&'static [&'static str]),
    /// The number of entries in a list or map.
    Count(&'static [&'static str]),
    /// Time since the object was made.
    Age,
    /// Computed.
    With(fn(&Value, Timestamp) -> Value),
}

/// A column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) format: &'static str,
    pub(crate) priority: i32,
    pub(crate) cell: Cell,
}

impl Column {
    /// The column's definition in a table.
    pub(crate) fn header(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.name,
            "priority": self.priority,
        })
    }

    /// The cell of an object.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match self.cell {
            Cell::Path(path) => match meta::at(object, path) {
                Some(value @ (Value::Number(_) | Value::Bool(_) | Value::String(_))) => value.clone(),
                _ if self.kind == "integer" => 0.into(),
                _ if self.kind == "boolean" => false.into(),
                _ => "".into(),
            },
            Cell::Count(path) => {
                let found = meta::at(object, path);
                let n =
                    found.and_then(|v| v.as_array().map(Vec::len).or_else(|| v.as_object().map(serde_json::Map::len)));
                n.unwrap_or(0).into()
            }
            Cell::Age => {
                time::age(meta::at(object, &["metadata", "creationTimestamp"]).and_then(Value::as_str), now).into()
            }
            Cell::With(f) => f(object, now),
        }
    }
}

pub(crate) const fn text(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", priority: 0, cell }
}

pub(crate) const fn number(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "integer", format: "", priority: 0, cell }
}

pub(crate) const fn boolean(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "boolean", format: "", priority: 0, cell }
}

pub(crate) const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", priority: 1, cell }
}

use Cell::{Age, Path};

pub(crate) const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", priority: 0, cell: Path(&["metadata", "name"]) };
pub(crate) const AGE: Column = text("Age", Age);

pub(crate) const DEFAULT: &[Column] = &[NAME, text("Created At", Path(&["metadata", "creationTimestamp"]))];
