//! Extenders: programs beside the scheduler that judge nodes, compare them, say who may leave or bind pods, over HTTP.
//!
//! They are asked about what the plugins left, one after the other, while the scheduler waits: who can do without one should. See
//! <https://github.com/kubernetes/design-proposals-archive/blob/main/scheduling/scheduler_extender.md>.

mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod as ApiPod};
use kiln_client::{Client, ClientError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::wire::{Binding, Bound, Empty, HostPriority, Left, Nodes, Preempted, Preemption, Question, Uid, Victims};
use crate::framework::{Code, MAX_SCORE};
use crate::model::{Name, Pod};

/// The most points that an extender gives a node.
const MAX_PRIORITY: i64 = 10;

/// A program that has a say. Cloning it shares its connections.
#[derive(Clone)]
pub(crate) struct Extender {
    pub(crate) client: Client,
    /// Where it is, for messages.
    pub(crate) url: String,
    /// The path of `url`, without a slash at its end.
    pub(crate) path: String,
    pub(crate) filter: Option<String>,
    pub(crate) prioritize: Option<String>,
    pub(crate) preempt: Option<String>,
    pub(crate) bind: Option<String>,
    pub(crate) weight: i64,
    /// It knows nodes by their names.
    pub(crate) knows_nodes: bool,
    /// Only pods that ask for one of these are its concern, if there are any.
    pub(crate) resources: Vec<String>,
    /// Pods are placed without it if it fails.
    pub(crate) ignorable: bool,
    pub(crate) timeout: Duration,
}

/// Why an extender did not do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtenderError {
    /// It was not reached, or what it said was not understood.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It took longer than it may.
    #[error("extender {0}: context deadline exceeded")]
    Timeout(String),
    /// It says that it failed.
    #[error("{0}")]
    Failed(String),
}

/// Nodes after a filter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filtered {
    pub(crate) names: Vec<String>,
    pub(crate) refused: Vec<(String, Code, String)>,
}

/// Pods that could leave a node.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) node: Name,
    pub(crate) pods: Vec<Arc<ApiPod>>,
    /// How many would leave against their budget.
    pub(crate) violations: i64,
}

/// Pods that may leave a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    pub(crate) node: String,
    pub(crate) uids: Vec<String>,
    /// How many leave against their budget.
    pub(crate) violations: i64,
}

impl Extender {
    /// Whether a pod is its concern.
    pub(crate) fn is_for(&self, pod: &ApiPod) -> bool {
        if self.resources.is_empty() {
            return true;
        }
        let Some(spec) = &pod.spec else { return false };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let resources = containers.filter_map(|container| container.resources.as_ref());
        let mut amounts = resources.flat_map(|resources| [&resources.requests, &resources.limits]).flatten();
        amounts.any(|amounts| self.resources.iter().any(|resource| amounts.contains_key(resource)))
    }

    fn ask<'a>(&self, pod: &'a ApiPod, nodes: &'a [Arc<Node>]) -> Question<'a> {
        let name = |node: &'a Arc<Node>| node.metadata.name.as_deref().unwrap_or_default();
        if self.knows_nodes {
            return Question { pod, nodes: None, node_names: Some(nodes.iter().map(name).collect()) };
        }
        let items = nodes.iter().map(|node| &**node).collect();
        Question { pod, nodes: Some(Nodes { metadata: Empty {}, items }), node_names: None }
    }

    async fn send<T: DeserializeOwned>(&self, verb: &str, body: &impl Serialize) -> Result<T, ExtenderError> {
        let path = format!("{}/{verb}", self.path);
        match tokio::time::timeout(self.timeout, self.client.create(&path, body)).await {
            Ok(answered) => Ok(answered?),
            Err(_) => Err(ExtenderError::Timeout(self.url.clone())),
        }
    }

