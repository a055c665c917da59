//! Whether a configuration fits the type, in the words of the reference.

use serde_json::Value;

use super::path::Element;
use super::shape;
use crate::go;
use crate::typed::{Kind, ListType, Scalar, Type};

/// Checks that an object fits its type. The error lists every misfit with its path.
pub fn check<T: Type>(ty: T, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(ty, value, &mut String::new(), &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn walk<T: Type>(ty: T, value: &Value, path: &mut String, errors: &mut Vec<String>) {
    let wrong = |what: String| if path.is_empty() { what } else { format!("{path}: {what}") };
    match (ty.kind(), value) {
        (_, Value::Null) | (Kind::Any, _) => {}
        (Kind::Scalar, value) => {
            // The reference shows the value in three ways of Go.
            errors.push(wrong(match (ty.scalar(), value) {
                (Scalar::Text, Value::String(_))
                | (Scalar::Number, Value::Number(_))
                | (Scalar::Boolean, Value::Bool(_))
                | (Scalar::Any, _) => return,
                (Scalar::Text, _) => format!("expected string, got &value.valueUnstructured{{Value:{value}}}"),
                (Scalar::Number, _) => format!("expected numeric (int or float), got {}", go::type_of(value)),
                (Scalar::Boolean, _) => format!("expected boolean, got &{{{}}}", go::Shown(value)),
            }));
        }
        (Kind::Struct | Kind::Map, Value::Object(map)) => {
            for (name, value) in map {
                match ty.field(name) {
                    Some(child) => inside(path, &format!(".{name}"), |path| walk(child, value, path, errors)),
                    None => errors.push(format!("{path}.{name}: field not declared in schema")),
                }
            }
        }
        (Kind::Struct | Kind::Map, _) => errors.push(wrong(format!("expected map, got &{{{}}}", go::Shown(value)))),
        (Kind::List, Value::Array(items)) => list(ty, items, path, errors),
        (Kind::List, _) => errors.push(wrong(format!("expected list, got &{{{}}}", go::Shown(value)))),
    }
}

fn list<T: Type>(ty: T, items: &[Value], path: &mut String, errors: &mut Vec<String>) {
    let mut seen: Vec<Element> = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let step = if ty.list() == ListType::Atomic {
            format!("[{i}]")
        } else {
            match shape::element(ty, item) {
                Ok(element) => {
                    if seen.contains(&element) {
                        errors.push(format!("{path}: duplicate entries for key {element}"));
                    }
                    let step = element.to_string();
                    seen.push(element);
                    step
                }
                Err(why) => return errors.push(format!("{path}: element {i}: {why}")),
            }
        };
        if let Some(child) = ty.item() {
            inside(path, &step, |path| walk(child, item, path, errors));
        }
    }
}

fn inside(path: &mut String, step: &str, f: impl FnOnce(&mut String)) {
    let len = path.len();
    path.push_str(step);
    f(path);
    path.truncate(len);
}
