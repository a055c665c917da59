//! Definitions of custom resources: what is accepted, what becomes of names, and what is told of them.
#![allow(clippy::unwrap_used, reason = "tests may unwrap in their helpers too")]

use serde_json::{Value, json};

use crate::common::{self, Api, admin, names};
use crate::custom_resources::{
    CRDS, FOOS, condition, define, definition, foo, foo_schema, gone, has, served_since, version, with_foos, with_rules,
};

#[tokio::test]
async fn a_definition_is_accepted_established_and_told_in_discovery() {
    let api = Api::new().await;
    let made = define(&api, definition("Foo", json!([version("v1", true, foo_schema())]))).await;
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "FooList");
    assert!(has(&made, "NamesAccepted", "True"));
    let list = api.get("/apis/example.com/v1").await.good();
    assert_eq!(list["resources"][0]["name"], "foos");
    assert_eq!(list["resources"][0]["shortNames"], json!(["fo"]));
    let groups = api.get("/apis").await.good();
    assert!(groups["groups"].as_array().unwrap().iter().any(|g| g["name"] == "example.com"));
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let all = api.send(admin(), "GET", "/apis", &accept, Value::Null).await.good();
    let own = all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "example.com").unwrap();
    assert_eq!(own["versions"][0]["resources"][0]["responseKind"]["kind"], "Foo");
}

