//! Folders of manifests, against a real API server in memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use kiln_controllers::addons::{self, Config};
use serde_json::{Value, json};

use crate::real::{MAPS, World};

const ADDONS: &str = "/apis/k3s.cattle.io/v1/namespaces/kube-system/addons";
const EVENTS: &str = "/api/v1/namespaces/kube-system/events";
const WIDGETS: &str = "/apis/example.org/v1/namespaces/default/widgets";
const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
const WIDGET: &str = "{apiVersion: example.org/v1, kind: Widget, metadata: {name: w}, size: 3}\n";

fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: {value}}}\n")
}

/// A server with the controller over a folder, with some files disabled.
async fn start(folder: &tempfile::TempDir, disabled: &[&str]) -> World {
    let world = World::new().await;
    for name in ["default", "kube-system"] {
        let namespace = json!({"metadata": {"name": name}});
        _ = world.client.create::<Value>("/api/v1/namespaces", &namespace).await;
    }
    let disabled: BTreeSet<String> = disabled.iter().map(|name| (*name).to_owned()).collect();
    let folders: Vec<PathBuf> = vec![folder.path().to_owned(), "/nonexistent/manifests".into()];
    let config = Config { client: world.client.clone(), folders, disabled };
    world.run(|informers, context| addons::build(informers, context, config));
    served(&world, "addons.k3s.cattle.io").await;
    world
}

/// Waits until a kind is served.
pub(crate) async fn served(world: &World, definition: &str) {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let is_established = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
    let served = |definition: Option<&Value>| {
        let conditions = definition.and_then(|definition| definition["status"]["conditions"].as_array());
        conditions.is_some_and(|conditions| conditions.iter().any(is_established))
    };
    world.until(definitions, definition, served).await;
}

fn has(value: &'static str) -> impl Fn(Option<&Value>) -> bool {
    move |map| map.is_some_and(|map| map["data"]["a"] == value)
}

/// Waits for an event about an Addon.
async fn told(world: &World, reason: &str) -> String {
    let list = world.client.list::<Value>(EVENTS, &kiln_client::ListParams::default()).await.expect("a list");
    let mut found = list.items.into_iter().find(|event| event["reason"] == reason);
    let patience = std::time::Duration::from_secs(600);
    let params = kiln_client::ListParams::default();
    let mut changes =
        world.client.watch::<Value>(EVENTS, &params, &list.resource_version, patience).await.expect("a watch");
    while found.is_none() {
        if let kiln_client::WatchEvent::Added(event) = changes.next().await.expect("an event").expect("in time") {
            found = Some(event).filter(|event| event["reason"] == reason);
        }
    }
    found.expect("an event")["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn what_a_file_says_is_applied_and_what_leaves_it_is_deleted_and_a_removed_file_leaves_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.yaml");
    fs::write(&path, format!("{}---\n{}", map("one", "x"), map("two", "x"))).unwrap();
    let world = start(&folder, &[]).await;
    let one = world.until(MAPS, "one", has("x")).await.unwrap();
    assert_eq!(one["metadata"]["annotations"]["objectset.rio.cattle.io/owner-name"], "app");
    assert_eq!(one["metadata"]["managedFields"][0]["manager"], "deploy");
    let recorded = |addon: Option<&Value>| addon.is_some_and(|addon| addon["spec"].get("checksum").is_some());
    let addon = world.until(ADDONS, "app", recorded).await.unwrap();
    assert_eq!(addon["metadata"]["annotations"]["addon.k3s.cattle.io/gvks"], "/v1, Kind=ConfigMap");
    assert_eq!(addon["spec"]["source"], path.to_str().unwrap());
    fs::write(&path, map("two", "z")).unwrap();
    world.gone("one").await;
    world.until(MAPS, "two", has("z")).await;
    // What is written after it is applied after it: then nothing happened because of the removal.
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("later.yaml"), map("later", "x")).unwrap();
    world.until(MAPS, "later", has("x")).await;
    assert!(world.is_there("two").await);
    assert_eq!(told(&world, "AppliedManifest").await, format!("Applied manifest at {:?}", path.to_str().unwrap()));
}

#[tokio::test]
async fn a_definition_goes_before_its_objects_in_one_file_and_is_waited_for_in_another() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("both.yaml"), format!("{WIDGET}---{DEFINITION}")).unwrap();
    let world = start(&folder, &[]).await;
    served(&world, "widgets.example.org").await;
    world.until(WIDGETS, "w", |widget| widget.is_some()).await;
    let other = |text: &str| text.replace("idget", "adget").replace("name: w}", "name: g}");
    fs::write(folder.path().join("a.yaml"), other(WIDGET)).unwrap();
    let message = told(&world, "ApplyManifestFailed").await;
    let expected = "no matches for kind \"Wadget\" in version \"example.org/v1\"";
    assert!(message.contains(expected), "{message}");
    fs::write(folder.path().join("b.yaml"), other(DEFINITION)).unwrap();
    served(&world, "wadgets.example.org").await;
    world.until("/apis/example.org/v1/namespaces/default/wadgets", "g", |gadget| gadget.is_some()).await;
}

#[tokio::test]
async fn a_disabled_file_is_taken_away_with_what_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.yaml");
    fs::write(&path, map("one", "x")).unwrap();
    let world = start(&folder, &[]).await;
    let recorded = |addon: Option<&Value>| addon.is_some_and(|addon| addon["spec"].get("checksum").is_some());
    world.until(ADDONS, "app", recorded).await;
    let folders = vec![folder.path().to_owned()];
    let config = Config { client: world.client.clone(), folders, disabled: BTreeSet::from(["app".to_owned()]) };
    world.run(|informers, context| addons::build(informers, context, config));
    world.gone("one").await;
    world.until(ADDONS, "app", |addon| addon.is_none()).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_of_and_applied_once_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.yaml");
    fs::write(&path, "a: b: c").unwrap();
    let world = start(&folder, &[]).await;
    let message = told(&world, "ParseManifestFailed").await;
    assert!(message.ends_with("failed: yaml: mapping values are not allowed in this context"), "{message}");
    fs::write(&path, map("one", "x")).unwrap();
    world.until(MAPS, "one", has("x")).await;
}
