//! Where Ingresses of Kiln's own class are reached: the addresses of the nodes that serve them, in their status.
//!
//! A node says by an annotation that it serves, and takes it back when it doesn't; one of its addresses is told for as long as it is
//! ready, of those outside the cluster's network if it has one. The class is made here as well, once, and is the default
//! one if there was no other.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressLoadBalancerIngress};
use kiln_client::{Change, Client, Informers, ObjectRef, PatchKind, Store, WorkQueue, collection, path};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::owned::name;
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;

/// The class, and its controller.
const CLASS: &str = "kiln";
const CONTROLLER: &str = "kiln.dev/ingress";
/// On an Ingress: its class, before there was a field for it. On a class: that it is the default one.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// On a node: that it serves Ingresses.
const SERVES: &str = "kiln.dev/ingress";
/// On a node: that it is not to be reached from outside (KEP-1143).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let ingresses = informers.of::<Ingress>();
    ingresses.subscribe({
        let queue = queue.clone();
        move |change| change.key().into_iter().for_each(|key| queue.add(key.clone()))
    });
    let ingresses = ingresses.store();
    let all = {
        let (queue, ingresses) = (queue.clone(), ingresses.clone());
        move || ingresses.list().iter().for_each(|ingress| queue.add(key(ingress)))
    };
    let classes = informers.of::<IngressClass>();
    classes.subscribe({
        let all = all.clone();
        move |_| all()
    });
    let classes = classes.store();
    let nodes = informers.of::<Node>();
    nodes.subscribe(move |change| {
        if changes_address(change) {
            all();
        }
    });
    let controller = Controller { client: context.client.clone(), ingresses, classes, nodes: nodes.store() };
    let shutdown = context.shutdown.clone();
    async move {
        controller.make_class(&shutdown).await;
        work("ingress-status", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

fn key(ingress: &Ingress) -> ObjectRef {
    ObjectRef::namespaced(ingress.metadata.namespace.clone().unwrap_or_default(), name(ingress))
}

/// Whether Ingresses are reached elsewhere after a change of a node. Nodes write their heartbeats elsewhere, but much else into their status.
pub(crate) fn changes_address(change: &Change<Node>) -> bool {
    match change {
        Change::Applied { object, previous, .. } => address(object) != previous.as_deref().and_then(address),
        Change::Deleted { object, .. } => address(object).is_some(),
        Change::Synced => false,
    }
}

/// Where Ingresses are reached at a node, if it serves them.
pub(crate) fn address(node: &Node) -> Option<IpAddr> {
    let serves = node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SERVES));
    let is_excluded = node.metadata.labels.as_ref().is_some_and(|all| all.contains_key(EXCLUDED));
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !serves || is_excluded || !is_ready {
        return None;
    }
    let of = |kind: &str| {
        let mut all = status.addresses.iter().flatten().filter(|address| address.type_ == kind);
        all.find_map(|address| address.address.parse().ok())
    };
    of("ExternalIP").or_else(|| of("InternalIP"))
}

struct Controller {
    client: Client,
    ingresses: Store<Ingress>,
    classes: Store<IngressClass>,
    nodes: Store<Node>,
}

impl Controller {
    /// Makes the class, unless it is there.
    async fn make_class(&self, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.classes.synced() => {}
        }
        if self.classes.get(&ObjectRef::cluster(CLASS)).is_some() {
            return;
        }
        let has_default = self.classes.list().iter().any(|class| is_default(class));
        let class = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": CLASS, "annotations": {DEFAULT: (!has_default).to_string()}},
            "spec": {"controller": CONTROLLER},
        });
        match self.client.create::<Value>(&collection::<IngressClass>(), &class).await {
            Ok(_) => {}
            Err(error) if error.is_already_exists() => {}
            Err(error) => tracing::warn!(%error, "the IngressClass {CLASS} is not made"),
        }
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.classes.synced(), self.nodes.synced());
        let Some(ingress) = self.ingresses.get(&key) else { return Ok(Next::Settled) };
        if !is_ours(&self.classes.list(), &ingress) {
            return Ok(Next::Settled);
        }
        let addresses: BTreeSet<IpAddr> = self.nodes.list().iter().filter_map(|node| address(node)).collect();
        let wanted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let known = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        if known.iter().map(shown).eq(wanted.iter().map(|address| Some(address.as_str()))) {
            return Ok(Next::Settled);
        }
        let ingresses: Vec<_> = wanted.iter().map(|address| json!({"ip": address})).collect();
        let patch = json!({
            "metadata": {"uid": ingress.metadata.uid},
            "status": {"loadBalancer": {"ingress": ingresses}},
        });
        let path = format!("{}/status", path::<Ingress>(&key.namespace, &key.name));
        unless_gone(self.client.patch::<Value>(&path, PatchKind::Merge, &patch).await)?;
        Ok(Next::Settled)
    }
}