#[tokio::test]
async fn a_definition_that_is_deleted_takes_its_objects_with_it() {
    let api = with_foos().await;
    let mut held = foo("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let held = api.post(FOOS, held).await.good();
    api.post(FOOS, foo("plain", json!({"size": 1}))).await.good();
    let path = format!("{CRDS}/foos.example.com");
    let marked = api.delete(&path).await.good();
    assert_eq!(marked["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert!(has(&marked, "Terminating", "True"));
    let since = common::revision(&marked);
    gone(&api, FOOS, "plain", common::revision(&held)).await;
    let late = api.post(FOOS, foo("late", json!({"size": 1}))).await;
    assert_eq!(late.failed(405), "create not allowed while custom resource definition is terminating");
    api.patch("merge", &format!("{FOOS}/held"), json!({"metadata": {"finalizers": null}})).await.good();
    gone(&api, CRDS, "foos.example.com", since).await;
    served_since(&api, &marked).await;
    assert_eq!(api.get(FOOS).await.code, 404);
}

#[tokio::test]
async fn names_that_are_taken_are_not_accepted_until_they_are_free() {
    let api = with_foos().await;
    let mut other = definition("Bar", json!([version("v1", true, foo_schema())]));
    other["spec"]["names"]["kind"] = json!("Foo");
    let made = api.post(CRDS, other).await.good();
    let refused = condition(&api, "bars.example.com", common::revision(&made), "NamesAccepted", "False").await;
    let found =
        refused["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "NamesAccepted").unwrap();
    assert!(["KindConflict", "ListKindConflict"].contains(&found["reason"].as_str().unwrap()), "{found}");
    assert_eq!(api.get("/apis/example.com/v1/bars").await.code, 404);
    api.delete(&format!("{CRDS}/foos.example.com")).await.good();
    condition(&api, "bars.example.com", common::revision(&refused), "Established", "True").await;
    api.get("/apis/example.com/v1/bars").await.good();
}

#[tokio::test]
async fn definitions_are_checked() {
    let api = Api::new().await;
    let with = |schema: Value| definition("Foo", json!([version("v1", true, schema)]));
    let cases = [
        (
            with(json!({"properties": {}})),
            "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root",
        ),
        (
            with(json!({"type": "object", "properties": {"a": {"properties": {}}}})),
            "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            with(json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}})),
            "spec.validation.openAPIV3Schema.properties[a].default: Invalid value: \"string\":  \
             in body must be of type integer: \"string\"",
        ),
        (
            with(
                json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}),
            ),
            "spec.validation.openAPIV3Schema.properties[a].items.properties[k].default: Required value: this property is in \
             x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            with(
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            ),
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and \
             generateName, but metadata is implicitly specified",
        ),
    ];
    for (definition, wanted) in cases {
        let causes = api.post(CRDS, definition).await.causes();
        assert_eq!(causes, [wanted]);
    }
    let mut twice = definition("Foo", json!([version("v1", true, foo_schema()), version("v2", true, foo_schema())]));
    twice["metadata"]["name"] = json!("odd.example.com");
    let causes = api.post(CRDS, twice).await.causes();
    assert_eq!(
        causes,
        [
            "metadata.name: Invalid value: \"odd.example.com\": must be spec.names.plural+\".\"+spec.group",
            "spec.versions: Invalid value: null: must have exactly one version marked as storage version",
            "status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2",
        ]
    );
}

#[tokio::test]
async fn openapi_tells_of_custom_kinds_and_forgets_versions_that_are_not_served() {
    let api = with_foos().await;
    let three = api.get("/openapi/v3/apis/example.com/v1").await.good();
    let model = &three["components"]["schemas"]["com.example.v1.Foo"];
    assert_eq!(model["description"], "Foo CRD for Testing");
    assert_eq!(
        model["properties"]["spec"]["properties"]["port"]["anyOf"],
        json!([{"type": "integer"}, {"type": "string"}])
    );
    assert_eq!(
        model["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "version": "v1", "kind": "Foo"}])
    );
    let patch =
        &three["paths"]["/apis/example.com/v1/namespaces/{namespace}/foos/{name}"]["patch"]["requestBody"]["content"];
    assert!(
        patch.get("application/strategic-merge-patch+json").is_none()
            && patch.get("application/apply-patch+yaml").is_some()
    );
    let two = api.get("/openapi/v2").await.good();
    assert!(two["definitions"]["com.example.v1.FooList"].is_object());
    assert!(
        two["definitions"]["com.example.v1.Foo"]["properties"]["spec"]["properties"]["port"].get("anyOf").is_none()
    );
    let path = format!("{CRDS}/foos.example.com");
    let versions = json!([{"op": "add", "path": "/spec/versions/-", "value": version("v2", false, foo_schema())},
        {"op": "replace", "path": "/spec/versions/0/served", "value": false}]);
    let changed = api.patch("json", &path, versions).await.good();
    served_since(&api, &changed).await;
    let two = api.get("/openapi/v2").await.good();
    assert!(two["definitions"]["com.example.v2.Foo"].is_object());
    assert!(two["definitions"].get("com.example.v1.Foo").is_none());
    assert_eq!(api.get(FOOS).await.code, 404);
}

#[tokio::test]
async fn rules_that_do_not_compile_or_cost_too_much_are_refused() {
    let api = Api::new().await;
    let with = |schema: Value| definition("Foo", json!([version("v1", true, schema)]));
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, wanted) in [
        ("self.min <", "Syntax error"),
        ("self.nope == 1", "undefined field 'nope'"),
        ("self.min + 1", "must evaluate to a bool"),
    ] {
        let causes = api.post(CRDS, with(with_rules(json!([{"rule": rule}])))).await.causes();
        assert!(
            causes[0].starts_with(&format!("{at}.rule: Invalid value: ")) && causes[0].contains(wanted),
            "{causes:?}"
        );
    }
    let dear = json!({"type": "object", "properties": {"spec": {
        "type": "object", "x-kubernetes-validations": [{"rule": "self.list.all(a, self.list.all(b, a == b))"}],
        "properties": {"list": {"type": "array", "items": {"type": "string"}}},
    }}});
    let causes = api.post(CRDS, with(dear)).await.causes();
    assert!(causes[0].contains("estimated rule cost exceeds budget by factor of more than 100x"), "{causes:?}");
    // A map's keys count as empty, as Gateway API's definitions need.
    let keys = json!({"type": "object", "properties": {"spec": {
        "type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 4096},
        "x-kubernetes-validations": [{"rule": "self.all(key, key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]+$'))"}],
    }}});
    api.post(CRDS, with(keys)).await.good();
}

#[tokio::test]
async fn the_status_of_a_definition_is_written_apart() {
    let api = with_foos().await;
    let path = format!("{CRDS}/foos.example.com");
    let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"});
    let mut found = api.get(&format!("{path}/status")).await.good();
    found["status"]["conditions"].as_array_mut().unwrap().push(condition);
    found["spec"]["names"]["shortNames"] = json!(["other"]);
    let written = api.put(&format!("{path}/status"), found).await.good();
    assert!(has(&written, "StatusUpdate", "True"));
    assert_eq!(written["spec"]["names"]["shortNames"], json!(["fo"]));
    let patched =
        json!({"status": {"conditions": [{"type": "Patched", "status": "True", "lastTransitionTime": null}]}});
    assert!(has(&api.patch("merge", &format!("{path}/status"), patched).await.good(), "Patched", "True"));
    assert_eq!(names(&api.get(CRDS).await.good()), ["foos.example.com"]);
}
