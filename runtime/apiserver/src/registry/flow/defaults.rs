//! The schemas and levels that every cluster has: two that it can't do without, and those that keep a noisy client from
//! starving nodes and controllers.

use serde_json::{Value, json};

/// Name, shares, percentage that may be lent, and, where requests wait, queues and hand size.
type Level = (&'static str, i64, i64, Option<(i64, i64)>);

const LEVELS: &[Level] = &[
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];

fn named(name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}});
    json!({"metadata": metadata, "spec": spec})
}

/// The priority levels.
pub(crate) fn levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = |&(name, shares, lendable, queues): &Level| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand)) => {
                json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}})
            }
        };
        let limits =
            json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        named(name, json!({"type": "Limited", "limited": limits}))
    };
    std::iter::once(named("exempt", exempt)).chain(LEVELS.iter().map(limited)).collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|n| json!({"kind": "Group", "group": {"name": n}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|n| json!({"kind": "User", "user": {"name": n}})).collect()
}

fn system_accounts() -> Vec<Value> {
    vec![json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}})]
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn schema(name: &str, level: &str, precedence: i64, by: &str, rules: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rules],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    named(name, spec)
}

/// Whatever these subjects ask for.
fn all(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

/// The flow schemas.
pub(crate) fn schemas() -> Vec<Value> {
    const LEASES: &str = "coordination.k8s.io";
    let everyone = || groups(&["system:unauthenticated", "system:authenticated"]);
    let probes = json!({
        "subjects": everyone(),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    });
    let mut leaders = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    leaders.extend(system_accounts());
    let election = json!({
        "subjects": leaders,
        "resourceRules": [resources(&["get", "create", "update"], LEASES, &["leases"], false)],
    });
    let heartbeats = json!({
        "subjects": groups(&["system:nodes"]),
        "resourceRules": [
            resources(&["*"], "", &["nodes", "nodes/status"], true), resources(&["*"], LEASES, &["leases"], false),
        ],
    });
    vec![
        schema("exempt", "exempt", 1, "", all(groups(&["system:masters"]))),
        schema("probes", "exempt", 2, "", probes),
        schema("system-leader-election", "leader-election", 100, "ByUser", election),
        schema("system-node-high", "node-high", 400, "ByUser", heartbeats),
        schema("system-nodes", "system", 500, "ByUser", all(groups(&["system:nodes"]))),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            all(users(&["system:kube-controller-manager"])),
        ),
        schema("kube-scheduler", "workload-high", 800, "ByNamespace", all(users(&["system:kube-scheduler"]))),
        schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", all(system_accounts())),
        schema("service-accounts", "workload-low", 9000, "ByUser", all(groups(&["system:serviceaccounts"]))),
        schema("global-default", "global-default", 9900, "ByUser", all(everyone())),
        schema("catch-all", "catch-all", 10000, "ByUser", all(everyone())),
    ]
}
