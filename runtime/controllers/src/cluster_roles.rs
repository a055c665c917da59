//! Aggregated ClusterRoles: the rules of a role with an `aggregationRule` are those of the roles that it selects.

use kiln_apimachinery::{LabelSelector, meta};
use kiln_client::{Client, Informer, ListParams, ObjectRef, PatchKind, Store, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::reconcile::{Failure, Next, work};

const PATH: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// Runs the controller until the shutdown.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let informer = Informer::new(client.clone(), PATH, ListParams::default());
    let (queue, roles) = (WorkQueue::<ObjectRef>::default(), informer.store());
    let store = roles.clone();
    tokio::join!(
        informer.run(shutdown.clone(), |_| {
            // Any role may be part of any aggregated one; the roles that are are few.
            for role in store.list().iter().filter(|role| is_aggregated(role)) {
                queue.add(ObjectRef::of(role));
            }
        }),
        work("cluster-role-aggregation", &queue, &shutdown, |key| reconcile(&client, &roles, key)),
    );
}

fn is_aggregated(role: &Value) -> bool {
    role.get("aggregationRule").is_some_and(|rule| !rule.is_null())
}

async fn reconcile(client: &Client, roles: &Store, key: ObjectRef) -> Result<Next, Failure> {
    roles.synced().await;
    let Some(role) = roles.get(&key).filter(|role| is_aggregated(role)) else { return Ok(Next::Settled) };
    let rules = aggregate(&role, roles);
    if role["rules"].as_array().map_or(&[][..], Vec::as_slice) == rules {
        return Ok(Next::Settled);
    }
    let patch = json!({"metadata": {"uid": meta::uid(&role)}, "rules": rules});
    match client.patch::<Value>(&format!("{PATH}/{}", key.name), PatchKind::Merge, &patch).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Next::Settled),
    }
}

/// The rules of all selected roles, in the order of the selectors and of the roles' names, each once.
fn aggregate(role: &Value, roles: &Store) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
    for selector in selectors.filter_map(|s| LabelSelector::from_object(s).ok()) {
        for found in roles.list() {
            if meta::name(&found) == meta::name(role) || !selector.matches(&meta::labels(&found)) {
                continue;
            }
            for rule in found["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}
