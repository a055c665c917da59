//! Which nodes a selector of nodes picks.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

/// Whether a node with these labels and this name is picked: by any of the terms, with all that the term requires. A term that
/// requires nothing picks nothing.
pub(crate) fn matches(selector: &NodeSelector, labels: &BTreeMap<String, String>, name: &str) -> bool {
    selector.node_selector_terms.iter().any(|term| is_met(term, labels, name))
}

fn is_met(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| (key == "metadata.name").then_some(name);
    expressions.iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_in = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || Some((number(value?)?, number(values.first()?)?));
    match requirement.operator.as_str() {
        "In" => is_in(),
        "NotIn" => !is_in(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(own, bound)| own > bound),
        "Lt" => compared().is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_operator_means_what_the_api_says() {
        let labels: BTreeMap<String, String> =
            [("zone", "a"), ("cores", "4")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let one = |key: &str, operator: &str, values: Value| json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]});
        let field = |name: &str| json!([{"key": "metadata.name", "operator": "In", "values": [name]}]);
        let rows = [
            (one("zone", "In", json!(["a", "b"])), true),
            (one("zone", "In", json!(["b"])), false),
            (one("none", "In", json!(["b"])), false),
            (one("zone", "NotIn", json!(["b"])), true),
            (one("none", "NotIn", json!(["b"])), true),
            (one("zone", "NotIn", json!(["a"])), false),
            (one("zone", "Exists", json!([])), true),
            (one("none", "Exists", json!([])), false),
            (one("none", "DoesNotExist", json!([])), true),
            (one("zone", "DoesNotExist", json!([])), false),
            (one("cores", "Gt", json!(["3"])), true),
            (one("cores", "Gt", json!(["4"])), false),
            (one("cores", "Lt", json!(["5"])), true),
            (one("zone", "Lt", json!(["5"])), false),
            (json!({"nodeSelectorTerms": [{"matchFields": field("here")}]}), true),
            (json!({"nodeSelectorTerms": [{"matchFields": field("there")}]}), false),
            (json!({"nodeSelectorTerms": [{"matchFields": field("there")}, {"matchFields": field("here")}]}), true),
            (json!({"nodeSelectorTerms": [{}]}), false),
            (json!({"nodeSelectorTerms": []}), false),
        ];
        for (selector, expected) in rows {
            let parsed: NodeSelector = serde_json::from_value(selector.clone()).expect("a selector");
            assert_eq!(matches(&parsed, &labels, "here"), expected, "{selector}");
        }
    }
}
