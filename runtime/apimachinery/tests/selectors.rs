//! Selectors made at random are read as what was written, and select as they say.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap")]

use std::collections::BTreeMap;

use kiln_apimachinery::selector::{FieldTerm, Operator, Requirement};
use kiln_apimachinery::{FieldSelector, LabelSelector};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[a-z][a-z0-9_.-]{0,8}[a-z0-9]", "[a-z]{1,5}\\.[a-z]{1,5}/[A-Z][a-z0-9]{0,5}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[xy]",
        "[A-Za-z0-9][A-Za-z0-9_.-]{0,8}[A-Za-z0-9]",
        "-?[0-9]{1,3}".prop_map(|n| n.trim_start_matches('-').to_owned())
    ]
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operators = prop::sample::select(vec![
        Operator::In,
        Operator::NotIn,
        Operator::Exists,
        Operator::DoesNotExist,
        Operator::GreaterThan,
        Operator::LessThan,
    ]);
    (key(), operators, prop::collection::vec(value(), 1..4), any::<u32>()).prop_map(
        |(key, operator, values, number)| {
            let values = match operator {
                Operator::In | Operator::NotIn => values,
                Operator::GreaterThan | Operator::LessThan => vec![number.to_string()],
                _ => Vec::new(),
            };
            Requirement { key, operator, values }
        },
    )
}

/// Some text for a requirement; `way` chooses among those that mean the same.
fn written(requirement: &Requirement, way: usize) -> String {
    let Requirement { key, operator, values } = requirement;
    let space = ["", " ", "  "][way % 3];
    let one = values.len() == 1 && way.is_multiple_of(2);
    let all = values.join(&format!("{space},{space}"));
    match operator {
        Operator::In if one => format!("{key}{space}{}{space}{all}", ["=", "=="][way / 2 % 2]),
        Operator::NotIn if one => format!("{space}{key}{space}!={space}{all}"),
        Operator::In => format!("{key} in{space}({space}{all}{space})"),
        Operator::NotIn => format!("{key} notin ({all})"),
        Operator::Exists => format!("{space}{key}{space}"),
        Operator::DoesNotExist => format!("!{space}{key}"),
        Operator::GreaterThan => format!("{key}{space}>{space}{all}"),
        Operator::LessThan => format!("{key}{space}<{all}"),
    }
}

/// What a requirement says, in so many words.
fn holds(requirement: &Requirement, labels: &BTreeMap<&str, &str>) -> bool {
    let found = labels.get(requirement.key.as_str()).copied();
    let listed = found.is_some_and(|found| requirement.values.iter().any(|v| v == found));
    let beyond = |test: fn(i64, i64) -> bool| {
        let number = found.and_then(|found| found.parse().ok());
        number.is_some_and(|number| test(number, requirement.values[0].parse().unwrap()))
    };
    match requirement.operator {
        Operator::In => listed,
        Operator::NotIn => !listed,
        Operator::Exists => found.is_some(),
        Operator::DoesNotExist => found.is_none(),
        Operator::GreaterThan => beyond(|a, b| a > b),
        Operator::LessThan => beyond(|a, b| a < b),
    }
}

proptest! {
    #[test]
    fn a_label_selector_is_read_as_it_was_written(
        requirements in prop::collection::vec((requirement(), 0_usize..12), 0..5),
    ) {
        let text: Vec<String> = requirements.iter().map(|(r, way)| written(r, *way)).collect();
        let requirements = requirements.into_iter().map(|(r, _)| r).collect();
        prop_assert_eq!(LabelSelector::parse(&text.join(",")), Ok(LabelSelector { requirements }), "{:?}", text);
    }

    #[test]
    fn a_label_selector_selects_where_each_requirement_holds(
        requirements in prop::collection::vec(requirement(), 0..4),
        labels in prop::collection::btree_map("[a-c]", value(), 0..4),
    ) {
        let labels: BTreeMap<&str, &str> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = requirements.iter().all(|r| holds(r, &labels));
        prop_assert_eq!(LabelSelector { requirements }.matches(&labels), expected);
    }

    #[test]
    fn a_field_selector_is_read_as_it_was_written(
        terms in prop::collection::vec(("[a-z]{1,6}(\\.[a-zA-Z]{1,6}){0,3}", "[ -~é]{0,12}", any::<bool>()), 0..4),
    ) {
        let escaped = |text: &str| text.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
        let text = terms.iter().map(|(field, value, equal)| {
            format!("{field}{}{}", if *equal { "=" } else { "!=" }, escaped(value))
        });
        let text = text.collect::<Vec<_>>().join(",");
        let terms = terms.into_iter().map(|(field, value, equal)| FieldTerm { field, value, equal }).collect();
        prop_assert_eq!(FieldSelector::parse(&text), Ok(FieldSelector { terms }), "{:?}", text);
    }

    #[test]
    fn no_text_at_all_makes_a_selector_panic(text in "[ -~é]{0,40}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            selector.matches(&BTreeMap::from([("a", "b")]));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            selector.matches(|_| "".into());
        }
    }
}
