//! Discovery: what clients and kubectl learn of the server.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use crate::common;

use common::{Answer, Api, admin};
use serde_json::{Value, json};

const AGGREGATED: [(&str, &str); 1] =
    [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

async fn aggregated(api: &Api, path: &str) -> Answer {
    api.send(admin(), "GET", path, &AGGREGATED, Value::Null).await
}

#[tokio::test]
async fn resources_are_told_with_everything_that_kubectl_asks_for() {
    let api = Api::new().await;
    let core = api.get("/api/v1").await.good();
    assert_eq!((&core["kind"], &core["groupVersion"]), (&json!("APIResourceList"), &json!("v1")));
    let maps = named(&core, "configmaps");
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let expected = json!({"name": "configmaps", "singularName": "configmap", "namespaced": true, "kind": "ConfigMap",
        "verbs": verbs, "shortNames": ["cm"], "storageVersionHash": "qFsyl6wFWjQ="});
    assert_eq!(*maps, expected);
    assert_eq!(named(&core, "pods")["categories"], json!(["all"]));
    let finalize = json!({"name": "namespaces/finalize", "singularName": "", "namespaced": false, "kind": "Namespace",
        "verbs": ["update"]});
    assert_eq!(*named(&core, "namespaces/finalize"), finalize);
    let names: Vec<&str> = core["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");
    // Events are stored in the core shape, whichever group they are written through.
    let hash = |list: &Value| named(list, "events")["storageVersionHash"].clone();
    assert_eq!(hash(&api.get("/apis/events.k8s.io/v1").await.good()), hash(&core));
}

#[tokio::test]
async fn a_part_of_another_kind_says_which() {
    let api = Api::new().await;
    let apps = api.get("/apis/apps/v1").await.good();
    let scale = named(&apps, "deployments/scale");
    assert_eq!(
        (&scale["group"], &scale["version"], &scale["kind"]),
        (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
    );
    let status = named(&apps, "deployments/status");
    assert_eq!((status.get("group"), &status["kind"]), (None, &json!("Deployment")));
}

#[tokio::test]
async fn groups_come_in_the_order_of_their_priority_and_versions_newest_first() {
    let api = Api::new().await;
    let groups = api.get("/apis").await.good();
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
    let scaling = api.get("/apis/autoscaling").await.good();
    assert_eq!((&scaling["kind"], &scaling["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v2")));
    api.get("/apis/nope").await.failed(404);
    api.get("/api/v2").await.failed(404);
}

#[tokio::test]
async fn one_document_tells_all_and_is_not_sent_twice() {
    let api = Api::new().await;
    let core = aggregated(&api, "/api").await;
    assert_eq!(core.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    assert_eq!(
        (&core.headers["vary"], &core.headers["cache-control"]),
        (&"Accept".parse().unwrap(), &"public".parse().unwrap())
    );
    let document = core.good();
    assert_eq!(document["items"].as_array().unwrap().len(), 1);
    let version = &document["items"][0]["versions"][0];
    assert_eq!((&version["version"], &version["freshness"]), (&json!("v1"), &json!("Current")));
    let pods = version["resources"].as_array().unwrap().iter().find(|r| r["resource"] == "pods").unwrap();
    assert_eq!((&pods["scope"], &pods["singularResource"]), (&json!("Namespaced"), &json!("pod")));
    assert_eq!(pods["responseKind"], json!({"group": "", "version": "", "kind": "Pod"}));
    let eviction = pods["subresources"].as_array().unwrap().iter().find(|s| s["subresource"] == "eviction").unwrap();
    assert_eq!(eviction["responseKind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    let tag = core.headers["etag"].to_str().unwrap();
    let again = api.send(admin(), "GET", "/api", &[AGGREGATED[0], ("if-none-match", tag)], Value::Null).await;
    assert_eq!((again.code, again.bytes.len()), (304, 0));
    // A path that has no aggregated form answers in the plain one.
    assert_eq!(aggregated(&api, "/apis/apps").await.good()["kind"], "APIGroup");
}

#[tokio::test]
async fn the_root_lists_paths_and_the_version_is_that_of_the_api() {
    let api = Api::new().await;
    let paths = api.get("/").await.good();
    for path in ["/api/v1", "/apis/apps/v1", "/healthz", "/version"] {
        assert!(paths["paths"].as_array().unwrap().iter().any(|p| p == path), "{path}");
    }
    let version = api.get("/version").await;
    assert!(version.text().contains("\n  \"major\": \"1\",\n"), "{}", version.text());
    let version = version.good();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
}
