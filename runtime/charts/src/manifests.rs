//! What the templates made, as manifests in the order of their kinds, and hooks.

use serde_json::Value;

use crate::ChartError;
use crate::yaml;

const HOOK: &str = "helm.sh/hook";
const WEIGHT: &str = "helm.sh/hook-weight";
const DELETE_POLICY: &str = "helm.sh/hook-delete-policy";

/// The order that kinds are installed in; what is not among them comes last, by its name.
const ORDER: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// An object of a release.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The template it comes from.
    pub source: String,
    /// As the template wrote it.
    pub text: String,
    /// What it says.
    pub object: Value,
}

/// An object that is made at an event of the release, and is no part of it.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The object.
    pub manifest: Manifest,
    /// When.
    pub events: Vec<Event>,
    /// Hooks of an event run by their weights, the smallest first.
    pub weight: i64,
    /// When it is deleted.
    pub policies: Vec<DeletePolicy>,
}

/// An event of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Before the first install.
    PreInstall,
    /// After it.
    PostInstall,
    /// Before an upgrade.
    PreUpgrade,
    /// After it.
    PostUpgrade,
    /// Before the uninstall.
    PreDelete,
    /// After it.
    PostDelete,
    /// Before a rollback.
    PreRollback,
    /// After it.
    PostRollback,
    /// When somebody asks for tests.
    Test,
}

impl Event {
    /// As annotations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::PostInstall => "post-install",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::PreDelete => "pre-delete",
            Self::PostDelete => "post-delete",
            Self::PreRollback => "pre-rollback",
            Self::PostRollback => "post-rollback",
            Self::Test => "test",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "pre-install" => Self::PreInstall,
            "post-install" => Self::PostInstall,
            "pre-upgrade" => Self::PreUpgrade,
            "post-upgrade" => Self::PostUpgrade,
            "pre-delete" => Self::PreDelete,
            "post-delete" => Self::PostDelete,
            "pre-rollback" => Self::PreRollback,
            "post-rollback" => Self::PostRollback,
            "test" | "test-success" => Self::Test,
            _ => return None,
        })
    }
}

/// When a hook is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletePolicy {
    /// Once it succeeded.
    Succeeded,
    /// Once it failed.
    Failed,
    /// Before it is made again.
    BeforeCreation,
}

impl DeletePolicy {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "hook-succeeded" => Self::Succeeded,
            "hook-failed" => Self::Failed,
            "before-hook-creation" => Self::BeforeCreation,
            _ => return None,
        })
    }
}

/// The hooks of texts that were made before, by the templates' names.
///
/// # Errors
/// When a text is no manifest.
pub fn hooks(texts: Vec<(String, String)>) -> Result<Vec<Hook>, ChartError> {
    sorted(texts).map(|(_, hooks)| hooks)
}

/// Sorts what templates made, by their names.
pub(crate) fn sorted(files: Vec<(String, String)>) -> Result<(Vec<Manifest>, Vec<Hook>), ChartError> {
    let (mut manifests, mut hooks) = (Vec::new(), Vec::new());
    for (source, content) in files {
        for text in split(&content) {
            let object = yaml::parse(text)
                .map_err(|error| ChartError::Manifest(format!("YAML parse error on {source}: {error}")))?;
            if object.is_null() {
                continue;
            }
            let manifest = Manifest { source: source.clone(), text: text.to_owned(), object };
            let annotation = |name: &str| manifest.object["metadata"]["annotations"][name].as_str().unwrap_or_default();
            let words =
                |text: &str| -> Vec<String> { text.split(',').map(|word| word.trim().to_lowercase()).collect() };
            if annotation(HOOK).is_empty() {
                manifests.push(manifest);
                continue;
            }
            let events: Vec<Option<Event>> = words(annotation(HOOK)).iter().map(|word| Event::parse(word)).collect();
            let weight = annotation(WEIGHT).parse().unwrap_or_default();
            let mut policies: Vec<_> =
                words(annotation(DELETE_POLICY)).iter().filter_map(|word| DeletePolicy::parse(word)).collect();
            if policies.is_empty() {
                policies.push(DeletePolicy::BeforeCreation);
            }
            // One event that nobody knows, and it is never made.
            if let Some(events) = events.into_iter().collect() {
                hooks.push(Hook { manifest, events, weight, policies });
            }
        }
    }
    manifests.sort_by_cached_key(rank);
    hooks.sort_by_cached_key(|hook| rank(&hook.manifest));
    Ok((manifests, hooks))
}

/// Where a manifest stands among the others.
fn rank(manifest: &Manifest) -> (usize, String) {
    let kind = manifest.object["kind"].as_str().unwrap_or_default();
    match ORDER.iter().position(|known| *known == kind) {
        Some(at) => (at, String::new()),
        None => (ORDER.len(), kind.to_owned()),
    }
}

/// The texts between lines that begin with `---`.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") {
            parts.push(&text[from..at]);
            from = at + 3;
        }
        at += line.len();
    }
    parts.push(&text[from..]);
    // What ends a text stays: it may be a line's end that a block scalar keeps.
    parts.into_iter().map(str::trim_start).filter(|part| !part.trim().is_empty()).collect()
}
