//! The roles and bindings that exist from the first start: data, in Kubernetes' names.

use serde_json::{Value, json};

use crate::authn::token::DEFAULT_GROUP;

/// Verbs of one who may see.
const READ: &[&str] = &["get", "list", "watch"];
/// Verbs of one who may change.
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
/// Everything.
const ALL: &[&str] = &["*"];
const CREATE: &[&str] = &["create"];
const GET: &[&str] = &["get"];

const RBAC: &str = "rbac.authorization.k8s.io";
const CSR: &str = "certificates.k8s.io";

enum Grant {
    /// Verbs, groups, resources.
    On(&'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// The same for objects of these names only.
    Named(&'static [&'static str], &'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// Verbs on paths.
    Url(&'static [&'static str], &'static [&'static str]),
}
use Grant::{Named, On, Url};

struct Role {
    name: &'static str,
    grants: &'static [Grant],
}

const fn role(name: &'static str, grants: &'static [Grant]) -> Role {
    Role { name, grants }
}

/// What view, edit and admin see in a namespace.
#[rustfmt::skip]
const VIEW_CORE: &[&str] = &[
    "configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "replicationcontrollers",
    "replicationcontrollers/scale", "serviceaccounts", "services", "services/status", "bindings", "events", "limitranges",
    "namespaces/status", "pods/log", "pods/status", "replicationcontrollers/status", "resourcequotas", "resourcequotas/status",
    "namespaces",
];
#[rustfmt::skip]
const VIEW_APPS: &[&str] = &[
    "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status",
    "replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status",
];
const VIEW_BATCH: &[&str] = &["cronjobs", "cronjobs/status", "jobs", "jobs/status"];
const VIEW_NET: &[&str] = &["ingresses", "ingresses/status", "networkpolicies"];
#[rustfmt::skip]
const EDIT_CORE: &[&str] = &[
    "pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "configmaps", "events", "persistentvolumeclaims",
    "replicationcontrollers", "replicationcontrollers/scale", "secrets", "serviceaccounts", "services", "services/proxy",
];
#[rustfmt::skip]
const EDIT_APPS: &[&str] = &[
    "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets",
    "statefulsets/scale",
];

