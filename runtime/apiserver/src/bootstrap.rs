//! What a cluster has from its first start: namespaces, default roles and bindings.

use kiln_apimachinery::Status;
use kiln_apimachinery::status::Reason;
use serde_json::json;

use crate::authz::defaults;
use crate::server::ApiServer;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// Creates what is missing. What is there stays as it is, so an operator's changes hold.
pub(crate) async fn run(server: &ApiServer) -> Result<(), Status> {
    let store = server.store();
    let mut wanted = Vec::new();
    wanted.extend(NAMESPACES.iter().map(|name| ("", "namespaces", json!({"metadata": {"name": name}}))));
    wanted.extend(defaults::cluster_roles().into_iter().map(|role| (RBAC, "clusterroles", role)));
    wanted.extend(defaults::cluster_role_bindings().into_iter().map(|binding| (RBAC, "clusterrolebindings", binding)));
    let writes = wanted.into_iter().map(|(group, plural, object)| async move {
        match store.create(group, plural, object).await {
            Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
            _ => Ok(()),
        }
    });
    // Together, so that they share commits.
    futures_util::future::join_all(writes).await.into_iter().collect()
}
