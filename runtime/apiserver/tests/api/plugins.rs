//! Steps of admission that a server's flags switch off are not taken.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::Api;
use kiln_apiserver::Plugin;
use serde_json::{Value, json};

const DEFAULT: &str = "/api/v1/namespaces/default";

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// A server with a plugin as it is by default, and one without it.
async fn both(plugin: Plugin) -> [Api; 2] {
    [Api::with(|_| {}).await, Api::with(|config| config.plugins.set(plugin, false)).await]
}

#[tokio::test]
async fn what_plugins_give_is_missing_without_them() {
    let limits = json!([{"type": "Container", "default": {"cpu": "1"}}]);
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": limits}});
    let main = |resource: &str| {
        let annotation = format!("{resource}.kubernetes.io/is-default-class");
        json!({"metadata": {"name": "main", "annotations": {annotation: "true"}}})
    };
    let (mut storage, mut ingress) = (main("storageclass"), main("ingressclass"));
    storage["provisioner"] = json!("example.com/disk");
    ingress["spec"] = json!({"controller": "example.com/ingress"});
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let route = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let (pods, claims) = (format!("{DEFAULT}/pods"), format!("{DEFAULT}/persistentvolumeclaims"));
    let ranges = format!("{DEFAULT}/limitranges");
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    for (plugin, before, path, object, given) in [
        (Plugin::DefaultTolerationSeconds, None, &*pods, pod(), "/spec/tolerations"),
        (Plugin::Priority, None, &pods, pod(), "/spec/priority"),
        (Plugin::ServiceAccount, None, &pods, pod(), "/spec/volumes"),
        (Plugin::LimitRanger, Some((&*ranges, range)), &pods, pod(), "/spec/containers/0/resources/limits"),
        (Plugin::TaintNodesByCondition, None, "/api/v1/nodes", json!({"metadata": {"name": "n"}}), "/spec/taints"),
        (Plugin::StorageObjectInUseProtection, None, &claims, claim.clone(), "/metadata/finalizers"),
        (
            Plugin::DefaultStorageClass,
            Some(("/apis/storage.k8s.io/v1/storageclasses", storage)),
            &claims,
            claim,
            "/spec/storageClassName",
        ),
        (
            Plugin::DefaultIngressClass,
            Some(("/apis/networking.k8s.io/v1/ingressclasses", ingress)),
            ingresses,
            route,
            "/spec/ingressClassName",
        ),
    ] {
        let mut found = Vec::new();
        for api in both(plugin).await {
            if let Some((path, object)) = &before {
                api.post(path, object.clone()).await.good();
            }
            found.push(api.post(path, object.clone()).await.good().pointer(given).is_some());
        }
        assert_eq!(found, [true, false], "{plugin}: {given}");
    }
}

#[tokio::test]
async fn what_plugins_refuse_is_made_without_them() {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}});
    let strict =
        json!({"metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let account = json!({"metadata": {"name": "default"}});
    let mut classless = pod();
    classless["spec"]["runtimeClassName"] = json!("none");
    let (pods, quotas) = (format!("{DEFAULT}/pods"), format!("{DEFAULT}/resourcequotas"));
    for (plugin, before, path, object) in [
        (Plugin::ResourceQuota, vec![(&*quotas, quota)], &*pods, pod()),
        (
            Plugin::PodSecurity,
            vec![("/api/v1/namespaces", strict), ("/api/v1/namespaces/strict/serviceaccounts", account)],
            "/api/v1/namespaces/strict/pods",
            pod(),
        ),
        (Plugin::RuntimeClass, vec![], &pods, classless),
    ] {
        let [with, without] = both(plugin).await;
        for api in [&with, &without] {
            for (path, object) in &before {
                api.post(path, object.clone()).await.good();
            }
        }
        with.post(path, object.clone()).await.failed(403);
        without.post(path, object).await.good();
    }
}
