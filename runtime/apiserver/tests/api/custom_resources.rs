//! Custom resources: the objects of the kinds that definitions define. The definitions themselves are in [`crate::definitions`].
#![allow(clippy::unwrap_used, reason = "tests may unwrap in their helpers too")]

use crate::common;

use common::{Api, admin, names};
use serde_json::{Value, json};

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

pub(crate) fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

pub(crate) fn definition(kind: &str, versions: Value) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "shortNames": [kind.to_lowercase()[..2]]},
            "versions": versions,
        },
    })
}

pub(crate) fn foo_schema() -> Value {
    json!({
        "type": "object",
        "description": "Foo CRD for Testing",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10},
                    "mode": {"type": "string", "enum": ["Fast", "Slow"], "default": "Fast"},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                    "port": {"x-kubernetes-int-or-string": true},
                    "maybe": {"type": "string", "nullable": true},
                    "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "ports": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                        "items": {
                            "type": "object", "required": ["port"],
                            "properties": {"port": {"type": "integer"}, "name": {"type": "string"}},
                        },
                    },
                },
            },
            "status": {
                "type": "object",
                "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "note": {"type": "string"}},
            },
        },
    })
}

/// Creates a definition and waits until it is served, as clients do: by its condition.
pub(crate) async fn define(api: &Api, definition: Value) -> Value {
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    let made = api.post(CRDS, definition).await.good();
    condition(api, &name, common::revision(&made), "Established", "True").await
}

/// Waits for a condition.
pub(crate) async fn condition(api: &Api, name: &str, since: i64, kind: &str, status: &str) -> Value {
    let found = api.get(&format!("{CRDS}/{name}")).await.json();
    if has(&found, kind, status) {
        return found;
    }
    let url = format!("{CRDS}?watch=1&fieldSelector=metadata.name%3D{name}&resourceVersion={since}");
    let mut watch = api.watch(&url).await;
    loop {
        let event = watch.next().await.expect("another event");
        if has(&event["object"], kind, status) {
            return event["object"].clone();
        }
    }
}

pub(crate) fn has(definition: &Value, kind: &str, status: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|c| c["type"] == kind && c["status"] == status)
}

/// Waits until an object is gone.
pub(crate) async fn gone(api: &Api, collection: &str, name: &str, since: i64) {
    let url = format!("{collection}?watch=1&fieldSelector=metadata.name%3D{name}&resourceVersion={since}");
    let mut watch = api.watch(&url).await;
    while watch.next().await.expect("another event")["type"] != "DELETED" {}
}

