//! Whether a pod may run on a node by its node selector, its required node affinity and its tolerations.

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use crate::labels::holds;

/// Whether the node is one that the pod's node selector and required node affinity select.
pub(crate) fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selected = spec.node_selector.as_ref().is_none_or(|wanted| holds(labels, wanted));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| any_term(required, node))
}

/// Terms are alternatives; one without requirements selects nothing.
fn any_term(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| meets(term, node))
}

fn meets(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    // The name is the only field that can be selected.
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_deref() } else { Some("") };
    labels.iter().all(|requirement| is_met(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| is_met(requirement, field(&requirement.key)))
}

fn is_met(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |value: &str| values.iter().any(|wanted| wanted == value);
    let number = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(value, than)| value > than),
        "Lt" => number().is_some_and(|(value, than)| value < than),
        _ => false,
    }
}

/// The first of a node's taints of some effects that none of the tolerations tolerates.
pub(crate) fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut taints = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    taints.find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether a toleration is of a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (wanted, has) = (text(&toleration.value), text(&taint.value));
    let numbers = || Some((has.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == has,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(has, than)| has < than),
        "Gt" => numbers().is_some_and(|(has, than)| has > than),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        let node = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cpus": "8"}},
            "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_node_is_selected_by_labels_expressions_and_name() {
        let term = |key: &str, operator: &str, values: Value| json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
        let name =
            |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
        for (selector, terms, expected) in [
            (json!({"disk": "ssd"}), json!(null), true),
            (json!({"disk": "hdd"}), json!(null), false),
            (json!(null), term("disk", "In", json!(["ssd", "nvme"])), true),
            (json!(null), term("disk", "NotIn", json!(["ssd"])), false),
            (json!(null), term("zone", "DoesNotExist", json!(null)), true),
            (json!(null), term("cpus", "Gt", json!(["4"])), true),
            (json!(null), term("cpus", "Lt", json!(["8"])), false),
            (json!(null), name("n1"), true),
            (json!(null), name("n2"), false),
            (json!(null), json!([]), false),
            (json!(null), json!([{}]), false),
        ] {
            let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": terms}}});
            let affinity = if terms.is_null() { Value::Null } else { affinity };
            let spec = json!({"containers": [], "nodeSelector": selector, "affinity": affinity});
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(is_selected(&spec, &node()), expected, "{selector} {terms}");
        }
    }

    #[test]
    fn a_taint_is_tolerated_by_key_value_and_effect() {
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"}), true),
            (json!({"key": "gpu", "operator": "Equal", "value": "no"}), false),
            (json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "fpga", "operator": "Exists"}), false),
        ] {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(untolerated(&node(), &[parsed], &["NoSchedule"]).is_none(), expected, "{toleration}");
        }
        assert!(untolerated(&node(), &[], &["NoExecute"]).is_none());
    }
}
