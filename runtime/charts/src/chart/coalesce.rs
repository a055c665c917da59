//! How values are put together: what the user gives goes before what a chart has, what a chart has for those in it before what they
//! have themselves, and `global` goes to all. A null takes a chart's value away.

use serde_json::{Map, Value};

use super::Chart;

const GLOBAL: &str = "global";

/// Helm's `MergeMaps`: the second over the first, maps into each other.
pub fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, value) => _ = into.insert(key, value),
        }
    }
}

/// The values of a chart and of those in it, over which these are laid. `keep_nulls` is for what is put together again later.
///
/// # Errors
/// When what is to be a chart's values is no map.
pub(crate) fn coalesce(chart: &Chart, values: &mut Map<String, Value>, keep_nulls: bool) -> Result<(), String> {
    own_values(chart, values, keep_nulls);
    for child in &chart.children {
        let globals = values.get(GLOBAL).cloned();
        let entry = values.entry(child.name.clone()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = entry else { return Err(format!("type mismatch on {}: no map", child.name)) };
        lay_globals(inner, globals.as_ref());
        coalesce(child, inner, keep_nulls)?;
    }
    Ok(())
}

fn own_values(chart: &Chart, values: &mut Map<String, Value>, keep_nulls: bool) {
    for (key, default) in &chart.values {
        let mut default = default.clone();
        match values.get_mut(key) {
            Some(Value::Null) if !keep_nulls => _ = values.remove(key),
            Some(Value::Object(given)) => {
                if let Value::Object(mut default) = default {
                    let keep_nulls = keep_nulls || chart.children.iter().any(|child| child.name == *key);
                    if !keep_nulls {
                        drop_nulls(&mut default);
                    }
                    tables(given, default, keep_nulls);
                }
            }
            Some(_) => {}
            None => {
                if !keep_nulls {
                    if default.is_null() {
                        continue;
                    }
                    if let Value::Object(default) = &mut default {
                        drop_nulls(default);
                    }
                }
                values.insert(key.clone(), default);
            }
        }
    }
}

/// Lays the globals from above over a chart's.
fn lay_globals(values: &mut Map<String, Value>, above: Option<&Value>) {
    let globals = values.entry(GLOBAL).or_insert_with(|| Value::Object(Map::new()));
    let (Value::Object(globals), Some(Value::Object(above))) = (globals, above) else { return };
    for (key, value) in above {
        match (value, globals.get_mut(key)) {
            (Value::Object(value), Some(Value::Object(own))) => {
                let mut laid = value.clone();
                tables(&mut laid, std::mem::take(own), true);
                *own = laid;
            }
            (Value::Object(_), Some(_)) | (_, Some(Value::Object(_))) => {}
            (value, _) => _ = globals.insert(key.clone(), value.clone()),
        }
    }
}

/// Fills a map from one that has less say.
pub(super) fn tables(into: &mut Map<String, Value>, from: Map<String, Value>, keep_nulls: bool) {
    for (key, value) in from {
        match into.get_mut(&key) {
            Some(Value::Null) if !keep_nulls && !value.is_null() => _ = into.remove(&key),
            None => _ = into.insert(key, value),
            Some(Value::Object(inner)) => {
                if let Value::Object(value) = value {
                    tables(inner, value, keep_nulls);
                }
            }
            Some(_) => {}
        }
    }
}

fn drop_nulls(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null());
    for value in map.values_mut() {
        if let Value::Object(inner) = value {
            drop_nulls(inner);
        }
    }
}