/// Whether an Ingress is of a class of ours. The field counts before the annotation.
pub(crate) fn is_ours(classes: &[Arc<IngressClass>], ingress: &Ingress) -> bool {
    let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
    let annotation = || ingress.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION);
    let mut ours = classes.iter().filter(|class| is_class(class));
    match field.or_else(annotation) {
        Some(named) => ours.any(|class| class.metadata.name.as_ref() == Some(named)),
        None => ours.any(|class| is_default(class)),
    }
}

fn is_class(class: &IngressClass) -> bool {
    class.spec.as_ref().is_some_and(|spec| spec.controller.as_deref() == Some(CONTROLLER))
}

fn is_default(class: &IngressClass) -> bool {
    class.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT)).is_some_and(|text| text == "true")
}

/// The address, if there is nothing else to an entry.
fn shown(entry: &IngressLoadBalancerIngress) -> Option<&str> {
    entry.ip.as_deref().filter(|_| entry.hostname.is_none())
}

#[cfg(test)]
mod tests {
    use kiln_client::Clock;
    use kiln_client::testing::FakeApi;

    use super::*;

    const CLASS_PATH: &str = "/apis/networking.k8s.io/v1/ingressclasses/kiln";

    fn ingress(api: &FakeApi, name: &str, class: Option<&str>) -> String {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/ns/ingresses/{name}");
        let object = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"ingressClassName": class}});
        api.put(&path, object);
        path
    }

    fn node(api: &FakeApi, name: &str, serves: bool, ready: &str, addresses: &[(&str, &str)]) {
        let annotations = if serves { json!({SERVES: "80,443"}) } else { json!({}) };
        let addresses: Vec<_> = addresses.iter().map(|(kind, ip)| json!({"type": kind, "address": ip})).collect();
        let node = json!({
            "metadata": {"name": name, "annotations": annotations},
            "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses},
        });
        api.put(&format!("/api/v1/nodes/{name}"), node);
    }

    async fn shows(api: &FakeApi, path: &str, expected: &[&str]) {
        loop {
            let entries = api.object(path).unwrap()["status"]["loadBalancer"]["ingress"].clone();
            let found: Vec<_> = entries.as_array().into_iter().flatten().filter_map(|e| e["ip"].as_str()).collect();
            if found == expected {
                return;
            }
            // The clock stands still until nothing else is to be done.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ingresses_of_the_class_show_the_nodes_that_serve_them() {
        let api = FakeApi::new();
        node(&api, "a", true, "True", &[("Hostname", "a"), ("InternalIP", "10.0.0.2"), ("ExternalIP", "192.0.2.1")]);
        node(&api, "b", true, "True", &[("InternalIP", "10.0.0.1")]);
        node(&api, "c", false, "True", &[("InternalIP", "10.0.0.3")]);
        node(&api, "d", true, "False", &[("InternalIP", "10.0.0.4")]);
        let (ours, classless) = (ingress(&api, "ours", Some("kiln")), ingress(&api, "classless", None));
        let other = ingress(&api, "other", Some("nginx"));
        let (client, clock) = (api.client(), Clock::from_tokio(jiff::Timestamp::UNIX_EPOCH));
        let shutdown = CancellationToken::new();
        tokio::spawn(crate::alone(client, clock, shutdown.clone(), build));
        let done = async {
            shows(&api, &ours, &["10.0.0.1", "192.0.2.1"]).await;
            shows(&api, &classless, &["10.0.0.1", "192.0.2.1"]).await;
            assert_eq!(api.object(CLASS_PATH).unwrap()["metadata"]["annotations"][DEFAULT], json!("true"));
            node(&api, "a", true, "Unknown", &[("InternalIP", "10.0.0.2")]);
            shows(&api, &ours, &["10.0.0.1"]).await;
            node(&api, "b", false, "True", &[("InternalIP", "10.0.0.1")]);
            shows(&api, &ours, &[]).await;
            assert!(api.object(&other).unwrap().get("status").is_none());
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), done).await.expect("the addresses");
        shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn the_class_is_not_the_default_one_where_another_is() {
        let api = FakeApi::new();
        let nginx =
            json!({"metadata": {"name": "nginx", "annotations": {DEFAULT: "true"}}, "spec": {"controller": "x/y"}});
        api.put("/apis/networking.k8s.io/v1/ingressclasses/nginx", nginx);
        let (client, clock) = (api.client(), Clock::from_tokio(jiff::Timestamp::UNIX_EPOCH));
        let shutdown = CancellationToken::new();
        tokio::spawn(crate::alone(client, clock, shutdown.clone(), build));
        let made = async {
            loop {
                match api.object(CLASS_PATH) {
                    Some(class) => return class,
                    None => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        let class = tokio::time::timeout(std::time::Duration::from_secs(60), made).await.expect("the class");
        assert_eq!(class["metadata"]["annotations"][DEFAULT], json!("false"));
        shutdown.cancel();
    }
}
