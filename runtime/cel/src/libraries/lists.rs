//! Functions of lists.

use std::cmp::Ordering;

use super::Result;
use crate::eval::EvalError;
use crate::value::Value;

pub(super) fn of_list<'a>(name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    use Value::{Bool, Int};
    let items = values.first()?.items()?;
    let best = |wanted: Ordering| {
        let mut all = items.iter();
        let mut found = all.next().ok_or_else(|| EvalError::new(format!("{name} called on empty list")))?;
        for item in all {
            if item.compare(found) == Some(wanted) {
                found = item;
            }
        }
        Ok(found.clone())
    };
    Some(match (name, &values[1..]) {
        ("isSorted", []) => {
            Ok(Bool(items.windows(2).all(|pair| pair[0].compare(&pair[1]).is_some_and(Ordering::is_le))))
        }
        ("sum", []) => {
            let mut total = Int(0);
            for item in &items {
                total = match (&total, item) {
                    (Int(0), item) => item.clone(),
                    (Int(a), Int(b)) => match a.checked_add(*b) {
                        Some(sum) => Int(sum),
                        None => return Some(Err(EvalError::new("integer overflow"))),
                    },
                    (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.saturating_add(*b)),
                    (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
                    (Value::Duration(a), Value::Duration(b)) => Value::Duration(a.saturating_add(*b)),
                    _ => return None,
                };
            }
            Ok(total)
        }
        ("min", []) => best(Ordering::Less),
        ("max", []) => best(Ordering::Greater),
        ("indexOf", [of]) => Ok(Int(items.iter().position(|i| i.equals(of)).map_or(-1, |at| at as i64))),
        ("lastIndexOf", [of]) => Ok(Int(items.iter().rposition(|i| i.equals(of)).map_or(-1, |at| at as i64))),
        ("reverse", []) => Ok(Value::list(items.into_iter().rev().collect())),
        ("distinct", []) => {
            let mut out: Vec<Value<'a>> = Vec::new();
            for item in items {
                if !out.iter().any(|o| o.equals(&item)) {
                    out.push(item);
                }
            }
            Ok(Value::list(out))
        }
        ("sort", []) => {
            let mut items = items;
            items.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
            Ok(Value::list(items))
        }
        ("slice", [Int(from), Int(to)]) => {
            let (from, to) = (usize::try_from(*from).ok(), usize::try_from(*to).ok());
            let found = from.zip(to).and_then(|(from, to)| items.get(from..to));
            found.map(|f| Value::list(f.to_vec())).ok_or_else(|| EvalError::new("cannot slice: index out of range"))
        }
        ("flatten", []) => {
            let flat = |item: Value<'a>| item.items().unwrap_or_else(|| vec![item]);
            Ok(Value::list(items.into_iter().flat_map(flat).collect()))
        }
        _ => return None,
    })
}
