//! Flow schemas, priority levels, webhooks and admission policies: what they are given and what they may not say.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::Api;
use serde_json::{Value, json};

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// Posts each body, which must be refused with the complaint.
async fn all_refused(api: &Api, path: &str, kind: &str, name: &str, table: &[(Value, &str)]) {
    for (body, wanted) in table {
        let text = api.post(path, body.clone()).await.failed(422);
        assert_eq!(text, format!("{kind} {name:?} is invalid: {wanted}"), "{body}");
    }
}

#[tokio::test]
async fn a_cluster_has_the_flow_schemas_and_levels_of_upstream() {
    let api = Api::new().await;
    let schemas = api.get(&format!("{FLOW}/flowschemas")).await.good();
    let names = common::names(&schemas);
    assert_eq!(names.len(), 11, "{names:?}");
    let levels = api.get(&format!("{FLOW}/prioritylevelconfigurations")).await.good();
    assert_eq!(
        common::names(&levels),
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    for schema in schemas["items"].as_array().unwrap() {
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap();
        assert!(common::names(&levels).contains(&level), "{level}");
    }
    // What is fixed stays as it is, and what is not changes.
    let one = format!("{FLOW}/prioritylevelconfigurations/catch-all");
    let change = json!({"spec": {"limited": {"nominalConcurrencyShares": 6}}});
    let text = api.patch("merge", &one, change.clone()).await.failed(422);
    assert!(text.ends_with("spec of 'catch-all' must equal the fixed value"), "{text}");
    let one = format!("{FLOW}/prioritylevelconfigurations/system");
    assert_eq!(api.patch("merge", &one, change).await.good()["metadata"]["generation"], 2);
    let exempt = json!({"spec": {"exempt": {"nominalConcurrencyShares": 10}}});
    api.patch("merge", &format!("{FLOW}/prioritylevelconfigurations/exempt"), exempt).await.good();
}

#[tokio::test]
async fn a_flow_schema_names_subjects_requests_and_a_level() {
    let api = Api::new().await;
    let path = format!("{FLOW}/flowschemas");
    let rule = json!({"subjects": [{"kind": "User", "user": {"name": "u"}}],
        "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}]});
    let schema = |more: Value| {
        let mut spec = json!({"priorityLevelConfiguration": {"name": "system"}, "rules": [rule.clone()]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": "f"}, "spec": spec})
    };
    let with = |key: &str, value: Value| {
        let mut changed = rule.clone();
        changed[key] = value;
        schema(json!({"rules": [changed]}))
    };
    all_refused(&api, &path, "FlowSchema.flowcontrol.apiserver.k8s.io", "f", &[
        (
            schema(json!({"matchingPrecedence": 1})),
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (
            schema(json!({"priorityLevelConfiguration": {}})),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
        (with("subjects", json!([])), "spec.rules[0].subjects: Required value: subjects must contain at least one value"),
        (
            with("subjects", json!([{"kind": "User", "user": {"name": "u"}, "group": {"name": "g"}}])),
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
        ),
        (
            with("resourceRules", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])),
            "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply \
             at least one namespace",
        ),
    ])
    .await;
    let made = api.post(&path, schema(json!({}))).await.good();
    assert_eq!((&made["spec"]["matchingPrecedence"], &made["metadata"]["generation"]), (&json!(1000), &json!(1)));
}

#[tokio::test]
async fn a_level_deals_hands_that_its_queues_have() {
    let api = Api::new().await;
    let path = format!("{FLOW}/prioritylevelconfigurations");
    let queuing = |q: Value| {
        let response = json!({"type": "Queue", "queuing": q});
        json!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": {"limitResponse": response}}})
    };
    let at = "spec.limited.limitResponse.queuing.handSize";
    all_refused(&api, &path, "PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io", "l", &[
        (queuing(json!({"queues": 4, "handSize": 5})), &format!("{at}: Invalid value: 5: should not be greater than queues (4)")),
        (
            queuing(json!({"queues": 1024, "handSize": 7})),
            &format!("{at}: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60"),
        ),
        (
            json!({"metadata": {"name": "l"}, "spec": {"type": "Limited"}}),
            "spec.limited: Required value: must not be empty when type is Limited",
        ),
    ])
    .await;
    let made = api.post(&path, queuing(json!({}))).await.good();
    let queuing = &made["spec"]["limited"]["limitResponse"]["queuing"];
    assert_eq!(*queuing, json!({"queues": 64, "handSize": 8, "queueLengthLimit": 50}));
    assert_eq!(made["spec"]["limited"]["nominalConcurrencyShares"], 30);
}

#[tokio::test]
async fn a_webhook_is_reached_in_one_way_and_sees_what_it_names() {
    let api = Api::new().await;
    let path = format!("{ADMISSION}/mutatingwebhookconfigurations");
    let hook = |more: Value| {
        let mut hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://example.org/hook"}});
        hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": "w"}, "webhooks": [hook]})
    };
    let rule = |resources: Value| {
        hook(
            json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": resources}]}),
        )
    };
    all_refused(&api, &path, "MutatingWebhookConfiguration.admissionregistration.k8s.io", "w", &[
        (
            hook(json!({"name": "a.b"})),
            "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (
            hook(json!({"sideEffects": null})),
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            hook(json!({"clientConfig": {}})),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            hook(json!({"clientConfig": {"url": "http://example.org"}})),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: \
             https://host[/path]",
        ),
        (
            hook(json!({"admissionReviewVersions": ["v2"]})),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            hook(json!({"timeoutSeconds": 31})),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            rule(json!(["*", "pods"])),
            "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other \
             resources without subresources",
        ),
    ])
    .await;
    let made = api.post(&path, rule(json!(["pods"]))).await.good();
    let hook = &made["webhooks"][0];
    assert_eq!(
        (&hook["failurePolicy"], &hook["matchPolicy"], &hook["timeoutSeconds"]),
        (&json!("Fail"), &json!("Equivalent"), &json!(10))
    );
    assert_eq!((&hook["reinvocationPolicy"], &hook["rules"][0]["scope"]), (&json!("Never"), &json!("*")));
}

#[tokio::test]
async fn a_policy_says_what_it_is_about_and_what_must_hold() {
    let api = Api::new().await;
    let path = format!("{ADMISSION}/validatingadmissionpolicies");
    let matches = json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]});
    let policy = |more: Value| {
        let mut spec = json!({"matchConstraints": matches, "validations": [{"expression": "true"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": "p.example.org"}, "spec": spec})
    };
    all_refused(&api, &path, "ValidatingAdmissionPolicy.admissionregistration.k8s.io", "p.example.org", &[
        (policy(json!({"matchConstraints": null})), "spec.matchConstraints: Required value"),
        (
            policy(json!({"validations": [{"expression": " "}]})),
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            policy(json!({"validations": [{"expression": "true", "reason": "Mood"}]})),
            "spec.validations[0].reason: Unsupported value: \"Mood\": supported values: \"Forbidden\", \"Invalid\", \
             \"RequestEntityTooLarge\"",
        ),
        (
            policy(json!({"variables": [{"name": "in", "expression": "1"}]})),
            "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier",
        ),
        (
            policy(json!({"paramKind": {"apiVersion": "a/b/c", "kind": "K"}})),
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
    ])
    .await;
    let made = api.post(&path, policy(json!({}))).await.good();
    let checked = json!({"observedGeneration": 1, "typeChecking": {}});
    assert_eq!((&made["spec"]["failurePolicy"], &made["status"]), (&json!("Fail"), &checked));
    assert_eq!(made["spec"]["matchConstraints"]["namespaceSelector"], json!({}));
    let path = format!("{ADMISSION}/validatingadmissionpolicybindings");
    let binding = |actions: Value| json!({"metadata": {"name": "b"}, "spec": {"policyName": "p.example.org", "validationActions": actions}});
    let text = api.post(&path, binding(json!([]))).await.failed(422);
    assert!(
        text.ends_with("spec.validationActions: Required value: at least one validation action is required"),
        "{text}"
    );
    let text = api.post(&path, binding(json!(["Deny", "Warn"]))).await.failed(422);
    assert!(text.contains("must not contain both Deny and Warn"), "{text}");
    api.post(&path, binding(json!(["Deny"]))).await.good();
}

#[tokio::test]
async fn a_mutation_has_the_patch_of_its_type() {
    let api = Api::new().await;
    let path = format!("{ADMISSION}/mutatingadmissionpolicies");
    let policy = |operation: &str, mutation: Value| {
        let rule = json!({"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "mutations": [mutation], "reinvocationPolicy": "Never"});
        json!({"metadata": {"name": "m"}, "spec": spec})
    };
    let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}});
    all_refused(&api, &path, "MutatingAdmissionPolicy.admissionregistration.k8s.io", "m", &[
        (
            policy("CREATE", json!({"patchType": "JSONPatch"})),
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ),
        (
            policy("DELETE", patch.clone()),
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
             \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ),
    ])
    .await;
    api.post(&path, policy("CREATE", patch)).await.good();
}
