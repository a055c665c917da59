//! kube-rs' discovery, and objects of kinds that are known only through it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use common::{Cluster, object, refused};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::discovery::{self, Discovery, Scope, verbs};
use serde_json::json;

#[tokio::test]
async fn every_collection_that_is_discovered_can_be_listed() {
    let cluster = Cluster::start().await;
    let found = Discovery::new(cluster.client.clone()).run().await.unwrap();
    let mut listed = 0;
    for group in found.groups() {
        for version in group.versions() {
            for (resource, capabilities) in group.versioned_resources(version) {
                if capabilities.supports_operation(verbs::LIST) {
                    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
                    let list = api.list(&ListParams::default()).await;
                    assert!(list.is_ok(), "{}/{}: {list:?}", resource.api_version, resource.plural);
                    listed += 1;
                }
            }
        }
    }
    assert!(listed > 50, "only {listed} collections");
    for group in ["apps", "batch", "rbac.authorization.k8s.io", "networking.k8s.io", "policy"] {
        assert!(found.has_group(group), "{group}");
    }
    let aggregated = Discovery::new(cluster.client.clone()).run_aggregated().await.unwrap();
    let count = |d: &Discovery| d.groups().map(|g| g.recommended_resources().len()).sum::<usize>();
    assert_eq!(count(&aggregated), count(&found));
}

#[tokio::test]
async fn an_object_of_a_discovered_kind_is_made_applied_scaled_and_deleted() {
    let cluster = Cluster::start().await;
    let gvk = kube::api::GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (resource, capabilities) = discovery::pinned_kind(&cluster.client, &gvk).await.unwrap();
    assert_eq!((resource.plural.as_str(), capabilities.scope), ("deployments", Scope::Namespaced));
    assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale"));

    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "default", &resource);
    let spec = json!({
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "m", "image": "example/m"}]}},
    });
    let web = DynamicObject::new("web", &resource).data(json!({"spec": spec}));
    let made = api.create(&PostParams::default(), &web).await.unwrap();
    assert_eq!(made.data["spec"]["replicas"], 1);
    assert_eq!(made.types.as_ref().unwrap().kind, "Deployment");
    let apply = Patch::Apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4}}));
    let applied = api.patch("web", &PatchParams::apply("tests").force(), &apply).await.unwrap();
    assert_eq!(applied.data["spec"]["replicas"], 4);
    assert_eq!(api.get_scale("web").await.unwrap().spec.unwrap().replicas, Some(4));
    api.delete("web", &DeleteParams::default()).await.unwrap();

    let nonsense = DynamicObject::new("odd", &resource).data(json!({"spec": {"replicas": "many"}}));
    let (code, reason, _) = refused(api.create(&PostParams::default(), &nonsense).await);
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_not_found() {
    let cluster = Cluster::start().await;
    let gvk = kube::api::GroupVersionKind::gvk("example.com", "v1", "Thing");
    assert!(discovery::pinned_kind(&cluster.client, &gvk).await.is_err());
    let things: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &ApiResource::from_gvk(&gvk));
    let (code, ..) = refused(things.list(&ListParams::default()).await);
    assert_eq!(code, 404);

    let version = cluster.client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let map: ConfigMap = object(json!({"metadata": {"generateName": "some-"}}));
    assert!(maps.create(&PostParams::default(), &map).await.unwrap().name_any().starts_with("some-"));
}
