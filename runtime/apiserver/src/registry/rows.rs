//! The table of built-in kinds. A plain kind is one row.

use super::columns as c;
use super::kinds::{config, csr, event, lease, namespace, node, pod, rbac, service};
use super::resource::Resource;
use crate::reviews::Review;

const APPS: &str = "apps";
const CERTIFICATES: &str = "certificates.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const EVENTS: &str = "events.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

fn core(kind: &str, plural: &str) -> Resource {
    Resource::new("", "v1", kind, plural)
}

fn v1(group: &str, kind: &str, plural: &str) -> Resource {
    Resource::new(group, "v1", kind, plural)
}

/// A workload kind of `apps`.
fn workload(kind: &str, plural: &str, short: &str) -> Resource {
    v1(APPS, kind, plural).short(&[short]).in_all().with_status().fields(&["spec", "status"]).generations()
}

// One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("Namespace", "namespaces").cluster().short(&["ns"]).with_status().subresource("finalize", &["update"])
            .fields(&["spec", "status"]).selectable(&["status.phase"]).columns(c::NAMESPACE).strategy(namespace::Namespaces),
        core("Node", "nodes").cluster().short(&["no"]).with_status().fields(&["spec", "status"])
            .selectable(&["spec.unschedulable"]).columns(c::NODE).strategy(node::Nodes),
        core("ConfigMap", "configmaps").short(&["cm"]).typed(config::CONFIG_MAP)
            .columns(c::CONFIG_MAP).strategy(config::ConfigMaps),
        core("Secret", "secrets").typed(config::SECRET).selectable(&["type"])
            .columns(c::SECRET).strategy(config::Secrets),
        core("Event", "events").short(&["ev"]).fields(event::FIELDS).selectable(event::SELECTABLE).columns(c::EVENT)
            .create_on_update().strategy(event::Events),
        core("ServiceAccount", "serviceaccounts").short(&["sa"])
            .fields(&["secrets", "imagePullSecrets", "automountServiceAccountToken"]).columns(c::SERVICE_ACCOUNT),
        core("Service", "services").short(&["svc"]).in_all().with_status().fields(&["spec", "status"])
            .selectable(&["spec.clusterIP", "spec.type"]).columns(c::SERVICE).create_on_update().strategy(service::Services),
        core("Endpoints", "endpoints").short(&["ep"]).fields(&["subsets"]).columns(c::ENDPOINTS).create_on_update(),
        core("Pod", "pods").short(&["po"]).in_all().with_status().fields(&["spec", "status"]).generations()
            .selectable(&["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
                "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"])
            .columns(c::POD).strategy(pod::Pods),
        core("PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]).with_status().fields(&["spec", "status"]),
        core("PersistentVolume", "persistentvolumes").cluster().short(&["pv"]).with_status().fields(&["spec", "status"]),
        core("ReplicationController", "replicationcontrollers").short(&["rc"]).in_all().with_status().fields(&["spec", "status"]).generations(),
        core("ResourceQuota", "resourcequotas").short(&["quota"]).with_status().fields(&["spec", "status"]),
        core("LimitRange", "limitranges").short(&["limits"]).fields(&["spec"]),
        v1(COORDINATION, "Lease", "leases").fields(&["spec"]).columns(c::LEASE).create_on_update().conditional_update()
            .strategy(lease::Leases),
        v1(EVENTS, "Event", "events").short(&["ev"]).fields(event::NEW_FIELDS).selectable(event::SELECTABLE).columns(c::EVENT)
            .create_on_update().stored_as("", "events", event::CONVERSION).strategy(event::Events),
        v1(CERTIFICATES, "CertificateSigningRequest", "certificatesigningrequests").cluster().short(&["csr"]).with_status()
            .subresource("approval", &["get", "patch", "update"]).fields(&["spec", "status"]).selectable(&["spec.signerName"])
            .columns(c::CSR).strategy(csr::Requests),
        v1(RBAC, "ClusterRole", "clusterroles").cluster().fields(&["rules", "aggregationRule"]).columns(c::ROLE)
            .create_on_update().strategy(rbac::Roles),
        v1(RBAC, "ClusterRoleBinding", "clusterrolebindings").cluster().fields(&["subjects", "roleRef"]).columns(c::BINDING)
            .create_on_update().strategy(rbac::Bindings { cluster: true }),
        v1(RBAC, "Role", "roles").fields(&["rules"]).columns(c::ROLE).create_on_update().strategy(rbac::Roles),
        v1(RBAC, "RoleBinding", "rolebindings").fields(&["subjects", "roleRef"]).columns(c::BINDING)
            .create_on_update().strategy(rbac::Bindings { cluster: false }),
        v1("discovery.k8s.io", "EndpointSlice", "endpointslices").fields(&["addressType", "endpoints", "ports"]).generations(),
        workload("Deployment", "deployments", "deploy"),
        workload("ReplicaSet", "replicasets", "rs"),
        workload("StatefulSet", "statefulsets", "sts"),
        workload("DaemonSet", "daemonsets", "ds"),
        v1(APPS, "ControllerRevision", "controllerrevisions").fields(&["data", "revision"]),
        v1("scheduling.k8s.io", "PriorityClass", "priorityclasses").cluster().short(&["pc"])
            .fields(&["value", "globalDefault", "description", "preemptionPolicy"]),
        v1("node.k8s.io", "RuntimeClass", "runtimeclasses").cluster().fields(&["handler", "overhead", "scheduling"]),
        v1(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews").cluster().review(Review::SelfAccess),
        v1(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews").cluster().review(Review::Access),
        v1(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews").review(Review::LocalAccess),
        v1(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews").cluster().review(Review::SelfRules),
        v1(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews").cluster().review(Review::SelfSubject),
    ]
}
