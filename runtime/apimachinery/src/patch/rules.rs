//! Which lists merge by a key, which as sets, and which are replaced: data, by kind and path.

/// How a list in a strategic merge patch meets the list of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListRule {
    /// The patch's list replaces the object's.
    Atomic,
    /// Elements are objects with this key, and elements of equal keys merge.
    Key(&'static str),
    /// Elements are plain values; new ones are added.
    Set,
}

struct Row {
    /// Kind the row is for; empty for every kind.
    kind: &'static str,
    /// Last names of the path, lists' indices left out.
    path: &'static [&'static str],
    rule: ListRule,
}

const fn row(path: &'static [&'static str], rule: ListRule) -> Row {
    Row { kind: "", path, rule }
}

use ListRule::{Atomic, Key, Set};

/// The first row whose kind and path fit counts. Source: the `patchStrategy` and `patchMergeKey` notes in the API reference.
const ROWS: &[Row] = &[
    Row { kind: "CertificateSigningRequest", path: &["status", "conditions"], rule: Atomic },
    Row { kind: "ServiceAccount", path: &["secrets"], rule: Key("name") },
    Row { kind: "ServiceAccount", path: &["imagePullSecrets"], rule: Atomic },
    row(&["metadata", "finalizers"], Set),
    row(&["metadata", "ownerReferences"], Key("uid")),
    row(&["status", "conditions"], Key("type")),
    row(&["status", "addresses"], Key("type")),
    row(&["status", "podIPs"], Key("ip")),
    row(&["status", "hostIPs"], Key("ip")),
    row(&["spec", "podCIDRs"], Set),
    row(&["spec", "containers"], Key("name")),
    row(&["spec", "initContainers"], Key("name")),
    row(&["spec", "ephemeralContainers"], Key("name")),
    row(&["spec", "volumes"], Key("name")),
    row(&["spec", "imagePullSecrets"], Key("name")),
    row(&["spec", "hostAliases"], Key("ip")),
    row(&["spec", "topologySpreadConstraints"], Key("topologyKey")),
    row(&["spec", "schedulingGates"], Key("name")),
    row(&["spec", "resourceClaims"], Key("name")),
    row(&["containers", "env"], Key("name")),
    row(&["initContainers", "env"], Key("name")),
    row(&["ephemeralContainers", "env"], Key("name")),
    row(&["containers", "ports"], Key("containerPort")),
    row(&["initContainers", "ports"], Key("containerPort")),
    row(&["ephemeralContainers", "ports"], Key("containerPort")),
    row(&["containers", "volumeMounts"], Key("mountPath")),
    row(&["initContainers", "volumeMounts"], Key("mountPath")),
    row(&["ephemeralContainers", "volumeMounts"], Key("mountPath")),
    row(&["containers", "volumeDevices"], Key("devicePath")),
    row(&["initContainers", "volumeDevices"], Key("devicePath")),
    row(&["ephemeralContainers", "volumeDevices"], Key("devicePath")),
    Row { kind: "Service", path: &["spec", "ports"], rule: Key("port") },
    Row { kind: "MutatingWebhookConfiguration", path: &["webhooks"], rule: Key("name") },
    Row { kind: "ValidatingWebhookConfiguration", path: &["webhooks"], rule: Key("name") },
];

/// The rule of the list at `path` (field names only) in objects of `kind`.
pub fn rule(kind: &str, path: &[&str]) -> ListRule {
    ROWS.iter().find(|r| (r.kind.is_empty() || r.kind == kind) && path.ends_with(r.path)).map_or(Atomic, |r| r.rule)
}