    /// Which of some nodes are left for a pod.
    pub(crate) async fn filter(
        &self,
        verb: &str,
        pod: &ApiPod,
        nodes: &[Arc<Node>],
    ) -> Result<Filtered, ExtenderError> {
        let left: Left = self.send(verb, &self.ask(pod, nodes)).await?;
        if !left.error.is_empty() {
            return Err(ExtenderError::Failed(left.error));
        }
        let names = match (left.node_names, left.nodes) {
            (Some(names), _) if self.knows_nodes => names,
            (_, Some(nodes)) => nodes.items.into_iter().map(|node| node.metadata.name).collect(),
            (_, None) => Vec::new(),
        };
        let known = |name: &String| nodes.iter().any(|node| node.metadata.name.as_ref() == Some(name));
        if let Some(name) = names.iter().find(|name| !known(name)) {
            let url = &self.url;
            return Err(ExtenderError::Failed(format!(
                "extender {url:?} claims a filtered node {name:?} which is not found in the input node list"
            )));
        }
        let hopeless = left.failed_and_unresolvable_nodes;
        let others = left.failed_nodes.into_iter().filter(|(name, _)| !hopeless.contains_key(name));
        let others = others.map(|(name, why)| (name, Code::Unschedulable, why)).collect::<Vec<_>>();
        let hopeless = hopeless.into_iter().map(|(name, why)| (name, Code::Unresolvable, why));
        Ok(Filtered { names, refused: hopeless.chain(others).collect() })
    }

    /// Further points of nodes, as much as a plugin's with this weight.
    pub(crate) async fn prioritize(
        &self,
        verb: &str,
        pod: &ApiPod,
        nodes: &[Arc<Node>],
    ) -> Result<Vec<(String, i64)>, ExtenderError> {
        let hosts: Vec<HostPriority> = self.send(verb, &self.ask(pod, nodes)).await?;
        let points = |score: i64| score.saturating_mul(self.weight).saturating_mul(MAX_SCORE / MAX_PRIORITY);
        Ok(hosts.into_iter().map(|host| (host.host, points(host.score))).collect())
    }

    /// On which of some nodes which pods may leave for a pod, in the order of the nodes' names.
    pub(crate) async fn preempt(
        &self,
        verb: &str,
        pod: &ApiPod,
        offers: &[Offer],
    ) -> Result<Vec<Consent>, ExtenderError> {
        let uid = |pod: &Arc<ApiPod>| Uid { uid: pod.metadata.uid.clone().unwrap_or_default() };
        let mut asked = Preemption { pod, node_name_to_victims: None, node_name_to_meta_victims: None };
        if self.knows_nodes {
            asked.node_name_to_meta_victims = Some(by_node(offers, uid));
        } else {
            asked.node_name_to_victims = Some(by_node(offers, |pod| &**pod));
        }
        let answered: Preempted = self.send(verb, &asked).await?;
        let consents = answered.nodes.into_iter().map(|(node, victims)| {
            let Victims { pods, violations } = victims.unwrap_or_default();
            Consent { node, uids: pods.into_iter().map(|pod| pod.uid).collect(), violations }
        });
        Ok(consents.collect())
    }

    /// Has a pod bound to the node it is placed on.
    pub(crate) fn bind(
        &self,
        verb: &str,
        pod: Arc<Pod>,
    ) -> impl Future<Output = Result<(), ExtenderError>> + Send + use<> {
        let (extender, verb) = (self.clone(), verb.to_owned());
        async move {
            let binding = Binding {
                pod_name: &pod.name,
                pod_namespace: &pod.namespace,
                pod_uid: &pod.uid,
                node: pod.node.as_deref().unwrap_or_default(),
            };
            let bound: Bound = extender.send(&verb, &binding).await?;
            if bound.error.is_empty() { Ok(()) } else { Err(ExtenderError::Failed(bound.error)) }
        }
    }
}

fn by_node<'a, P>(offers: &'a [Offer], as_pod: impl Fn(&'a Arc<ApiPod>) -> P) -> BTreeMap<&'a str, Victims<P>> {
    let victims =
        |offer: &'a Offer| Victims { pods: offer.pods.iter().map(&as_pod).collect(), violations: offer.violations };
    offers.iter().map(|offer| (&*offer.node, victims(offer))).collect()
}

impl std::fmt::Debug for Extender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extender").field("url", &self.url).finish_non_exhaustive()
    }
}
