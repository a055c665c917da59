//! Which certificates Ingresses ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::Ingress;
use kiln_acme::marks;
use kiln_client::{Object as _, ObjectRef};

use super::Wishes;
use crate::events::{Regarding, regarding};

/// What one Secret is to hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Names of the certificate, in their order.
    pub(super) hosts: Vec<String>,
    /// Names that can't be had.
    pub(super) wildcards: Vec<String>,
    /// Who asks.
    pub(super) ingresses: Vec<Regarding>,
}

impl Wish {
    /// Whether another comes to the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.hosts == other.hosts && self.wildcards == other.wildcards
    }
}

/// What Ingresses ask for. Several may name one Secret: it is then for the hosts of all.
pub(super) fn wishes<'a>(ingresses: impl Iterator<Item = &'a Ingress>) -> Wishes {
    let mut wishes = BTreeMap::<ObjectRef, Wish>::new();
    for ingress in ingresses.filter(|ingress| marks::asks(ingress.metadata.annotations.as_ref())) {
        let namespace = ingress.key().namespace;
        for tls in ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten()) {
            let hosts = tls.hosts.as_deref().unwrap_or_default();
            let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty() && !hosts.is_empty()) else {
                continue;
            };
            let wish = wishes.entry(ObjectRef::namespaced(namespace.clone(), name)).or_default();
            for host in hosts {
                let names = if host.starts_with("*.") { &mut wish.wildcards } else { &mut wish.hosts };
                names.push(host.to_ascii_lowercase());
            }
            wish.ingresses.push(regarding(ingress));
        }
    }
    for wish in wishes.values_mut() {
        for names in [&mut wish.hosts, &mut wish.wildcards] {
            names.sort_unstable();
            names.dedup();
        }
        wish.ingresses.dedup();
    }
    wishes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_secret_is_for_the_hosts_of_all_ingresses_that_ask_and_name_it() {
        let ingress = |name: &str, asks: Value, tls: Value| -> Ingress {
            let meta = json!({"name": name, "namespace": "ns", "annotations": {marks::ASKS: asks}});
            serde_json::from_value(json!({"metadata": meta, "spec": {"tls": tls}})).unwrap()
        };
        let all = [
            ingress("a", json!("true"), json!([{"secretName": "s", "hosts": ["b.com", "A.com"]}])),
            ingress("b", json!("true"), json!([{"secretName": "s", "hosts": ["b.com", "c.com"]}])),
            ingress("c", json!("false"), json!([{"secretName": "s", "hosts": ["d.com"]}])),
            ingress("d", json!("true"), json!([{"hosts": ["e.com"]}, {"secretName": "none"}])),
            ingress("e", json!("true"), json!([{"secretName": "w", "hosts": ["x.com", "*.x.com"]}])),
        ];
        let wishes = wishes(all.iter());
        let found: Vec<_> = wishes
            .iter()
            .map(|(key, wish)| (key.to_string(), wish.hosts.join(","), wish.wildcards.join(","), wish.ingresses.len()))
            .collect();
        let row = |key: &str, hosts: &str, wildcards: &str, ingresses| {
            (key.to_owned(), hosts.to_owned(), wildcards.to_owned(), ingresses)
        };
        assert_eq!(found, [row("ns/s", "a.com,b.com,c.com", "", 2), row("ns/w", "x.com", "*.x.com", 1)]);
    }
}