pub(crate) fn foo(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

pub(crate) async fn with_foos() -> Api {
    let api = Api::new().await;
    let mut v1 = version("v1", true, foo_schema());
    v1["subresources"] = json!({"status": {}});
    define(&api, definition("Foo", json!([v1]))).await;
    api
}

#[tokio::test]
async fn objects_get_defaults_and_lose_what_is_not_described() {
    let api = with_foos().await;
    let made = api
        .post(
            FOOS,
            foo(
                "a",
                json!({"size": 3, "odd": 1, "maybe": null, "name": null, "anything": {"x": {"y": 1}}, "port": "web"}),
            ),
        )
        .await;
    assert!(made.warnings().iter().any(|warning| warning.contains("unknown field \"spec.odd\"")));
    let made = made.good();
    assert_eq!(
        made["spec"],
        json!({"size": 3, "mode": "Fast", "maybe": null, "anything": {"x": {"y": 1}}, "port": "web"})
    );
    assert_eq!(made["metadata"]["generation"], 1);
    let strict = api.post(&format!("{FOOS}?fieldValidation=Strict"), foo("b", json!({"size": 3, "odd": 1}))).await;
    assert!(strict.failed(400).contains("strict decoding error: unknown field \"spec.odd\""));
    let list = api.get(FOOS).await.good();
    assert_eq!((list["kind"].as_str(), names(&list)), (Some("FooList"), vec!["a"]));
}

#[tokio::test]
async fn objects_are_checked_in_the_words_of_the_reference() {
    let api = with_foos().await;
    let cases = [
        (json!({}), "spec.size: Required value"),
        (json!({"size": 0}), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        (json!({"size": 11}), "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
        (
            json!({"size": "x"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 1, "mode": "Odd"}),
            "spec.mode: Unsupported value: \"Odd\": supported values: \"Fast\", \"Slow\"",
        ),
        (json!({"size": 1, "name": "A"}), "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"),
        (json!({"size": 1, "name": "abcdef"}), "spec.name: Too long: may not be more than 5 bytes"),
        (json!({"size": 1, "set": ["a", "b", "a"]}), "spec.set[2]: Duplicate value: \"a\""),
        (json!({"size": 1, "ports": [{"port": 1}, {"port": 1}]}), "spec.ports[1]: Duplicate value: {\"port\":1}"),
        (
            json!({"size": 1, "port": true}),
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
    ];
    for (spec, wanted) in cases {
        let causes = api.post(FOOS, foo("a", spec.clone())).await.causes();
        assert_eq!(causes, [wanted], "{spec}");
    }
}

#[tokio::test]
async fn what_was_wrong_before_may_stay_and_what_becomes_wrong_may_not() {
    let api = with_foos().await;
    api.post(FOOS, foo("a", json!({"size": 9, "name": "ok"}))).await.good();
    let path = format!("{CRDS}/foos.example.com");
    let tighter = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum", "value": 5}]);
    let changed = api.patch("json", &path, tighter).await.good();
    served_since(&api, &changed).await;
    let done = api.patch("merge", &format!("{FOOS}/a"), json!({"spec": {"name": "fine"}})).await.good();
    assert_eq!((&done["spec"]["size"], &done["spec"]["name"]), (&json!(9), &json!("fine")));
    let causes = api.patch("merge", &format!("{FOOS}/a"), json!({"spec": {"size": 8}})).await.causes();
    assert_eq!(causes, ["spec.size: Invalid value: 8: spec.size in body should be less than or equal to 5"]);
}

/// Waits until the server has taken in a change of a definition: another definition, made later, is served.
pub(crate) async fn served_since(api: &Api, _changed: &Value) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let count = names(&api.get(CRDS).await.good()).len();
    define(api, definition(&format!("Marker{}", "x".repeat(count)), json!([version("v1", true, schema)]))).await;
}

#[tokio::test]
async fn the_status_is_a_part_of_its_own_and_generations_count_the_rest() {
    let api = with_foos().await;
    let mut object = foo("a", json!({"size": 3}));
    object["status"] = json!({"note": "mine"});
    let made = api.post(FOOS, object).await.good();
    assert_eq!(made.get("status"), None);
    let mut changed = made.clone();
    changed["status"] = json!({"note": "x"});
    changed["spec"]["size"] = json!(4);
    let written = api.put(&format!("{FOOS}/a/status"), changed).await.good();
    assert_eq!((&written["status"], &written["spec"]["size"]), (&json!({"note": "x"}), &json!(3)));
    assert_eq!(written["metadata"]["generation"], 1);
    let merged =
        api.patch("merge", &format!("{FOOS}/a"), json!({"spec": {"size": 5}, "status": {"note": "y"}})).await.good();
    assert_eq!((&merged["status"]["note"], &merged["metadata"]["generation"]), (&json!("x"), &json!(2)));
}

#[tokio::test]
async fn strategic_patches_are_refused_and_apply_merges_lists_by_their_keys() {
    let api = with_foos().await;
    let refused = api.patch("strategic-merge", &format!("{FOOS}/a"), json!({})).await;
    assert!(refused.failed(415).contains("application/merge-patch+json, application/apply-patch+yaml"));
    let apply = |manager: &'static str, spec: Value| {
        let api = &api;
        async move {
            let url = format!("{FOOS}/a?fieldManager={manager}");
            let headers = [("content-type", "application/apply-patch+yaml")];
            api.send(admin(), "PATCH", &url, &headers, foo("a", spec)).await
        }
    };
    apply("one", json!({"size": 1, "ports": [{"port": 80, "name": "web"}], "set": ["a"]})).await.good();
    let both = apply("two", json!({"ports": [{"port": 443}], "set": ["b"]})).await.good();
    assert_eq!(both["spec"]["ports"], json!([{"port": 80, "name": "web"}, {"port": 443}]));
    assert_eq!(both["spec"]["set"], json!(["a", "b"]));
    let clash = apply("two", json!({"size": 2})).await;
    assert!(clash.failed(409).contains("conflict with \"one\""));
    let unknown = apply("one", json!({"size": 1, "nope": 2})).await;
    assert!(unknown.failed(500).contains("field not declared in schema"));
}

#[tokio::test]
async fn defaults_reach_objects_that_were_stored_before_them() {
    let api = with_foos().await;
    api.post(FOOS, foo("old", json!({"size": 1}))).await.good();
    let path = format!("{CRDS}/foos.example.com");
    let add = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color", "value": {"type": "string", "default": "red"}}]);
    let changed = api.patch("json", &path, add).await.good();
    served_since(&api, &changed).await;
    assert_eq!(api.get(&format!("{FOOS}/old")).await.good()["spec"]["color"], "red");
    assert_eq!(api.get(FOOS).await.good()["items"][0]["spec"]["color"], "red");
    let mut watch = api.watch(&format!("{FOOS}?watch=1")).await;
    assert_eq!(watch.next().await.unwrap()["object"]["spec"]["color"], "red");
}

#[tokio::test]
async fn versions_show_the_same_objects_each_by_its_schema() {
    let api = Api::new().await;
    let other = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"}, "extra": {"type": "string", "default": "e"},
    }}}});
    let versions = json!([version("v1", true, foo_schema()), version("v2", false, other)]);
    define(&api, definition("Foo", versions)).await;
    api.post(FOOS, foo("a", json!({"size": 1}))).await.good();
    let v2 = "/apis/example.com/v2/namespaces/default/foos";
    let shown = api.get(&format!("{v2}/a")).await.good();
    assert_eq!((&shown["apiVersion"], &shown["spec"]), (&json!("example.com/v2"), &json!({"size": 1, "extra": "e"})));
    let merged = api.patch("merge", &format!("{v2}/a"), json!({"spec": {"size": 2}})).await.good();
    assert_eq!(merged["apiVersion"], "example.com/v2");
    let first = api.get(&format!("{FOOS}/a")).await.good();
    assert_eq!((&first["apiVersion"], &first["spec"]), (&json!("example.com/v1"), &json!({"size": 2, "mode": "Fast"})));
    let list = api.get(v2).await.good();
    assert_eq!(
        (&list["items"][0]["apiVersion"], &list["items"][0]["spec"]["extra"]),
        (&json!("example.com/v2"), &json!("e"))
    );
}

