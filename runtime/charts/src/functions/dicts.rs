//! sprig's functions of maps. `set`, `unset` and the merges change what they are given.

use super::{Made, at_least, exactly, map, text};
use crate::value::{Entries, Value};

/// How deep maps are merged.
const DEPTH: usize = 100;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "dict" => |given| {
            let entries = given.chunks(2);
            let entry =
                |pair: &[Value]| (pair[0].to_string().into(), pair.get(1).cloned().unwrap_or_else(|| Value::str("")));
            Ok(Value::map(entries.map(entry).collect()))
        },
        "get" => |given| {
            let [what, key] = exactly::<2>(given)?;
            Ok(map(what)?.borrow().get(text(key)?).cloned().unwrap_or_else(|| Value::str("")))
        },
        "set" => |given| {
            let [what, key, value] = exactly::<3>(given)?;
            map(what)?.borrow_mut().insert(text(key)?.into(), value.clone());
            Ok(what.clone())
        },
        "unset" => |given| {
            let [what, key] = exactly::<2>(given)?;
            map(what)?.borrow_mut().remove(text(key)?);
            Ok(what.clone())
        },
        "hasKey" => |given| {
            let [what, key] = exactly::<2>(given)?;
            Ok(Value::Bool(map(what)?.borrow().contains_key(text(key)?)))
        },
        "pluck" => |given| {
            let given = at_least(given, 1)?;
            let key = text(&given[0])?;
            let mut found = Vec::new();
            for value in &given[1..] {
                found.extend(map(value)?.borrow().get(key).cloned());
            }
            Ok(Value::list(found))
        },
        "keys" => |given| {
            let mut keys = Vec::new();
            for value in given {
                keys.extend(map(value)?.borrow().keys().cloned().map(Value::Str));
            }
            Ok(Value::list(keys))
        },
        "values" => |given| {
            let [what] = exactly::<1>(given)?;
            Ok(Value::list(map(what)?.borrow().values().cloned().collect()))
        },
        "pick" => |given| chosen(given, true),
        "omit" => |given| chosen(given, false),
        "merge" | "mustMerge" => |given| {
            let given = at_least(given, 1)?;
            for source in &given[1..] {
                merge(&given[0], source, false, 0)?;
            }
            Ok(given[0].clone())
        },
        "mergeOverwrite" | "mustMergeOverwrite" => |given| {
            let given = at_least(given, 1)?;
            for source in &given[1..] {
                merge(&given[0], source, true, 0)?;
            }
            Ok(given[0].clone())
        },
        "deepCopy" | "mustDeepCopy" => |given| Ok(exactly::<1>(given)?[0].deep_copy()),
        "dig" => dig,
        _ => return None,
    })
}

fn chosen(given: &[Value], wanted: bool) -> Made {
    let given = at_least(given, 1)?;
    let keys: Vec<&str> = given[1..].iter().map(text).collect::<Result<_, _>>()?;
    let entries = map(&given[0])?.borrow();
    let chosen = entries.iter().filter(|(key, _)| keys.contains(&&***key) == wanted);
    Ok(Value::map(chosen.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

/// mergo's merge: what is empty in the first, or all with `overwrite`, is taken from the second unless it is empty there.
fn merge(into: &Value, from: &Value, overwrite: bool, depth: usize) -> Result<(), String> {
    if depth > DEPTH {
        return Err("the maps are too deep".to_owned());
    }
    if matches!(from, Value::Nil) {
        return Ok(());
    }
    let (target, source) = (map(into)?, map(from)?);
    if std::rc::Rc::ptr_eq(target, source) {
        return Ok(());
    }
    let entries: Entries = source.borrow().clone();
    for (key, value) in entries {
        let known = target.borrow().get(&key).cloned();
        match (&known, &value) {
            (Some(inner @ Value::Map(_)), Value::Map(_)) => merge(inner, &value, overwrite, depth + 1)?,
            (Some(known), _) if known.is_true() && !(overwrite && value.is_true()) => {}
            (Some(_), value) if !value.is_true() => {}
            // Go shares the inner maps of the source.
            _ => _ = target.borrow_mut().insert(key, value),
        }
    }
    Ok(())
}

/// `dig "a" "b" default map`
fn dig(given: &[Value]) -> Made {
    let given = at_least(given, 3)?;
    let (keys, default) = (&given[..given.len() - 2], &given[given.len() - 2]);
    let mut value = given[given.len() - 1].clone();
    for (at, key) in keys.iter().enumerate() {
        let found = map(&value)?.borrow().get(text(key)?).cloned();
        match found {
            None => return Ok(default.clone()),
            Some(Value::Nil) if at + 1 < keys.len() => return Ok(default.clone()),
            Some(found) => value = found,
        }
    }
    Ok(value)
}
