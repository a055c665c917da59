//! Complaints about single fields, in the words that Kubernetes clients know.

use std::fmt;

use serde_json::Value;

use crate::status::Cause;

/// What is wrong with a field; the names are those of `details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must be there and is not.
    Required,
    /// The value breaks a rule.
    Invalid,
    /// The value stands there twice.
    Duplicate,
    /// The field may not be set, or not be changed.
    Forbidden,
    /// The value is none of a fixed set.
    NotSupported,
    /// The value refers to something that is absent.
    NotFound,
    /// The value is longer than allowed.
    TooLong,
    /// There are more items than allowed.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The machine-readable reason in a cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotSupported => "FieldValueNotSupported",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::NotSupported => "Unsupported value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }
}

/// One complaint: the field's path, the kind, the value as shown to the user, and the rule in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path such as `spec.taints[0].key`.
    pub field: String,
    /// What is wrong.
    pub kind: FieldErrorKind,
    value: Option<String>,
    detail: String,
}

impl FieldError {
    /// The field must be given.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::make(field, FieldErrorKind::Required, None, detail)
    }

    /// The value breaks the rule in `detail`.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::make(field, FieldErrorKind::Invalid, Some(show(value)), detail)
    }

    /// The same, about a value that is not shown.
    pub fn invalid_unshown(field: impl Into<String>, detail: &str) -> Self {
        Self::make(field, FieldErrorKind::Invalid, None, detail)
    }

    /// The same value stands in the list or map already.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::make(field, FieldErrorKind::Duplicate, Some(show(value)), "")
    }

    /// The field may not be set or changed here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::make(field, FieldErrorKind::Forbidden, None, detail)
    }

    /// The value is none of `supported`.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
        Self::make(field, FieldErrorKind::NotSupported, Some(show(value)), &format!("supported values: {list}"))
    }

    /// The value is longer than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        Self::make(field, FieldErrorKind::TooLong, None, &format!("may not be more than {max} bytes"))
    }

    /// There are more than `max` items.
    pub fn too_many(field: impl Into<String>, count: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} {}", if max == 1 { "item" } else { "items" });
        Self::make(field, FieldErrorKind::TooMany, Some(count.to_string()), &detail)
    }

    /// The value refers to something that is absent.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self::make(field, FieldErrorKind::NotFound, Some(show(value)), "")
    }

    /// The JSON type is not the one the field has.
    pub fn wrong_type(field: impl Into<String>, value: &Value, expected: &str) -> Self {
        Self::make(field, FieldErrorKind::TypeInvalid, Some(show(value)), &format!("must be {expected}"))
    }

    /// This complaint with other words for the rule.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        Self { detail: detail.to_owned(), ..self }
    }

    fn make(field: impl Into<String>, kind: FieldErrorKind, value: Option<String>, detail: &str) -> Self {
        Self { field: field.into(), kind, value, detail: detail.to_owned() }
    }

    /// The same complaint with the rule in words.
    #[must_use]
    pub fn because(self, detail: &str) -> Self {
        Self { detail: detail.to_owned(), ..self }
    }

    /// The rule in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The complaint without the field's path.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// This complaint as an entry of `details.causes`.
    pub fn cause(&self) -> Cause {
        Cause { reason: self.kind.reason().into(), message: self.body(), field: self.field.clone() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Strings are quoted, everything else is its JSON.
fn show(value: &Value) -> String {
    value.to_string()
}
