//! sprig's functions of choice, and of what values are.

use super::{Made, at_least, boolean, exactly, text};
use crate::value::Value;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "default" => |given| {
            let given = at_least(given, 1)?;
            Ok(given[1..].first().filter(|value| value.is_true()).unwrap_or(&given[0]).clone())
        },
        "empty" => |given| Ok(Value::Bool(!exactly::<1>(given)?[0].is_true())),
        "coalesce" => |given| Ok(given.iter().find(|value| value.is_true()).cloned().unwrap_or(Value::Nil)),
        "all" => |given| Ok(Value::Bool(given.iter().all(Value::is_true))),
        "any" => |given| Ok(Value::Bool(given.iter().any(Value::is_true))),
        "ternary" => |given| {
            let [yes, no, which] = exactly::<3>(given)?;
            Ok(if boolean(which)? { yes.clone() } else { no.clone() })
        },
        "required" => |given| {
            let [warning, value] = exactly::<2>(given)?;
            let warning = text(warning)?;
            match value {
                Value::Nil => Err(warning.to_owned()),
                Value::Str(text) if text.is_empty() => Err(warning.to_owned()),
                value => Ok(value.clone()),
            }
        },
        "fail" => |given| Err(text(&exactly::<1>(given)?[0])?.to_owned()),
        "typeOf" => |given| Ok(Value::str(exactly::<1>(given)?[0].type_name())),
        "kindOf" => |given| Ok(Value::str(exactly::<1>(given)?[0].kind())),
        "typeIs" => |given| {
            let [name, value] = exactly::<2>(given)?;
            Ok(Value::Bool(is_type(text(name)?, value)))
        },
        "typeIsLike" => |given| {
            let [name, value] = exactly::<2>(given)?;
            let name = text(name)?;
            Ok(Value::Bool(is_type(name, value) || is_type(&format!("*{name}"), value)))
        },
        "kindIs" => |given| {
            let [name, value] = exactly::<2>(given)?;
            let name = text(name)?;
            // Whole numbers are of one kind here.
            Ok(Value::Bool(name == value.kind() || (name == "int64" && matches!(value, Value::Int(_)))))
        },
        "deepEqual" => |given| {
            let [a, b] = exactly::<2>(given)?;
            Ok(Value::Bool(a.equals(b)))
        },
        _ => return None,
    })
}

fn is_type(name: &str, value: &Value) -> bool {
    name == value.type_name() || (name == "int64" && matches!(value, Value::Int(_)))
}
