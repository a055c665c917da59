//! The functions of templates: text/template's own, sprig's, and Helm's. A file for each of their kinds, as sprig has them.

mod builtin;
mod crypto;
pub(crate) mod dates;
mod dicts;
mod encoding;
mod flow;
mod format;
mod helm;
mod lists;
mod math;
mod paths;
mod regex;
mod strings;
mod versions;

use std::rc::Rc;

use crate::template::Engine;
use crate::value::{Object, Value};

/// What a function gives.
pub(crate) type Made = Result<Value, String>;

/// Begins the text of a failure that is about the call and not of the function; `{name}` in it stands for the function.
pub(crate) const WRONG: &str = "\u{0}";

/// A function.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// Looks at its arguments one by one.
    And,
    /// Looks at its arguments one by one.
    Or,
    /// Needs its arguments only.
    Plain(fn(&[Value]) -> Made),
    /// Needs the templates or the cluster.
    Engine(fn(&mut Engine<'_>, &[Value]) -> Made),
}

/// The function of a name.
pub(crate) fn find(name: &str) -> Option<Function> {
    let plain = builtin::find(name)
        .or_else(|| strings::find(name))
        .or_else(|| lists::find(name))
        .or_else(|| dicts::find(name))
        .or_else(|| math::find(name))
        .or_else(|| encoding::find(name))
        .or_else(|| flow::find(name))
        .or_else(|| paths::find(name))
        .or_else(|| regex::find(name))
        .or_else(|| versions::find(name));
    match name {
        "and" => return Some(Function::And),
        "or" => return Some(Function::Or),
        _ => {}
    }
    let engine = || helm::find(name).or_else(|| crypto::find(name)).or_else(|| dates::find(name));
    plain.map(Function::Plain).or_else(|| engine().map(Function::Engine))
}

/// Calls a method; `None` if the object has none of this name.
pub(crate) fn method(object: &Rc<Object>, name: &str, given: Vec<Value>) -> Option<Made> {
    match &**object {
        Object::Files(files) => helm::file_method(files, name, &given),
        Object::Versions(versions) if name == "Has" => Some(
            exactly::<1>(&given)
                .and_then(|[version]| text(version))
                .map(|text| Value::Bool(versions.iter().any(|known| known == text))),
        ),
        Object::KubeVersion(version, major, minor) => Some(Ok(match name {
            "Version" | "GitVersion" | "String" => Value::Str(version.clone()),
            "Major" => Value::Str(major.clone()),
            "Minor" => Value::Str(minor.clone()),
            _ => return None,
        })),
        Object::Semver(version) => versions::method(version, name, &given),
        Object::Time(seconds) => dates::method(*seconds, name, &given),
        Object::Versions(_) => None,
    }
}

/// The arguments, if there are just so many.
pub(crate) fn exactly<const N: usize>(given: &[Value]) -> Result<&[Value; N], String> {
    given.try_into().map_err(|_| format!("{WRONG}wrong number of args for {{name}}: want {N} got {}", given.len()))
}

/// The arguments, if there are at least so many.
pub(crate) fn at_least(given: &[Value], count: usize) -> Result<&[Value], String> {
    match given.len() >= count {
        true => Ok(given),
        false => Err(format!("{WRONG}wrong number of args for {{name}}: want at least {count} got {}", given.len())),
    }
}

fn mistyped(value: &Value, expected: &str) -> String {
    match value {
        Value::Nil => format!("{WRONG}invalid value; expected {expected}"),
        value => format!("{WRONG}wrong type for value; expected {expected}; got {}", value.type_name()),
    }
}

/// An argument that must be text.
pub(crate) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Str(text) => Ok(text),
        other => Err(mistyped(other, "string")),
    }
}

/// An argument that must be a whole number.
pub(crate) fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(value) => Ok(*value),
        other => Err(mistyped(other, "int")),
    }
}

/// An argument that must be a length, not below zero and not without measure.
pub(crate) fn size(value: &Value) -> Result<usize, String> {
    const MOST: i64 = 1 << 20;
    let value = int(value)?;
    if value > MOST {
        return Err(format!("{value} is too large"));
    }
    Ok(usize::try_from(value).unwrap_or_default())
}

/// An argument that must be true or false.
pub(crate) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        other => Err(mistyped(other, "bool")),
    }
}

/// An argument that must be a map.
pub(crate) fn map(value: &Value) -> Result<&Rc<std::cell::RefCell<crate::value::Entries>>, String> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(mistyped(other, "map[string]interface {}")),
    }
}
