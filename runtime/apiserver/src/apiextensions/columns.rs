//! The columns that a definition gives its tables.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::{Value, json};

use super::jsonpath::JsonPath;

/// A column.
#[derive(Debug)]
pub(crate) struct CustomColumn {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    /// `None` for a path that can't be read.
    path: Option<JsonPath>,
}

impl CustomColumn {
    /// The columns of a version: `additionalPrinterColumns`, or the age.
    pub(super) fn of(version: &Value) -> Box<[Self]> {
        let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).filter(|c| !c.is_empty());
        let age = || {
            let age = json!({
                "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
                "description": "CreationTimestamp is a timestamp representing the server time when this object was created. \
                    It is not guaranteed to be set in happens-before order across separate operations. Clients may not set \
                    this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null \
                    for lists. More info: \
                    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
            });
            Box::from([Self::read(&age)])
        };
        columns.map_or_else(age, |columns| columns.iter().map(Self::read).collect())
    }

    fn read(column: &Value) -> Self {
        let text = |key: &str| meta::text(column, &[key]).to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            none if none.is_empty() => format!("Custom resource definition column (in JSONPath format): {path}"),
            told => told,
        };
        Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: JsonPath::read(&path),
        }
    }

    /// The column's definition in a table.
    pub(crate) fn header(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }

    /// The cell of an object.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = self.path.as_ref().and_then(|path| path.first(object)) else { return Value::Null };
        match (self.kind.as_str(), found) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(text)) => text.as_str().into(),
            ("string", other) => other.to_string().into(),
            // A cell of a whole number takes the whole part.
            ("integer", Value::Number(n)) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).into(),
            ("number", Value::Number(n)) => n.as_f64().into(),
            ("boolean", Value::Bool(yes)) => (*yes).into(),
            ("date", Value::String(text)) => match time::parse(text) {
                Some(_) => time::age(Some(text), now).into(),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}
