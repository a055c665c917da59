//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether a selector has no terms; it selects everything.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a selector selects what has these labels. A term that is no term selects nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let exact = selector.match_labels.as_ref().is_none_or(|wanted| holds(labels, wanted));
    exact && selector.match_expressions.iter().flatten().all(|term| meets(term, labels))
}

/// As [`selects`], for owners, who would own everything by a selector without terms, and nothing without a selector.
pub(crate) fn adopts(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    selector.is_some_and(|selector| !is_empty(selector) && selects(selector, labels))
}

/// Whether labels have all that are wanted.
pub(crate) fn holds(labels: Option<&Labels>, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn meets(term: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = labels.and_then(|labels| labels.get(&term.key));
    let among = |value: &String| term.values.iter().flatten().any(|wanted| wanted == value);
    match term.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn selectors_select_as_the_documentation_on_labels_has_it() {
        let labels: Labels = serde_json::from_value(json!({"environment": "production", "tier": "frontend"})).unwrap();
        let term = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let rows = [
            (json!({}), true),
            (json!({"matchLabels": {"environment": "production"}}), true),
            (json!({"matchLabels": {"environment": "production", "tier": "backend"}}), false),
            (term("environment", "In", json!(["production", "qa"])), true),
            (term("environment", "In", json!(["qa"])), false),
            (term("tier", "NotIn", json!(["frontend", "backend"])), false),
            (term("partition", "NotIn", json!(["a"])), true),
            (term("partition", "Exists", json!([])), false),
            (term("partition", "DoesNotExist", json!([])), true),
            (term("tier", "Like", json!(["f"])), false),
        ];
        for (selector, expected) in rows {
            let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(selects(&parsed, Some(&labels)), expected, "{selector}");
        }
    }
}
