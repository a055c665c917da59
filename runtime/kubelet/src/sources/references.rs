//! The names in a pod's spec.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, Volume};

/// What a pod names, all in its own namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    pub(super) config_maps: BTreeSet<String>,
    pub(super) secrets: BTreeSet<String>,
}

pub(super) fn of(pod: &Pod) -> References {
    let mut found = References::default();
    let Some(spec) = &pod.spec else { return found };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        found.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        found.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    spec.volumes.iter().flatten().for_each(|volume| found.volume(volume));
    let pull = spec.image_pull_secrets.iter().flatten();
    found.secrets.extend(pull.map(|secret| secret.name.clone()).filter(|name| !name.is_empty()));
    found
}

impl References {
    fn environment(&mut self, variables: Option<&[EnvVar]>, lists: Option<&[EnvFromSource]>) {
        for source in variables.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            self.config_maps.extend(source.config_map_key_ref.as_ref().map(|source| source.name.clone()));
            self.secrets.extend(source.secret_key_ref.as_ref().map(|source| source.name.clone()));
        }
        for list in lists.into_iter().flatten() {
            self.config_maps.extend(list.config_map_ref.as_ref().map(|source| source.name.clone()));
            self.secrets.extend(list.secret_ref.as_ref().map(|source| source.name.clone()));
        }
    }

    fn volume(&mut self, volume: &Volume) {
        self.config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
        self.secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
        let publish = volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref());
        self.secrets.extend(publish.map(|secret| secret.name.clone()));
        let projections = volume.projected.as_ref().and_then(|source| source.sources.as_ref());
        for projection in projections.into_iter().flatten() {
            self.config_maps.extend(projection.config_map.as_ref().map(|source| source.name.clone()));
            self.secrets.extend(projection.secret.as_ref().map(|source| source.name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_names_an_object_is_looked_at() {
        let value_from = |kind: &str, name: &str| json!({"name": "X", "valueFrom": {kind: {"name": name, "key": "k"}}});
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "s1"}],
            "containers": [{"name": "a", "env": [value_from("configMapKeyRef", "c1"), value_from("secretKeyRef", "s2")]}],
            "initContainers": [{"name": "b", "envFrom": [{"configMapRef": {"name": "c2"}}, {"secretRef": {"name": "s3"}}]}],
            "ephemeralContainers": [{"name": "c", "env": [value_from("configMapKeyRef", "c3")]}],
            "volumes": [
                {"name": "1", "configMap": {"name": "c4"}},
                {"name": "2", "secret": {"secretName": "s4"}},
                {"name": "3", "projected": {"sources": [{"configMap": {"name": "c5"}}, {"secret": {"name": "s5"}}]}},
                {"name": "4", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s6"}}},
            ],
        }});
        let found = of(&serde_json::from_value(pod).expect("a pod"));
        assert_eq!(Vec::from_iter(found.config_maps), ["c1", "c2", "c3", "c4", "c5"]);
        assert_eq!(Vec::from_iter(found.secrets), ["s1", "s2", "s3", "s4", "s5", "s6"]);
    }
}
