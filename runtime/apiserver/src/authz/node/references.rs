//! What a pod refers to: the objects that its node may read for it.

use kiln_apimachinery::meta;
use serde_json::Value;

/// Where in a volume a Secret is named.
const SECRETS: &[&[&str]] = &[
    &["secret", "secretName"],
    &["azureFile", "secretName"],
    &["cephfs", "secretRef", "name"],
    &["cinder", "secretRef", "name"],
    &["csi", "nodePublishSecretRef", "name"],
    &["flexVolume", "secretRef", "name"],
    &["iscsi", "secretRef", "name"],
    &["rbd", "secretRef", "name"],
    &["scaleIO", "secretRef", "name"],
    &["storageos", "secretRef", "name"],
];

fn items<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    meta::at(value, path).and_then(Value::as_array).into_iter().flatten()
}

/// Containers of all kinds.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|kind| items(pod, &["spec", kind]))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    items(pod, &["spec", "volumes"])
}

/// What the environments of all containers name.
fn environments<'a>(pod: &'a Value, one: &'static str, all: &'static str) -> impl Iterator<Item = &'a str> {
    containers(pod).flat_map(move |c| {
        let keys = items(c, &["env"]).map(move |e| meta::text(e, &["valueFrom", one, "name"]));
        keys.chain(items(c, &["envFrom"]).map(move |e| meta::text(e, &[all, "name"])))
    })
}

/// Names of the Secrets in a pod, perhaps twice.
pub(crate) fn secrets(pod: &Value) -> Vec<&str> {
    let pull = items(pod, &["spec", "imagePullSecrets"]).map(|s| meta::text(s, &["name"]));
    let mounted = volumes(pod).flat_map(|v| {
        let projected = items(v, &["projected", "sources"]).map(|s| meta::text(s, &["secret", "name"]));
        SECRETS.iter().map(move |path| meta::text(v, path)).chain(projected)
    });
    let all = pull.chain(environments(pod, "secretKeyRef", "secretRef")).chain(mounted);
    all.filter(|name| !name.is_empty()).collect()
}

/// Names of the ConfigMaps in a pod, perhaps twice.
pub(crate) fn config_maps(pod: &Value) -> Vec<&str> {
    let mounted = volumes(pod).flat_map(|v| {
        let projected = items(v, &["projected", "sources"]).map(|s| meta::text(s, &["configMap", "name"]));
        std::iter::once(meta::text(v, &["configMap", "name"])).chain(projected)
    });
    let all = environments(pod, "configMapKeyRef", "configMapRef").chain(mounted);
    all.filter(|name| !name.is_empty()).collect()
}

/// Names of the PersistentVolumeClaims in a pod.
pub(crate) fn claims(pod: &Value) -> Vec<String> {
    let claim = |v: &Value| match meta::text(v, &["persistentVolumeClaim", "claimName"]) {
        "" if v.get("ephemeral").is_some() => Some(format!("{}-{}", meta::name(pod), meta::text(v, &["name"]))),
        "" => None,
        name => Some(name.to_owned()),
    };
    volumes(pod).filter_map(claim).collect()
}

/// Names of the ResourceClaims in a pod that exist by now.
pub(crate) fn resource_claims(pod: &Value) -> Vec<&str> {
    let made = |name: &str| {
        items(pod, &["status", "resourceClaimStatuses"])
            .find(|s| meta::text(s, &["name"]) == name)
            .map_or("", |s| meta::text(s, &["resourceClaimName"]))
    };
    let named = items(pod, &["spec", "resourceClaims"]).map(|c| match meta::text(c, &["resourceClaimName"]) {
        "" => made(meta::text(c, &["name"])),
        name => name,
    });
    let extended = meta::text(pod, &["status", "extendedResourceClaimStatus", "resourceClaimName"]);
    named.chain([extended]).filter(|name| !name.is_empty()).collect()
}

/// The service accounts whose tokens the pod projects carry an audience of the API server (empty) or of others.
pub(crate) fn token_audiences(pod: &Value) -> Vec<&str> {
    let sources = volumes(pod).flat_map(|v| items(v, &["projected", "sources"]));
    sources.filter_map(|s| s.get("serviceAccountToken")).map(|t| meta::text(t, &["audience"])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_where_a_pod_names_others_is_found() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "one"}}}, {"valueFrom": {"configMapKeyRef": {"name": "c1"}}}]}],
                "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "c2"}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "volume"}},
                    {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "c3"}}]}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "d", "ephemeral": {}},
                    {"name": "e", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
                ],
                "resourceClaims": [{"name": "x", "resourceClaimName": "r1"}, {"name": "y", "resourceClaimTemplateName": "t"}],
            },
            "status": {"resourceClaimStatuses": [{"name": "y", "resourceClaimName": "r2"}]},
        });
        assert_eq!(secrets(&pod), ["pull", "one", "all", "volume", "part", "csi"]);
        assert_eq!(config_maps(&pod), ["c1", "c2", "c3"]);
        assert_eq!(claims(&pod), ["claim", "p-d"]);
        assert_eq!(resource_claims(&pod), ["r1", "r2"]);
    }
}
