//! From the API's objects to what the scheduler remembers of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kiln_apimachinery::quantity::Quantity;

use super::intern::Interner;
use super::{
    DeviceClaim, HostPort, InterPod, Labels, Name, Node, NodeTerm, Owner, Pod, PodSpec, Protocol, RequiredNodes,
    Resources, Selector, SpreadConstraint, Taint, Toleration, Volume, requests,
};

/// Makes the scheduler's own view of objects, sharing what is equal.
pub(crate) struct Projector {
    names: Interner<str>,
    labels: Interner<Labels>,
    specs: Interner<PodSpec>,
}

impl Projector {
    pub(crate) fn new() -> Self {
        Self { names: Interner::new(), labels: Interner::new(), specs: Interner::new() }
    }

    /// An interned string.
    pub(crate) fn name(&mut self, text: &str) -> Name {
        self.names.name(text)
    }

    fn labels(&mut self, labels: Option<&BTreeMap<String, String>>) -> Arc<Labels> {
        let pairs = labels.into_iter().flatten().map(|(key, value)| (self.names.name(key), self.names.name(value)));
        let labels = Labels(pairs.collect());
        self.labels.share(labels)
    }

    /// A Node.
    pub(crate) fn node(&mut self, node: &v1::Node) -> Node {
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let pods = allocatable.and_then(|allocatable| allocatable.get("pods"));
        let labels = self.labels(node.metadata.labels.as_ref());
        let mut name = |text: &str| self.names.name(text);
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        let mut images = Vec::new();
        for image in status.and_then(|status| status.images.as_ref()).into_iter().flatten() {
            let size = image.size_bytes.unwrap_or(0);
            images.extend(image.names.iter().flatten().map(|text| (name(text), size)));
        }
        images.sort();
        images.dedup_by(|a, b| a.0 == b.0);
        Node {
            name: name(node.metadata.name.as_deref().unwrap_or_default()),
            labels,
            taints: taints.filter_map(|taint| Taint::of(taint, &mut name)).collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: Resources::of(allocatable, &mut name),
            allowed_pods: pods.and_then(|pods| Quantity::parse(&pods.0).ok()).map_or(0, Quantity::value),
            features: status
                .and_then(|s| s.declared_features.as_ref())
                .into_iter()
                .flatten()
                .map(|f| name(f))
                .collect(),
            images: images.into(),
        }
    }

    /// A Pod.
    pub(crate) fn pod(&mut self, pod: &v1::Pod) -> Pod {
        let (meta, status) = (&pod.metadata, pod.status.as_ref());
        let labels = self.labels(meta.labels.as_ref());
        let spec = self.spec(pod, &labels);
        let spec = self.specs.share(spec);
        let some = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        let node = some(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()));
        let nominated = some(status.and_then(|status| status.nominated_node_name.as_ref()));
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let preempted = conditions.into_iter().flatten().any(|condition| {
            condition.type_ == "DisruptionTarget"
                && condition.status == "True"
                && condition.reason.as_deref() == Some("PreemptionByScheduler")
        });
        let started = status.and_then(|status| status.start_time.as_ref());
        let terminating = meta.deletion_timestamp.is_some();
        Pod {
            namespace: self.name(meta.namespace.as_deref().unwrap_or_default()),
            name: Name::new(meta.name.as_deref().unwrap_or_default()),
            uid: Name::new(meta.uid.as_deref().unwrap_or_default()),
            labels,
            spec,
            node: node.map(|node| self.name(&node)),
            nominated: nominated.map(|node| self.name(&node)),
            started: started.map(|time| time.0.as_second()),
            terminating,
            preempted: terminating && preempted,
            claims: self.claims(pod),
        }
    }

    fn spec(&mut self, pod: &v1::Pod, labels: &Labels) -> PodSpec {
        let Some(spec) = &pod.spec else { return PodSpec::default() };
        let own = self.names.name(pod.metadata.namespace.as_deref().unwrap_or_default());
        let mut name = |text: &str| self.names.name(text);
        let (requests, nonzero) = requests::of_pod(pod, &mut name);
        let affinity = spec.affinity.as_ref();
        let nodes = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
        let required = nodes.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
        let terms = required
            .map(|required| required.node_selector_terms.iter().map(|term| NodeTerm::of(term, &mut name)).collect());
        let wanted = spec.node_selector.as_ref().filter(|selector| !selector.is_empty());
        let selector =
            wanted.map(|selector| Selector::all_of(selector.iter().map(|(key, value)| (&**key, &**value)), &mut name));
        let preferred = nodes.and_then(|nodes| nodes.preferred_during_scheduling_ignored_during_execution.as_ref());
        let preferred = preferred.into_iter().flatten();
        let preferred = preferred.map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference, &mut name)));
        let preferred_nodes = preferred.collect();
        let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut images: Vec<Name> = all().map(|c| name(&with_tag(c.image.as_deref().unwrap_or_default()))).collect();
        let volumes = || spec.volumes.iter().flatten();
        let of_volumes = volumes().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        images.extend(of_volumes.map(|reference| name(&with_tag(reference))));
        let spread = spec.topology_spread_constraints.iter().flatten();
        PodSpec {
            scheduler: spec.scheduler_name.as_deref().map(&mut name),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests,
            nonzero,
            required_nodes: RequiredNodes { selector, terms },
            preferred_nodes,
            tolerations: spec.tolerations.iter().flatten().map(|t| Toleration::of(t, &mut name)).collect(),
            ports: ports(spec, &mut name),
            inter_pod: affinity.and_then(|affinity| InterPod::of(affinity, &own, &mut name)).map(Box::new),
            spread: spread.map(|constraint| SpreadConstraint::of(constraint, labels, &mut name)).collect(),
            containers: all().count(),
            images: images.into(),
            features: features(spec).map(&mut name).collect(),
            gates: spec.scheduling_gates.iter().flatten().map(|gate| name(&gate.name)).collect(),
            volumes: volumes().filter_map(|volume| Volume::of(volume, &mut name)).collect(),
            owner: owner(pod, &mut name),
        }
    }

    fn claims(&mut self, pod: &v1::Pod) -> Box<[DeviceClaim]> {
        let wanted = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
        let made = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref());
        let of = |wanted: &v1::PodResourceClaim| {
            if let Some(claim) = &wanted.resource_claim_name {
                return DeviceClaim::Named(self.names.name(claim));
            }
            let made = made.into_iter().flatten().find(|made| made.name == wanted.name);
            match made.map(|made| made.resource_claim_name.as_deref()) {
                Some(Some(claim)) => DeviceClaim::Named(self.names.name(claim)),
                Some(None) => DeviceClaim::Unneeded,
                None => DeviceClaim::Awaited(self.names.name(&wanted.name)),
            }
        };
        wanted.into_iter().flatten().map(of).collect()
    }
}