#[tokio::test]
async fn a_scale_is_where_the_definition_says() {
    let api = Api::new().await;
    let mut v1 = version("v1", true, foo_schema());
    v1["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector",
    }});
    define(&api, definition("Foo", json!([v1]))).await;
    let mut made = api.post(FOOS, foo("a", json!({"size": 3}))).await.good();
    made["status"] = json!({"replicas": 2, "selector": "a=b"});
    api.put(&format!("{FOOS}/a/status"), made).await.good();
    let scale = api.get(&format!("{FOOS}/a/scale")).await.good();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 3}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    api.patch("merge", &format!("{FOOS}/a/scale"), json!({"spec": {"replicas": 5}})).await.good();
    assert_eq!(api.get(&format!("{FOOS}/a")).await.good()["spec"]["size"], 5);
}

#[tokio::test]
async fn tables_have_the_columns_of_the_definition_and_selectors_its_fields() {
    let api = Api::new().await;
    let mut v1 = version("v1", true, foo_schema());
    v1["additionalPrinterColumns"] = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1},
        {"name": "First", "type": "string", "jsonPath": ".spec.ports[0].name"},
    ]);
    v1["selectableFields"] = json!([{"jsonPath": ".spec.mode"}]);
    define(&api, definition("Foo", json!([v1]))).await;
    api.post(FOOS, foo("a", json!({"size": 3, "ports": [{"port": 1, "name": "x"}]}))).await.good();
    api.post(FOOS, foo("b", json!({"size": 4, "mode": "Slow"}))).await.good();
    assert_eq!(api.row(&format!("{FOOS}/a")).await, json!({"Name": "a", "Size": 3, "Mode": "Fast", "First": "x"}));
    let slow = api.get(&format!("{FOOS}?fieldSelector=spec.mode%3DSlow")).await.good();
    assert_eq!(names(&slow), ["b"]);
    let other = api.get(&format!("{FOOS}?fieldSelector=spec.size%3D3")).await;
    assert_eq!(other.failed(400), "field label not supported: spec.size");
}

