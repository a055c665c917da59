//! Who may do what: accounts, certificates, RBAC and the questions about access.

mod account;
mod cells;
mod columns;
pub(crate) mod csr;
mod rbac;

use columns as c;

use crate::registry::resource::{Resource, core, v1};
use crate::reviews::Review;

const CERTIFICATES: &str = "certificates.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("ServiceAccount", "serviceaccounts").short(&["sa"]).columns(c::SERVICE_ACCOUNT)
            .subresource_as("token", &["create"], (AUTHENTICATION, "v1", "TokenRequest")).strategy(account::Accounts),
        v1(CERTIFICATES, "CertificateSigningRequest", "certificatesigningrequests").cluster().short(&["csr"]).with_status()
            .subresource("approval", &["get", "patch", "update"]).selectable(&["spec.signerName"])
            .columns(c::CSR).strategy(csr::Requests),
        v1(RBAC, "ClusterRole", "clusterroles").cluster().columns(c::ROLE)
            .create_on_update().strategy(rbac::Roles),
        v1(RBAC, "ClusterRoleBinding", "clusterrolebindings").cluster().columns(c::BINDING)
            .create_on_update().strategy(rbac::Bindings { cluster: true }),
        v1(RBAC, "Role", "roles").columns(c::ROLE).create_on_update().strategy(rbac::Roles),
        v1(RBAC, "RoleBinding", "rolebindings").columns(c::BINDING)
            .create_on_update().strategy(rbac::Bindings { cluster: false }),
        v1(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews").cluster().review(Review::SelfAccess),
        v1(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews").cluster().review(Review::Access),
        v1(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews").review(Review::LocalAccess),
        v1(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews").cluster().review(Review::SelfRules),
        v1(AUTHENTICATION, "TokenReview", "tokenreviews").cluster().review(Review::Token),
        v1(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews").cluster().review(Review::SelfSubject),
    ]
}
