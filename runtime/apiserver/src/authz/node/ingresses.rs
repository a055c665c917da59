//! The Secrets that Ingresses of Kiln's own classes name for TLS: every node serves these Ingresses, and may read the certificates.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_apimachinery::meta;
use serde_json::Value;

/// The controller of the classes that nodes serve.
const CONTROLLER: &str = "kiln.dev/ingress";
/// The class, before there was a field for it.
const ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the class of Ingresses that name none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

/// Ingresses with TLS, and the classes that are nodes' own.
#[derive(Clone, Debug, Default)]
pub(super) struct Ingresses {
    /// By name: whether it is the default one.
    classes: HashMap<String, bool>,
    /// By namespace and name, as they are in the key.
    ingresses: HashMap<String, Arc<Ingress>>,
}

#[derive(Debug)]
struct Ingress {
    class: Option<String>,
    secrets: Vec<String>,
}

impl Ingresses {
    pub(super) fn put_class(&mut self, name: &str, class: &Value) {
        if meta::text(class, &["spec", "controller"]) == CONTROLLER {
            self.classes.insert(name.to_owned(), meta::annotation(class, DEFAULT) == Some("true"));
        } else {
            self.remove_class(name);
        }
    }

    pub(super) fn remove_class(&mut self, name: &str) {
        self.classes.remove(name);
    }

    pub(super) fn put(&mut self, place: &str, ingress: &Value) {
        let tls = meta::at(ingress, &["spec", "tls"]).and_then(Value::as_array);
        let names = tls.into_iter().flatten().map(|tls| meta::text(tls, &["secretName"]));
        let secrets: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if secrets.is_empty() {
            return self.remove(place);
        }
        let class = meta::at(ingress, &["spec", "ingressClassName"]).and_then(Value::as_str);
        let class = class.or_else(|| meta::annotation(ingress, ANNOTATION)).map(str::to_owned);
        self.ingresses.insert(place.to_owned(), Arc::new(Ingress { class, secrets }));
    }

    pub(super) fn remove(&mut self, place: &str) {
        self.ingresses.remove(place);
    }

    /// Whether one of them names the Secret.
    pub(super) fn name(&self, namespace: &str, secret: &str) -> bool {
        self.ingresses.iter().any(|(place, ingress)| {
            let is_here = place.split_once('/').is_some_and(|(here, _)| here == namespace);
            is_here && ingress.secrets.iter().any(|name| name == secret) && self.serves(ingress)
        })
    }

    fn serves(&self, ingress: &Ingress) -> bool {
        match &ingress.class {
            Some(class) => self.classes.contains_key(class),
            None => self.classes.values().any(|is_default| *is_default),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_read_the_certificates_of_the_ingresses_that_they_serve() {
        let mut all = Ingresses::default();
        let ingress =
            |class: Value, secret: &str| json!({"spec": {"ingressClassName": class, "tls": [{"secretName": secret}]}});
        all.put("ns/ours", &ingress(json!("kiln"), "a"));
        all.put("ns/other", &ingress(json!("nginx"), "b"));
        all.put("ns/classless", &ingress(json!(null), "c"));
        assert!(!all.name("ns", "a"), "no class of ours");
        all.put_class("kiln", &json!({"spec": {"controller": CONTROLLER}}));
        all.put_class("nginx", &json!({"spec": {"controller": "k8s.io/ingress-nginx"}}));
        for (namespace, secret, expected) in
            [("ns", "a", true), ("ns", "b", false), ("ns", "c", false), ("other", "a", false), ("ns", "d", false)]
        {
            assert_eq!(all.name(namespace, secret), expected, "{namespace}/{secret}");
        }
        let default = json!({"metadata": {"annotations": {DEFAULT: "true"}}, "spec": {"controller": CONTROLLER}});
        all.put_class("kiln", &default);
        assert!(all.name("ns", "c"));
        all.put("ns/ours", &json!({"spec": {}}));
        assert!(!all.name("ns", "a"));
        all.remove_class("kiln");
        assert!(!all.name("ns", "c"));
    }
}