#[tokio::test]
async fn a_server_that_starts_anew_serves_what_is_defined() {
    let api = with_foos().await;
    api.post(FOOS, foo("a", json!({"size": 1}))).await.good();
    let again = Api::on(api.storage.clone(), |_| {}).await;
    assert_eq!(again.get(&format!("{FOOS}/a")).await.good()["spec"]["mode"], "Fast");
    assert_eq!(again.post(FOOS, foo("b", json!({"size": 99}))).await.code, 422);
}

pub(crate) fn with_rules(rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {
        "type": "object", "x-kubernetes-validations": rules,
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "kind": {"type": "string", "maxLength": 10}},
    }}})
}

#[tokio::test]
async fn what_stays_as_it_is_must_still_please_rules_that_ask_for_a_change() {
    let api = Api::new().await;
    let rules = json!([{"rule": "self.min != oldSelf.min", "message": "min must change"}]);
    define(&api, definition("Foo", json!([version("v1", true, with_rules(rules))]))).await;
    api.post(FOOS, foo("a", json!({"min": 1}))).await.good();
    let label = json!({"metadata": {"labels": {"l": "a"}}});
    let causes = api.patch("merge", &format!("{FOOS}/a"), label).await.causes();
    assert_eq!(causes, ["spec: Invalid value: min must change"]);
}

#[tokio::test]
async fn newer_rules_spare_what_stays_as_it_is_unless_they_cannot_be_evaluated() {
    let one = format!("{FOOS}/a");
    let unset = "spec: Invalid value: \"object\": no such key: min evaluating rule: self.min < 5";
    let rows: [(&str, &[&str], &[&str]); 3] = [
        ("self.max > 5", &[], &["spec: Invalid value: failed rule: self.max > 5"]),
        ("self.min < 5", &[unset], &[unset]),
        ("!has(self.min)", &[], &[]),
    ];
    for (rule, staying, changing) in rows {
        let api = Api::new().await;
        define(&api, definition("Foo", json!([version("v1", true, with_rules(json!([])))]))).await;
        api.post(FOOS, foo("a", json!({"max": 1}))).await.good();
        let schema = with_rules(json!([{"rule": rule}]));
        let stricter = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
        let changed = api.patch("json", &format!("{CRDS}/foos.example.com"), stricter).await.good();
        served_since(&api, &changed).await;
        let causes = |answer: &common::Answer| if answer.code == 200 { Vec::new() } else { answer.causes() };
        let stays = api.patch("merge", &one, json!({"metadata": {"labels": {"l": "x"}}})).await;
        assert_eq!(causes(&stays), staying, "{rule}");
        let changes = api.patch("merge", &one, json!({"spec": {"max": 2}})).await;
        assert_eq!(causes(&changes), changing, "{rule}");
    }
}

#[tokio::test]
async fn rules_in_cel_are_asked_of_objects_and_of_changes() {
    let api = Api::new().await;
    let rules = json!([
        {"rule": "self.min <= self.max", "message": "min must not be above max"},
        {"rule": "self.kind != 'bad'", "messageExpression": "'kind ' + self.kind + ' is not let'", "fieldPath": ".kind", "reason": "FieldValueForbidden"},
        {"rule": "!has(oldSelf.kind) || self.kind == oldSelf.kind", "message": "kind is immutable"},
    ]);
    define(&api, definition("Foo", json!([version("v1", true, with_rules(rules))]))).await;
    let causes = api.post(FOOS, foo("a", json!({"min": 2, "max": 1, "kind": "bad"}))).await.causes();
    assert_eq!(causes, ["spec: Invalid value: min must not be above max", "spec.kind: Forbidden: kind bad is not let"]);
    api.post(FOOS, foo("a", json!({"min": 1, "max": 2, "kind": "x"}))).await.good();
    let causes = api.patch("merge", &format!("{FOOS}/a"), json!({"spec": {"kind": "y"}})).await.causes();
    assert_eq!(causes, ["spec: Invalid value: kind is immutable"]);
    let causes = api.post(FOOS, foo("b", json!({"max": 2, "kind": "x"}))).await.causes();
    assert_eq!(
        causes,
        ["spec: Invalid value: \"object\": no such key: min evaluating rule: min must not be above max"]
    );
}
