//! The Secrets that Gateways of Kiln's own classes name for TLS: every node serves these Gateways, and may read the certificates. A
//! Secret of another namespace is read only where a ReferenceGrant there lets the Gateway name it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kiln_apimachinery::meta;
use serde_json::Value;

/// The controller of the classes that nodes serve.
const CONTROLLER: &str = "kiln.dev/gateway";
const GROUP: &str = "gateway.networking.k8s.io";

/// Gateways with TLS, and what decides about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Gateways {
    classes: HashSet<String>,
    /// By namespace and name, as they are in the key.
    gateways: HashMap<String, Arc<Gateway>>,
    grants: HashMap<String, Arc<Value>>,
}

#[derive(Debug)]
struct Gateway {
    class: String,
    /// Namespaces and names.
    secrets: Vec<(String, String)>,
}

impl Gateways {
    /// What the keys of these objects begin with.
    pub(super) const PREFIXES: [&'static str; 3] = [
        "/registry/gateway.networking.k8s.io/gatewayclasses/",
        "/registry/gateway.networking.k8s.io/gateways/",
        "/registry/gateway.networking.k8s.io/referencegrants/",
    ];

    /// Takes in an object, if it is one of these.
    pub(super) fn put(&mut self, key: &str, object: &Value) {
        let [classes, gateways, grants] = Self::PREFIXES.map(|prefix| key.strip_prefix(prefix));
        if let Some(name) = classes {
            if meta::text(object, &["spec", "controllerName"]) == CONTROLLER {
                self.classes.insert(name.to_owned());
            } else {
                self.classes.remove(name);
            }
        } else if let Some(place) = gateways {
            self.gateways.insert(place.to_owned(), Arc::new(Gateway::of(place, object)));
        } else if let Some(place) = grants {
            let spec = object.get("spec").cloned().unwrap_or_default();
            self.grants.insert(place.to_owned(), Arc::new(spec));
        }
    }

    /// Forgets an object, if it is one of these.
    pub(super) fn remove(&mut self, key: &str) {
        let [classes, gateways, grants] = Self::PREFIXES.map(|prefix| key.strip_prefix(prefix));
        classes.into_iter().for_each(|name| _ = self.classes.remove(name));
        gateways.into_iter().for_each(|place| _ = self.gateways.remove(place));
        grants.into_iter().for_each(|place| _ = self.grants.remove(place));
    }

    /// Whether one of them names the Secret, and may.
    pub(super) fn name(&self, namespace: &str, secret: &str) -> bool {
        self.gateways.iter().any(|(place, gateway)| {
            let own = place.split_once('/').map_or("", |(own, _)| own);
            self.classes.contains(&gateway.class)
                && gateway.secrets.iter().any(|(of, name)| of == namespace && name == secret)
                && (own == namespace || self.grants(own, namespace, secret))
        })
    }

    fn grants(&self, from: &str, namespace: &str, secret: &str) -> bool {
        let here = self.grants.iter().filter(|(place, _)| place.split_once('/').is_some_and(|(ns, _)| ns == namespace));
        here.into_iter().any(|(_, spec)| {
            let list = |name: &str| spec.get(name).and_then(Value::as_array).into_iter().flatten();
            list("from").any(|one| {
                (meta::text(one, &["group"]), meta::text(one, &["kind"])) == (GROUP, "Gateway")
                    && meta::text(one, &["namespace"]) == from
            }) && list("to").any(|one| {
                (meta::text(one, &["group"]), meta::text(one, &["kind"])) == ("", "Secret")
                    && ["", secret].contains(&meta::text(one, &["name"]))
            })
        })
    }
}

impl Gateway {
    fn of(place: &str, gateway: &Value) -> Self {
        let own = place.split_once('/').map_or("", |(own, _)| own);
        let listeners = meta::at(gateway, &["spec", "listeners"]).and_then(Value::as_array);
        let references = listeners
            .into_iter()
            .flatten()
            .filter_map(|listener| meta::at(listener, &["tls", "certificateRefs"]).and_then(Value::as_array));
        let secrets = references.flatten().map(|reference| {
            let namespace = meta::text(reference, &["namespace"]);
            let namespace = if namespace.is_empty() { own } else { namespace };
            (namespace.to_owned(), meta::text(reference, &["name"]).to_owned())
        });
        Self { class: meta::text(gateway, &["spec", "gatewayClassName"]).to_owned(), secrets: secrets.collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_read_the_certificates_of_the_gateways_that_they_serve() {
        let mut all = Gateways::default();
        let [classes, gateways, grants] = Gateways::PREFIXES;
        let class = |controller: &str| json!({"spec": {"controllerName": controller}});
        all.put(&format!("{classes}kiln"), &class(CONTROLLER));
        all.put(&format!("{classes}other"), &class("example.com/gateway"));
        let gateway = |class: &str, namespace: Value, name: &str| {
            let reference = json!({"name": name, "namespace": namespace});
            json!({"spec": {"gatewayClassName": class, "listeners": [{"tls": {"certificateRefs": [reference]}}, {}]}})
        };
        all.put(&format!("{gateways}ns/a"), &gateway("kiln", json!(null), "a"));
        all.put(&format!("{gateways}ns/b"), &gateway("other", json!(null), "b"));
        all.put(&format!("{gateways}ns/c"), &gateway("kiln", json!("far"), "c"));
        let may = |all: &Gateways| {
            [("ns", "a"), ("ns", "b"), ("far", "a"), ("far", "c")].map(|(namespace, name)| all.name(namespace, name))
        };
        assert_eq!(may(&all), [true, false, false, false]);
        let grant = |name: &str| {
            json!({"spec": {"from": [{"group": GROUP, "kind": "Gateway", "namespace": "ns"}],
                            "to": [{"group": "", "kind": "Secret", "name": name}]}})
        };
        all.put(&format!("{grants}far/g"), &grant("d"));
        assert!(!all.name("far", "c"));
        all.put(&format!("{grants}far/g"), &grant("c"));
        assert!(all.name("far", "c"));
        all.remove(&format!("{grants}far/g"));
        all.remove(&format!("{gateways}ns/a"));
        assert_eq!(may(&all), [false; 4]);
    }
}
