//! Admission policies in CEL, with bindings, parameters and variables.
#![allow(clippy::unwrap_used, reason = "tests may unwrap in their helpers too")]

use crate::common;

use common::{Api, MAPS, map};
use serde_json::{Value, json};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "d"}]}},
        },
    })
}

fn rules(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}]})
}

async fn policy(api: &Api, mutating: bool, spec: Value, binding: Value) {
    let kind = if mutating { "mutating" } else { "validating" };
    let object = json!({"metadata": {"name": "p.example.com"}, "spec": spec});
    api.post(&format!("{BASE}/{kind}admissionpolicies"), object).await.good();
    let mut binding = binding;
    binding["policyName"] = json!("p.example.com");
    let object = json!({"metadata": {"name": "b.example.com"}, "spec": binding});
    api.post(&format!("{BASE}/{kind}admissionpolicybindings"), object).await.good();
}

#[tokio::test]
async fn a_policy_refuses_what_breaks_its_rules_with_its_message() {
    let api = Api::new().await;
    let spec = json!({
        "matchConstraints": rules("apps", "deployments"),
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "isBig", "expression": "variables.replicas > 5"},
        ],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants replicas > 1, has ' + string(variables.replicas)"},
            {"expression": "!variables.isBig", "message": "too big", "reason": "Forbidden"},
        ],
    });
    policy(&api, false, spec, json!({"validationActions": ["Deny"]})).await;
    let refused = api.post(DEPLOYMENTS, deployment("a", 1)).await;
    assert_eq!(
        refused.failed(422),
        "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'p.example.com' with binding 'b.example.com' denied \
         request: wants replicas > 1, has 1"
    );
    assert!(api.post(DEPLOYMENTS, deployment("a", 9)).await.failed(403).ends_with("denied request: too big"));
    api.post(DEPLOYMENTS, deployment("a", 2)).await.good();
}

#[tokio::test]
async fn bindings_warn_and_take_parameters_and_the_authorizer_is_asked() {
    let api = Api::new().await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": rules("", "secrets"),
        "matchConditions": [{"name": "named", "expression": "object.metadata.name != 'free'"}],
        "validations": [
            {"expression": "object.metadata.name.startsWith(params.data.prefix)"},
            {"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"},
        ],
    });
    let binding = json!({
        "validationActions": ["Warn"],
        "paramRef": {"name": "settings", "namespace": "default", "parameterNotFoundAction": "Deny"},
    });
    policy(&api, false, spec, binding).await;
    api.post(MAPS, json!({"metadata": {"name": "settings"}, "data": {"prefix": "x-"}})).await.good();
    let secrets = "/api/v1/namespaces/default/secrets";
    let warned = api.post(secrets, json!({"metadata": {"name": "a"}})).await;
    let text = warned.headers["warning"].to_str().unwrap().to_owned();
    assert!(text.contains("Validation failed for ValidatingAdmissionPolicy 'p.example.com' with binding 'b.example.com': failed expression: object.metadata.name.startsWith(params.data.prefix)"), "{text}");
    for name in ["x-a", "free"] {
        let good = api.post(secrets, json!({"metadata": {"name": name}})).await;
        assert!(good.headers.get("warning").is_none());
        good.good();
    }
}

#[tokio::test]
async fn mutations_merge_what_they_make_and_patch() {
    let api = Api::new().await;
    let spec = json!({
        "matchConstraints": rules("apps", "deployments"), "reinvocationPolicy": "Never", "failurePolicy": "Fail",
        "variables": [{"name": "wanted", "expression": "object.spec.replicas + 1"}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{annotations: {'mutated': 'yes'}}, spec: Object.spec{replicas: variables.wanted}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}]"}},
        ],
    });
    policy(&api, true, spec, json!({})).await;
    let made = api.post(DEPLOYMENTS, deployment("a", 1)).await.good();
    assert_eq!((&made["spec"]["replicas"], &made["metadata"]["annotations"]), (&json!(2), &json!({"mutated": "yes"})));
    assert_eq!(made["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["name"], "c");
}

#[tokio::test]
async fn expressions_that_do_not_compile_are_refused_and_those_that_fail_deny() {
    let api = Api::new().await;
    let spec =
        json!({"matchConstraints": rules("", "configmaps"), "validations": [{"expression": "object.data.k == nope"}]});
    let object = json!({"metadata": {"name": "p"}, "spec": spec});
    let refused = api.post(&format!("{BASE}/validatingadmissionpolicies"), object).await;
    assert!(refused.failed(422).contains("undeclared reference to 'nope' (in container '')"));
    let spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [{"expression": "object.data.missing == 'x'"}]});
    policy(&api, false, spec, json!({"validationActions": ["Deny"]})).await;
    let refused = api.post(MAPS, map("a")).await.failed(422);
    assert!(
        refused.ends_with("expression 'object.data.missing == 'x'' resulted in error: no such key: missing"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_expression_that_runs_away_is_stopped_and_denies() {
    let api = Api::new().await;
    let all = "object.data.all(k, object.data.all(l, object.data.all(m, object.data.all(n, k + l != m + n + 'x'))))";
    let spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [{"expression": all}]});
    policy(&api, false, spec, json!({"validationActions": ["Deny"]})).await;
    let data: serde_json::Map<String, Value> = (0..200).map(|i| (format!("k{i}"), json!("v"))).collect();
    let refused = api.post(MAPS, json!({"metadata": {"name": "a"}, "data": data})).await.failed(422);
    assert!(refused.contains("resulted in error: operation cancelled: actual cost limit exceeded"), "{refused}");
    api.post(MAPS, json!({"metadata": {"name": "b"}, "data": {"k": "v"}})).await.good();
}

#[tokio::test]
async fn expressions_that_do_not_fit_what_a_policy_matches_are_told_in_its_status() {
    let api = Api::new().await;
    let policies = format!("{BASE}/validatingadmissionpolicies");
    let policy = |name: &str, expression: &str, message: &str| {
        let validation = json!({"expression": expression, "messageExpression": message});
        json!({"metadata": {"name": name}, "spec": {"matchConstraints": rules("apps", "deployments"), "validations": [validation]}})
    };
    let fits =
        policy("fits", "object.spec.replicas > 1", "'has ' + string(object.spec.template.spec.containers.size())");
    let made = api.post(&policies, fits).await.good();
    assert_eq!((&made["status"]["observedGeneration"], &made["status"]["typeChecking"]), (&json!(1), &json!({})));
    let confused = policy("confused", "object.spec.replicas > '1'", "'has ' + object.spec.replicas");
    let mut made = api.post(&policies, confused).await.good();
    let warnings = made["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap().clone();
    let rows = [
        ("expression", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("messageExpression", "found no matching overload for '_+_' applied to '(string, int)'"),
    ];
    assert_eq!(warnings.len(), rows.len());
    for (warning, (field, why)) in warnings.iter().zip(rows) {
        assert_eq!(warning["fieldRef"], format!("spec.validations[0].{field}"));
        let text = warning["warning"].as_str().unwrap();
        assert!(
            text.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:") && text.contains(why),
            "{text}"
        );
    }
    made["spec"]["validations"] = json!([{"expression": "object.spec.nothing"}]);
    let changed = api.put(&format!("{policies}/confused"), made).await.good();
    let warning = &changed["status"]["typeChecking"]["expressionWarnings"][0];
    assert_eq!(
        (&changed["status"]["observedGeneration"], &warning["fieldRef"]),
        (&json!(2), &json!("spec.validations[0].expression"))
    );
    assert!(warning["warning"].as_str().unwrap().contains("undefined field 'nothing'"), "{warning}");
}
