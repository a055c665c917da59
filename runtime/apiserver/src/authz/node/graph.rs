//! Which objects have to do with which node: those that its pods name, and what these lead to. Pods are few on a node, so
//! a question is answered by looking through the node's pods, and nothing is indexed by what they name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_storage::Record;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::gateways::Gateways;
use super::ingresses::Ingresses;
use super::references;
use crate::authz::follow::View;

const PODS: &str = "/registry/core/pods/";
const VOLUMES: &str = "/registry/core/persistentvolumes/";
const ATTACHMENTS: &str = "/registry/storage.k8s.io/volumeattachments/";
/// The label with the node that a volume's files are on, for those that the cluster makes itself.
pub(super) const LOCAL: &str = "kiln.dev/local-path-node";
const SLICES: &str = "/registry/resource.k8s.io/resourceslices/";
const INGRESSES: &str = "/registry/networking.k8s.io/ingresses/";
const INGRESS_CLASSES: &str = "/registry/networking.k8s.io/ingressclasses/";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Kinds of objects that are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    /// A volume whose files are on the node.
    LocalVolume,
    Account,
    ResourceClaim,
    Attachment,
    Slice,
    Pod,
}

/// What of a pod's state may change what it refers to. Read out of every write, so that the rest is read seldom.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Brief {
    #[serde(default)]
    metadata: BriefMeta,
    #[serde(default)]
    spec: BriefSpec,
    #[serde(default)]
    status: BriefStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct BriefMeta {
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BriefSpec {
    #[serde(default)]
    node_name: String,
    /// Only how many there are matters: one that is there never changes.
    #[serde(default)]
    ephemeral_containers: Vec<IgnoredAny>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BriefStatus {
    #[serde(default)]
    resource_claim_statuses: Vec<Value>,
    #[serde(default)]
    extended_resource_claim_status: Value,
}

/// A pod on a node.
#[derive(Debug)]
struct Pod {
    brief: Brief,
    namespace: String,
    account: String,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
    claims: Vec<String>,
    resource_claims: Vec<String>,
}

impl Pod {
    fn new(brief: Brief, namespace: &str, pod: &Value) -> Self {
        let mut out = Self {
            brief,
            namespace: namespace.into(),
            account: String::new(),
            secrets: BTreeSet::new(),
            config_maps: BTreeSet::new(),
            claims: Vec::new(),
            resource_claims: Vec::new(),
        };
        // Admission refuses such pods if they name anything; should one be there all the same, it opens nothing.
        if meta::annotation(pod, MIRROR).is_some() {
            return out;
        }
        out.account = meta::text(pod, &["spec", "serviceAccountName"]).into();
        out.secrets = references::secrets(pod).into_iter().map(str::to_owned).collect();
        out.config_maps = references::config_maps(pod).into_iter().map(str::to_owned).collect();
        out.claims = references::claims(pod);
        out.resource_claims = references::resource_claims(pod).into_iter().map(str::to_owned).collect();
        out
    }
}

/// A bound volume: whose claim it is, and the Secrets it is mounted with.
#[derive(Debug)]
struct Volume {
    claim: (String, String),
    secrets: Vec<(String, String)>,
}

/// All pods on nodes, and what else nodes have to do with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// By key.
    pods: HashMap<Arc<str>, Arc<Pod>>,
    /// The keys of each node's pods.
    by_node: HashMap<String, BTreeSet<Arc<str>>>,
    volumes: HashMap<String, Arc<Volume>>,
    /// The node of each, by kind and name.
    attachments: HashMap<String, String>,
    local_volumes: HashMap<String, String>,
    slices: HashMap<String, String>,
    ingresses: Ingresses,
    gateways: Gateways,
}

impl Graph {
    /// True if the object concerns the node.
    pub(crate) fn relates(&self, node: &str, target: Target, namespace: &str, name: &str) -> bool {
        let of = |map: &HashMap<String, String>| map.get(name).is_some_and(|n| n == node);
        match target {
            Target::Attachment => of(&self.attachments),
            Target::Slice => of(&self.slices),
            Target::LocalVolume => of(&self.local_volumes),
            Target::Volume => of(&self.local_volumes) || self.volumes.get(name).is_some_and(|v| self.claimed(node, v)),
            Target::Secret => {
                self.pods_of(node).any(|p| p.namespace == namespace && p.secrets.contains(name))
                    || self.ingresses.name(namespace, name)
                    || self.gateways.name(namespace, name)
                    || self
                        .volumes
                        .values()
                        .any(|v| v.secrets.iter().any(|(ns, n)| ns == namespace && n == name) && self.claimed(node, v))
            }
            Target::Pod => {
                let key = format!("{PODS}{namespace}/{name}");
                self.by_node.get(node).is_some_and(|keys| keys.contains(key.as_str()))
            }
            Target::ConfigMap | Target::Claim | Target::Account | Target::ResourceClaim => {
                self.pods_of(node).filter(|p| p.namespace == namespace).any(|p| match target {
                    Target::ConfigMap => p.config_maps.contains(name),
                    Target::Claim => p.claims.iter().any(|c| c == name),
                    Target::Account => p.account == name,
                    _ => p.resource_claims.iter().any(|c| c == name),
                })
            }
        }
    }

    fn pods_of(&self, node: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.by_node.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }

    /// True if a pod on the node has the volume's claim.
    fn claimed(&self, node: &str, volume: &Volume) -> bool {
        let (namespace, name) = &volume.claim;
        self.pods_of(node).any(|p| p.namespace == *namespace && p.claims.contains(name))
    }

    fn put_pod(&mut self, record: &Record) {
        let Ok(brief) = serde_json::from_slice::<Brief>(&record.value) else { return };
        let known = self.pods.get(&record.key);
        if known.is_some_and(|p| p.brief == brief) || (known.is_none() && brief.spec.node_name.is_empty()) {
            return;
        }
        self.remove_pod(&record.key);
        let Ok(pod) = serde_json::from_slice::<Value>(&record.value) else { return };
        let node = brief.spec.node_name.clone();
        if node.is_empty() {
            return;
        }
        let key = record.key.clone();
        self.by_node.entry(node).or_default().insert(key.clone());
        self.pods.insert(key, Arc::new(Pod::new(brief, meta::namespace(&pod), &pod)));
    }

    fn remove_pod(&mut self, key: &Arc<str>) {
        let Some(pod) = self.pods.remove(key) else { return };
        let node = &pod.brief.spec.node_name;
        if let Some(keys) = self.by_node.get_mut(node) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    fn put_volume(&mut self, record: &Record, name: &str) {
        self.remove_volume(name);
        let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { return };
        let claim = |key: &str| meta::text(&object, &["spec", "claimRef", key]).to_owned();
        let claim = (claim("namespace"), claim("name"));
        if !claim.1.is_empty() {
            let secrets = volume_secrets(&object["spec"], &claim.0);
            self.volumes.insert(name.to_owned(), Arc::new(Volume { claim, secrets }));
        }
        let node = meta::text(&object, &["metadata", "labels", LOCAL]);
        if !node.is_empty() {
            self.local_volumes.insert(name.to_owned(), node.to_owned());
        }
    }

    fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
        self.local_volumes.remove(name);
    }
}

/// The Secrets that a node needs to mount a volume, with their namespaces.
fn volume_secrets(spec: &Value, home: &str) -> Vec<(String, String)> {
    const REFERENCES: &[(&str, &str)] = &[
        ("cephfs", "secretRef"),
        ("cinder", "secretRef"),
        ("flexVolume", "secretRef"),
        ("rbd", "secretRef"),
        ("scaleIO", "secretRef"),
        ("iscsi", "secretRef"),
        ("storageos", "secretRef"),
        ("csi", "nodePublishSecretRef"),
        ("csi", "nodeStageSecretRef"),
        ("csi", "nodeExpandSecretRef"),
    ];
    let place = |namespace: &str| if namespace.is_empty() { home.to_owned() } else { namespace.to_owned() };
    let mut out = Vec::new();
    for (source, field) in REFERENCES {
        let name = meta::text(spec, &[source, field, "name"]);
        if !name.is_empty() {
            out.push((place(meta::text(spec, &[source, field, "namespace"])), name.to_owned()));
        }
    }
    let name = meta::text(spec, &["azureFile", "secretName"]);
    if !name.is_empty() {
        out.push((place(meta::text(spec, &["azureFile", "secretNamespace"])), name.to_owned()));
    }
    out
}

impl View for Graph {
    const PREFIXES: &'static [&'static str] = &[
        PODS,
        VOLUMES,
        ATTACHMENTS,
        SLICES,
        INGRESSES,
        INGRESS_CLASSES,
        Gateways::PREFIXES[0],
        Gateways::PREFIXES[1],
        Gateways::PREFIXES[2],
    ];

    fn put(&mut self, record: &Record) {
        if record.key.starts_with(PODS) {
            self.put_pod(record);
        } else if let Some(name) = record.key.strip_prefix(VOLUMES) {
            self.put_volume(record, name);
        } else {
            let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { return };
            let node = meta::text(&object, &["spec", "nodeName"]).to_owned();
            if let Some(place) = record.key.strip_prefix(INGRESSES) {
                self.ingresses.put(place, &object);
            } else if let Some(name) = record.key.strip_prefix(INGRESS_CLASSES) {
                self.ingresses.put_class(name, &object);
            } else if let Some(name) = record.key.strip_prefix(ATTACHMENTS) {
                self.attachments.insert(name.to_owned(), node);
            } else if let Some(name) = record.key.strip_prefix(SLICES) {
                self.slices.insert(name.to_owned(), node);
            } else {
                self.gateways.put(&record.key, &object);
            }
        }
    }

    fn remove(&mut self, record: &Record) {
        if record.key.starts_with(PODS) {
            self.remove_pod(&record.key);
        } else if let Some(name) = record.key.strip_prefix(VOLUMES) {
            self.remove_volume(name);
        } else if let Some(name) = record.key.strip_prefix(ATTACHMENTS) {
            self.attachments.remove(name);
        } else if let Some(name) = record.key.strip_prefix(SLICES) {
            self.slices.remove(name);
        } else if let Some(place) = record.key.strip_prefix(INGRESSES) {
            self.ingresses.remove(place);
        } else if let Some(name) = record.key.strip_prefix(INGRESS_CLASSES) {
            self.ingresses.remove_class(name);
        } else {
            self.gateways.remove(&record.key);
        }
    }
}