/// The features that a node must declare to run a pod. Those that matter only when a pod is changed are none of the scheduler's
/// business.
fn features(spec: &v1::PodSpec) -> impl Iterator<Item = &'static str> {
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let restarts_all = containers.any(|container| {
        container.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers")
    });
    let maps_users = spec.host_network == Some(true) && spec.host_users == Some(false);
    let all =
        [(restarts_all, "RestartAllContainersOnContainerExits"), (maps_users, "UserNamespacesHostNetworkSupport")];
    all.into_iter().filter(|(needs, _)| *needs).map(|(_, feature)| feature)
}

/// Ports of the node that the containers take, without those of containers that only initialise.
fn ports(spec: &v1::PodSpec, mut name: impl FnMut(&str) -> Name) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        Some(HostPort { ip: name(ip), protocol, port: number })
    });
    taken.collect()
}

fn owner(pod: &v1::Pod, mut name: impl FnMut(&str) -> Name) -> Option<Owner> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true))?;
    match (&*owner.api_version, &*owner.kind) {
        ("apps/v1", "ReplicaSet") => Some(Owner::ReplicaSet(name(&owner.name))),
        ("apps/v1", "StatefulSet") => Some(Owner::StatefulSet(name(&owner.name))),
        ("v1", "ReplicationController") => Some(Owner::ReplicationController(name(&owner.name))),
        _ => None,
    }
}

/// An image's name as nodes tell it: with a tag.
fn with_tag(image: &str) -> String {
    let has_tag = image.rfind(':').is_some_and(|colon| image.rfind('/').is_none_or(|slash| colon > slash));
    if has_tag { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_one_template_share_what_is_remembered_of_them() {
        let mut projector = Projector::new();
        let mut pod = |name: &str| {
            let pod = json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "10m"}}}]},
            });
            projector.pod(&serde_json::from_value(pod).unwrap())
        };
        let (a, b) = (pod("a"), pod("b"));
        assert!(Arc::ptr_eq(&a.spec, &b.spec) && Arc::ptr_eq(&a.labels, &b.labels));
        assert_eq!(a.spec.images[0], *"nginx:latest");
        assert_eq!(a.spec.requests.milli_cpu, 10);
    }

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        let rows = [
            ("root", "root:latest"),
            ("gcr.io:5000/test/a", "gcr.io:5000/test/a:latest"),
            ("gcr.io:5000/test/a:v1", "gcr.io:5000/test/a:v1"),
            ("a@sha256:0123", "a@sha256:0123"),
        ];
        for (image, expected) in rows {
            assert_eq!(with_tag(image), expected);
        }
    }
}
