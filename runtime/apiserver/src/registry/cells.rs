//! What cells of several kinds share.

use kiln_apimachinery::meta;
use serde_json::Value;

/// What stands for nothing.
pub(crate) const NONE: &str = "<none>";

/// A text, or what stands for an empty one.
pub(crate) fn or(text: String, otherwise: &str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

/// The list at a path; empty if there is none.
pub(crate) fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    meta::at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What stands for a field that is absent.
pub(crate) const UNSET: &str = "<unset>";

/// The name, marked if an annotation makes the object the default one of its kind.
pub(crate) fn default_name(object: &Value, annotations: &[&str]) -> Value {
    let is_default = annotations.iter().any(|a| meta::annotation(object, a) == Some("true"));
    format!("{}{}", meta::name(object), if is_default { " (default)" } else { "" }).into()
}

/// Up to three texts, and how many more there are.
pub(crate) fn three(texts: &[String], otherwise: &str) -> Value {
    let text = texts.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(",");
    match texts.len().saturating_sub(3) {
        0 => or(text, otherwise),
        more => format!("{text} + {more} more...").into(),
    }
}

/// The first of several fields that is not empty.
pub(crate) fn first_text<'a>(object: &'a Value, paths: &[&[&str]]) -> &'a str {
    paths.iter().map(|p| meta::text(object, p)).find(|t| !t.is_empty()).unwrap_or_default()
}
