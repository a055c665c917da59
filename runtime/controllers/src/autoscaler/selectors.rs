//! Which pods an autoscaler counts, and how selectors are asked for and told of.

use std::fmt::Write as _;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as TypedSelector;
use kiln_apimachinery::LabelSelector;
use kiln_client::ObjectRef;

use super::status::Report;
use super::{Engine, Scale, labels_of};
use crate::owned::namespace;
use crate::reconcile::Failure;

impl Engine {
    /// The selector of a target's pods, none of which is another autoscaler's as well: the two would work against each other.
    pub(super) fn selector(
        &self,
        key: &ObjectRef,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &Scale,
        report: &mut Report<'_>,
    ) -> Result<LabelSelector, Failure> {
        if scale.selector.is_empty() {
            self.recorder.warning(autoscaler, "SelectorRequired", "selector is required");
            let text = "the HPA target's scale is missing a selector".to_owned();
            report.set("ScalingActive", false, "InvalidSelector", text);
            return Err(Failure::Waiting("selector is required".to_owned()));
        }
        let selector = LabelSelector::parse(&scale.selector).map_err(|error| {
            let text = format!("couldn't convert selector into a corresponding internal selector object: {error}");
            self.recorder.warning(autoscaler, "InvalidSelector", text.clone());
            report.set("ScalingActive", false, "InvalidSelector", text.clone());
            Failure::Waiting(text)
        })?;
        let all = self.selecting(key, autoscaler, &selector);
        if all.len() > 1 {
            let all = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let text = format!("pods by selector {} are controlled by multiple HPAs: [{all}]", scale.selector);
            self.recorder.warning(autoscaler, "AmbiguousSelector", text.clone());
            report.set("ScalingActive", false, "AmbiguousSelector", text.clone());
            return Err(Failure::Waiting(text));
        }
        Ok(selector)
    }

    /// The autoscalers that count a pod of a selector, as far as they have been looked at.
    fn selecting(&self, key: &ObjectRef, of: &HorizontalPodAutoscaler, selector: &LabelSelector) -> Vec<ObjectRef> {
        let pods = self.pods_of(of, selector);
        let mut memories = self.memories();
        if let Some(memory) = memories.get_mut(key) {
            memory.selector = Some(selector.clone());
        }
        let here = namespace(of);
        let counts = |selector: &LabelSelector| pods.iter().any(|pod| selector.matches(&labels_of(pod)));
        let all = memories
            .iter()
            .filter(|(other, memory)| other.namespace == here && memory.selector.as_ref().is_some_and(counts));
        let mut all: Vec<_> = all.map(|(other, _)| other.clone()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

/// A selector as it is asked for.
pub(super) fn selector_text(selector: Option<&TypedSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let exact = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let terms = selector.match_expressions.iter().flatten().map(|term| {
        let (key, values) = (&term.key, term.values.as_deref().unwrap_or_default().join(","));
        match term.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        }
    });
    exact.chain(terms).collect::<Vec<_>>().join(",")
}

/// A selector as Kubernetes tells of it: as its own program prints the structure.
pub(super) fn selector_shown(selector: Option<&TypedSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let (mut labels, mut terms) = (String::new(), String::new());
    // Writing to a text does not fail.
    for (key, value) in selector.match_labels.iter().flatten() {
        _ = write!(labels, "{key}: {value},");
    }
    for term in selector.match_expressions.iter().flatten() {
        let values = term.values.as_deref().unwrap_or_default().join(" ");
        _ = write!(
            terms,
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
            term.key, term.operator
        );
    }
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{terms}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_is_asked_for_in_one_way_and_told_of_in_another() {
        let selector = json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["x", "y"]}, {"key": "d", "operator": "Exists"}]});
        let selector: TypedSelector = serde_json::from_value(selector).unwrap();
        assert_eq!(selector_text(Some(&selector)), "a=1,b=2,c in (x,y),d");
        let shown = "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{\
            LabelSelectorRequirement{Key:c,Operator:In,Values:[x y],},\
            LabelSelectorRequirement{Key:d,Operator:Exists,Values:[],},},}";
        assert_eq!(selector_shown(Some(&selector)), shown);
        assert_eq!(selector_shown(None), "nil");
    }
}
