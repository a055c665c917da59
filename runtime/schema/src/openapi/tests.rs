//! Documents, as clients read them.

use serde_json::{Value, json};

use super::*;

const STORED: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn served() -> Vec<Served<'static>> {
    let status = || ServedPart { name: "status", verbs: &["get", "patch", "update"], kind: None };
    let scale =
        || ServedPart { name: "scale", verbs: &["get", "patch", "update"], kind: Some(("autoscaling", "v1", "Scale")) };
    vec![
        Served {
            group: "",
            version: "v1",
            kind: "Pod",
            plural: "pods",
            namespaced: true,
            verbs: STORED,
            subresources: vec![status()],
            custom: None,
        },
        Served {
            group: "apps",
            version: "v1",
            kind: "Deployment",
            plural: "deployments",
            namespaced: true,
            verbs: STORED,
            subresources: vec![status(), scale()],
            custom: None,
        },
    ]
}

fn document(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Value {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// Every reference in a document.
fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[test]
fn a_group_has_its_types_with_facts_and_descriptions_and_its_operations() {
    let apps = &served()[1..];
    let document = document(|out| v3(apps, ("apps", "v1"), "v1.36.0", out));
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let spec = &deployment["properties"]["spec"];
    assert_eq!(spec["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec");
    assert!(spec["description"].as_str().unwrap().contains("desired behavior"));
    assert_eq!(schemas["io.k8s.api.apps.v1.DeploymentSpec"]["required"], json!(["selector", "template"]));
    let port = &schemas["io.k8s.api.core.v1.ContainerPort"]["properties"];
    assert_eq!(port["protocol"]["default"], "TCP");
    assert_eq!(port["protocol"]["enum"], json!(["SCTP", "TCP", "UDP"]));
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(volumes["x-kubernetes-list-map-keys"], json!(["name"]));
    assert!(schemas["io.k8s.api.core.v1.Volume"]["properties"]["hostPath"].is_object());
    let base = "/apis/apps/v1/namespaces/{namespace}/deployments";
    let patch = &document["paths"][format!("{base}/{{name}}")]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(patch["parameters"][2]["name"], "fieldValidation");
    let scale = &document["paths"][format!("{base}/{{name}}/scale")]["put"];
    assert_eq!(scale["operationId"], "replaceAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert_eq!(
        document["paths"]["/apis/apps/v1/deployments"]["get"]["operationId"],
        "listAppsV1DeploymentForAllNamespaces"
    );
}

#[test]
fn every_reference_leads_to_a_definition() {
    let three = document(|out| v3(&served()[1..], ("apps", "v1"), "v1", out));
    let two = document(|out| v2(&served(), &[], "v1", out));
    for (document, at, prefix) in [
        (&three, &three["components"]["schemas"], "#/components/schemas/"),
        (&two, &two["definitions"], "#/definitions/"),
    ] {
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(found.len() > 150);
        for reference in found {
            assert!(at[reference.strip_prefix(prefix).unwrap()].is_object(), "{reference}");
        }
    }
}

#[test]
fn most_fields_have_descriptions() {
    let document = document(|out| v2(&served(), &[], "v1", out));
    let (mut with, mut without) = (0, 0);
    for definition in document["definitions"].as_object().unwrap().values() {
        for property in definition["properties"].as_object().into_iter().flatten().map(|(_, p)| p) {
            if property["description"].is_string() { with += 1 } else { without += 1 }
        }
    }
    assert!(with > 600 && without < with / 20, "{with} {without}");
}

#[test]
fn version_two_in_protobuf_has_the_definitions_and_paths() {
    let mut out = Vec::new();
    v2_protobuf(&served(), &[], "v1.36.0", &mut out).unwrap();
    let fields: Vec<_> = crate::protobuf::wire::Fields(&out).collect::<Result<_, _>>().unwrap();
    let count = |number: u32| fields.iter().filter(|(n, _)| *n == number).count();
    assert_eq!((count(1), count(2)), (1, 1));
    assert_eq!(count(8), 11);
    assert!(count(9) > 120);
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains("x-kubernetes-group-version-kind") && text.contains("fieldValidation"));
}
