//! Which Ingresses are ours.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::CONTROLLER;

/// What came before `ingressClassName`, and is honoured still.
const ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks a class as the one of Ingresses that name none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// The classes that are ours.
pub(super) struct Classes {
    names: Vec<String>,
    /// Whether Ingresses without a class are ours too.
    has_default: bool,
}

impl Classes {
    pub(super) fn new(all: &[Arc<IngressClass>]) -> Self {
        let ours = |class: &&Arc<IngressClass>| {
            class.spec.as_ref().is_some_and(|spec| spec.controller.as_deref() == Some(CONTROLLER))
        };
        let is_default = |class: &Arc<IngressClass>| {
            let annotations = class.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(DEFAULT)).is_some_and(|text| text == "true")
        };
        let names = all.iter().filter(ours).filter_map(|class| class.metadata.name.clone()).collect();
        Self { names, has_default: all.iter().filter(ours).any(is_default) }
    }

    /// Whether an Ingress is of one of them. The field counts before the annotation.
    pub(super) fn has(&self, ingress: &Ingress) -> bool {
        let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
        let annotation = || ingress.metadata.annotations.as_ref()?.get(ANNOTATION);
        match field.or_else(annotation) {
            Some(name) => self.names.contains(name),
            None => self.has_default,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ours_is_what_names_our_class_or_none_if_ours_is_the_default() {
        let class = |name: &str, controller: &str, default: &str| {
            let class = json!({
                "metadata": {"name": name, "annotations": {DEFAULT: default}},
                "spec": {"controller": controller},
            });
            Arc::new(serde_json::from_value::<IngressClass>(class).unwrap())
        };
        let ingress = |field: Option<&str>, annotation: Option<&str>| {
            let annotations = annotation.map(|name| json!({ANNOTATION: name}));
            let ingress = json!({"metadata": {"annotations": annotations}, "spec": {"ingressClassName": field}});
            serde_json::from_value::<Ingress>(ingress).unwrap()
        };
        let with_default =
            Classes::new(&[class("kiln", CONTROLLER, "true"), class("nginx", "k8s.io/ingress-nginx", "true")]);
        let without =
            Classes::new(&[class("kiln", CONTROLLER, "false"), class("nginx", "k8s.io/ingress-nginx", "true")]);
        for (field, annotation, is_ours, is_ours_without) in [
            (Some("kiln"), None, true, true),
            (Some("nginx"), None, false, false),
            (Some("nowhere"), None, false, false),
            (None, None, true, false),
            (None, Some("kiln"), true, true),
            (None, Some("nginx"), false, false),
            (Some("kiln"), Some("nginx"), true, true),
        ] {
            let ingress = ingress(field, annotation);
            let found = (with_default.has(&ingress), without.has(&ingress));
            assert_eq!(found, (is_ours, is_ours_without), "{field:?} {annotation:?}");
        }
    }
}