#[rustfmt::skip]
const ROLES: &[Role] = &[
    role("cluster-admin", &[On(ALL, &["*"], &["*"]), Url(ALL, &["*"])]),
    role("view", VIEW),
    role("edit", EDIT),
    role("admin", ADMIN),
    role("system:discovery", &[Url(GET, &["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"])]),
    role("system:monitoring", &[Url(GET, &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"])]),
    role("system:basic-user", &[
        On(CREATE, &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        On(CREATE, &["authentication.k8s.io"], &["selfsubjectreviews"]),
    ]),
    role("system:public-info-viewer", &[Url(GET, &["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
    role("system:auth-delegator", &[
        On(CREATE, &["authentication.k8s.io"], &["tokenreviews"]),
        On(CREATE, &["authorization.k8s.io"], &["subjectaccessreviews"]),
    ]),
    role("system:node", &[
        On(CREATE, &["authentication.k8s.io"], &["tokenreviews"]),
        On(CREATE, &["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"]),
        On(READ, &[""], &["services"]),
        On(&["create", "get", "list", "watch"], &[""], &["nodes"]),
        On(&["patch", "update"], &[""], &["nodes/status", "nodes"]),
        On(&["create", "patch", "update"], &[""], &["events"]),
        On(READ, &[""], &["pods"]),
        On(&["create", "delete"], &[""], &["pods"]),
        On(&["patch", "update"], &[""], &["pods/status"]),
        On(CREATE, &[""], &["pods/eviction"]),
        On(READ, &[""], &["configmaps", "secrets"]),
        On(GET, &[""], &["persistentvolumeclaims", "persistentvolumes"]),
        On(&["create", "get", "list", "watch"], &[CSR], &["certificatesigningrequests"]),
        On(&["get", "create", "update", "patch", "delete"], &["coordination.k8s.io"], &["leases"]),
        On(CREATE, &[""], &["serviceaccounts/token"]),
        On(READ, &["node.k8s.io"], &["runtimeclasses"]),
    ]),
    role("system:node-bootstrapper", &[On(&["create", "get", "list", "watch"], &[CSR], &["certificatesigningrequests"])]),
    role("system:node-proxier", &[
        On(&["list", "watch"], &[""], &["services", "endpoints"]),
        On(READ, &[""], &["nodes"]),
        On(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
        On(&["list", "watch"], &["discovery.k8s.io"], &["endpointslices"]),
    ]),
    role("system:node-problem-detector", &[
        On(GET, &[""], &["nodes"]),
        On(&["patch"], &[""], &["nodes/status"]),
        On(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
    ]),
    role("system:heapster", &[On(READ, &[""], &["events", "namespaces", "nodes", "pods"]), On(READ, &["extensions"], &["deployments"])]),
    role("system:kube-dns", &[On(&["list", "watch"], &[""], &["endpoints", "services"])]),
    role("system:persistent-volume-provisioner", &[
        On(&["create", "delete", "get", "list", "watch"], &[""], &["persistentvolumes"]),
        On(&["get", "list", "update", "watch"], &[""], &["persistentvolumeclaims"]),
        On(READ, &["storage.k8s.io"], &["storageclasses"]),
        On(&["watch"], &[""], &["events"]),
        On(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
    ]),
    role("system:kubelet-api-admin", &[
        On(READ, &[""], &["nodes"]),
        On(&["proxy"], &[""], &["nodes"]),
        On(ALL, &[""], &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats", "nodes/configz", "nodes/healthz", "nodes/pods"]),
    ]),
    role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", &[On(CREATE, &[CSR], &["certificatesigningrequests/nodeclient"])]),
    role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", &[On(CREATE, &[CSR], &["certificatesigningrequests/selfnodeclient"])]),
    role("system:certificates.k8s.io:certificatesigningrequests:selfnodeserver", &[On(CREATE, &[CSR], &["certificatesigningrequests/selfnodeserver"])]),
    role("system:certificates.k8s.io:kube-apiserver-client-approver", &[Named(&["approve"], &[CSR], &["signers"], &["kubernetes.io/kube-apiserver-client"])]),
    role("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", &[Named(&["approve"], &[CSR], &["signers"], &["kubernetes.io/kube-apiserver-client-kubelet"])]),
    role("system:certificates.k8s.io:kubelet-serving-approver", &[Named(&["approve"], &[CSR], &["signers"], &["kubernetes.io/kubelet-serving"])]),
    role("system:certificates.k8s.io:legacy-unknown-approver", &[Named(&["approve"], &[CSR], &["signers"], &["kubernetes.io/legacy-unknown"])]),
    role("system:kube-scheduler", &[
        On(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]),
        On(CREATE, &["coordination.k8s.io"], &["leases"]),
        Named(&["get", "update"], &["coordination.k8s.io"], &["leases"], &["kube-scheduler"]),
        On(READ, &[""], &["nodes", "namespaces", "persistentvolumeclaims", "persistentvolumes", "replicationcontrollers", "services"]),
        On(&["delete", "get", "list", "watch"], &[""], &["pods"]),
        On(CREATE, &[""], &["pods/binding", "bindings"]),
        On(&["patch", "update"], &[""], &["pods/status"]),
        On(READ, &["apps"], &["replicasets", "statefulsets"]),
        On(READ, &["policy"], &["poddisruptionbudgets"]),
        On(READ, &["storage.k8s.io"], &["csinodes", "csidrivers", "csistoragecapacities", "storageclasses"]),
        On(CREATE, &["authentication.k8s.io"], &["tokenreviews"]),
        On(CREATE, &["authorization.k8s.io"], &["subjectaccessreviews"]),
    ]),
];

const VIEW: &[Grant] = &[
    On(READ, &[""], VIEW_CORE),
    On(READ, &["discovery.k8s.io"], &["endpointslices"]),
    On(READ, &["apps"], VIEW_APPS),
    On(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    On(READ, &["batch"], VIEW_BATCH),
    On(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    On(READ, &["networking.k8s.io"], VIEW_NET),
];
const EDIT: &[Grant] = &[
    On(READ, &[""], VIEW_CORE),
    On(READ, &["discovery.k8s.io"], &["endpointslices"]),
    On(READ, &["apps"], VIEW_APPS),
    On(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    On(READ, &["batch"], VIEW_BATCH),
    On(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    On(READ, &["networking.k8s.io"], VIEW_NET),
    On(READ, &[""], &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
    On(&["impersonate"], &[""], &["serviceaccounts"]),
    On(WRITE, &[""], EDIT_CORE),
    On(CREATE, &[""], &["pods/eviction", "serviceaccounts/token"]),
    On(WRITE, &["apps"], EDIT_APPS),
    On(WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
    On(WRITE, &["batch"], &["cronjobs", "jobs"]),
    On(WRITE, &["policy"], &["poddisruptionbudgets"]),
    On(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
    On(
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        &["coordination.k8s.io"],
        &["leases"],
    ),
];
const ADMIN: &[Grant] = &[
    On(READ, &[""], VIEW_CORE),
    On(READ, &["discovery.k8s.io"], &["endpointslices"]),
    On(READ, &["apps"], VIEW_APPS),
    On(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    On(READ, &["batch"], VIEW_BATCH),
    On(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    On(READ, &["networking.k8s.io"], VIEW_NET),
    On(READ, &[""], &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
    On(&["impersonate"], &[""], &["serviceaccounts"]),
    On(WRITE, &[""], EDIT_CORE),
    On(CREATE, &[""], &["pods/eviction", "serviceaccounts/token"]),
    On(WRITE, &["apps"], EDIT_APPS),
    On(WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
    On(WRITE, &["batch"], &["cronjobs", "jobs"]),
    On(WRITE, &["policy"], &["poddisruptionbudgets"]),
    On(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
    On(
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        &["coordination.k8s.io"],
        &["leases"],
    ),
    On(CREATE, &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
    On(
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        &[RBAC],
        &["rolebindings", "roles"],
    ),
];

/// Role and group.
#[rustfmt::skip]
const BINDINGS: &[(&str, &str, &str, &str)] = &[
    ("cluster-admin", "cluster-admin", "Group", "system:masters"),
    ("system:discovery", "system:discovery", "Group", "system:authenticated"),
    ("system:basic-user", "system:basic-user", "Group", "system:authenticated"),
    ("system:public-info-viewer", "system:public-info-viewer", "Group", "system:authenticated"),
    ("system:public-info-viewer", "system:public-info-viewer", "Group", "system:unauthenticated"),
    ("system:monitoring", "system:monitoring", "Group", "system:monitoring"),
    ("system:node-proxier", "system:node-proxier", "User", "system:kube-proxy"),
    ("system:kube-scheduler", "system:kube-scheduler", "User", "system:kube-scheduler"),
    ("kiln:node-bootstrapper", "system:node-bootstrapper", "Group", DEFAULT_GROUP),
    ("kiln:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", "Group", DEFAULT_GROUP),
    ("kiln:node-autoapprove-renewal", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "Group", "system:nodes"),
    ("kiln:node-autoapprove-serving", "system:certificates.k8s.io:certificatesigningrequests:selfnodeserver", "Group", "system:nodes"),
];

fn rule(grant: &Grant) -> Value {
    match grant {
        On(verbs, groups, resources) => json!({"verbs": verbs, "apiGroups": groups, "resources": resources}),
        Named(verbs, groups, resources, names) => {
            json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names})
        }
        Url(verbs, urls) => json!({"verbs": verbs, "nonResourceURLs": urls}),
    }
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

/// The cluster roles.
pub(crate) fn cluster_roles() -> Vec<Value> {
    let one = |r: &Role| json!({"metadata": metadata(r.name), "rules": r.grants.iter().map(rule).collect::<Vec<_>>()});
    ROLES.iter().map(one).collect()
}

/// The cluster role bindings.
pub(crate) fn cluster_role_bindings() -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for (name, role, kind, subject) in BINDINGS {
        let subject = json!({"kind": kind, "apiGroup": RBAC, "name": subject});
        let known = out.iter_mut().find(|b| b["metadata"]["name"] == *name);
        match known.and_then(|b| b["subjects"].as_array_mut()) {
            Some(subjects) => subjects.push(subject),
            None => out.push(json!({
                "metadata": metadata(name),
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [subject],
            })),
        }
    }
    out
}
