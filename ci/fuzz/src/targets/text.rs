//! Selectors and quantities.

use std::collections::BTreeMap;

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::selector::{Operator, Requirement};
use kiln_apimachinery::{FieldSelector, LabelSelector};

/// Label selectors: what is read, written and read again is the same, and selects something or nothing without a panic.
pub(super) fn labels(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = LabelSelector::parse(text) else { return };
    let written: Vec<String> = selector.requirements.iter().map(written).collect();
    assert_eq!(LabelSelector::parse(&written.join(",")).as_ref(), Ok(&selector), "{written:?}");
    selector.matches(&BTreeMap::from([("a", "b"), ("n", "7"), ("", "")]));
}

fn written(requirement: &Requirement) -> String {
    let Requirement { key, operator, values } = requirement;
    let all = values.join(",");
    match operator {
        Operator::In => format!("{key} in ({all})"),
        Operator::NotIn => format!("{key} notin ({all})"),
        Operator::Exists => key.clone(),
        Operator::DoesNotExist => format!("!{key}"),
        Operator::GreaterThan => format!("{key}>{all}"),
        Operator::LessThan => format!("{key}<{all}"),
    }
}

/// Field selectors, likewise.
pub(super) fn fields(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = FieldSelector::parse(text) else { return };
    let escaped = |text: &str| text.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
    let written = selector.terms.iter().map(|term| {
        let operator = if term.equal { "=" } else { "!=" };
        format!("{}{operator}{}", term.field, escaped(&term.value))
    });
    let written = written.collect::<Vec<_>>().join(",");
    assert_eq!(FieldSelector::parse(&written).as_ref(), Ok(&selector), "{written:?}");
    selector.matches(|field| field.to_owned().into());
}

/// Quantities: what is read is written as the same amount, and arithmetic does not overflow.
pub(super) fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (a, b) = text.split_once(' ').unwrap_or((text, "1Ki"));
    let (Ok(a), Ok(b)) = (Quantity::parse(a), Quantity::parse(b)) else { return };
    let again = Quantity::parse(&a.to_string()).expect("what was written is read");
    assert_eq!(again, a, "{a}");
    assert_eq!(again.to_string(), a.to_string());
    let sum = a.plus(b);
    assert_eq!(sum, b.plus(a));
    let _ = (a.minus(b), a.value(), a.milli_value(), a.rounded_to_milli().to_string(), a.cmp(&b), sum.to_string());
}
