//! `--set`: values by paths such as `a.b[0].c`, with backslashes before dots that belong to a name.

use serde_json::{Map, Value};

/// The largest index of a list.
const LARGEST: usize = 65_536;

/// Sets a value at a path.
///
/// # Errors
/// When the path is none.
pub fn set(values: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    let steps = steps(path).ok_or_else(|| format!("key {path:?} cannot be read"))?;
    let mut place = Value::Object(std::mem::take(values));
    put(&mut place, &steps, value);
    if let Value::Object(map) = place {
        *values = map;
    }
    Ok(())
}

/// A value as `--set` reads it.
pub fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        "0" => Value::Number(0.into()),
        _ if text.starts_with('0') => Value::String(text.to_owned()),
        _ => text.parse::<i64>().map_or_else(|_| Value::String(text.to_owned()), |number| Value::Number(number.into())),
    }
}

enum Step {
    Key(String),
    At(usize),
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut key = String::new();
    let mut chars = path.chars();
    let mut after_index = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next()?),
            '.' => {
                if !std::mem::take(&mut after_index) {
                    steps.push(Step::Key(std::mem::take(&mut key)));
                }
            }
            '[' => {
                if !std::mem::take(&mut after_index) {
                    steps.push(Step::Key(std::mem::take(&mut key)));
                }
                let index: String = chars.by_ref().take_while(|c| *c != ']').collect();
                steps.push(Step::At(index.parse().ok().filter(|index| *index <= LARGEST)?));
                after_index = true;
            }
            c => key.push(c),
        }
    }
    if !after_index {
        steps.push(Step::Key(key));
    }
    let is_empty = |step: &Step| matches!(step, Step::Key(key) if key.is_empty());
    (!steps.iter().any(is_empty)).then_some(steps)
}

fn put(place: &mut Value, steps: &[Step], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        *place = value;
        return;
    };
    match step {
        Step::Key(key) => {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            if let Value::Object(map) = place {
                put(map.entry(key.clone()).or_insert(Value::Null), rest, value);
            }
        }
        Step::At(index) => {
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            if let Value::Array(list) = place {
                if list.len() <= *index {
                    list.resize(index + 1, Value::Null);
                }
                put(&mut list[*index], rest, value);
            }
        }
    }
}
