//! What the controllers and the scheduler need not know of a pod.

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

/// Drops what only the kubelet reads of a pod: what is in containers, and volumes that are made on the node. Half of what a mirror
/// takes for a pod is that, its token's volume above all. A pod that is written back is to be read from the server first.
pub fn trim(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(trim_container);
    spec.ephemeral_containers = None;
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|volume| !is_of_the_node(volume));
    }
}

/// Image, ports, resources, resize and restart policies are left.
fn trim_container(container: &mut Container) {
    *container = Container {
        image: container.image.take(),
        name: std::mem::take(&mut container.name),
        ports: container.ports.take(),
        resize_policy: container.resize_policy.take(),
        resources: container.resources.take(),
        restart_policy: container.restart_policy.take(),
        ..Container::default()
    };
}

/// Whether a volume bears neither on where a pod can go nor on claims.
fn is_of_the_node(volume: &Volume) -> bool {
    volume.projected.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.host_path.is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_schedulers_and_controllers_read_is_left() {
        let kept = json!({"name": "c", "image": "i:1", "ports": [{"name": "http", "containerPort": 80}],
            "resources": {"requests": {"cpu": "1"}}, "restartPolicy": "Always",
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]});
        let mut whole = kept.clone();
        for (field, value) in [
            ("args", json!(["a"])),
            ("command", json!(["c"])),
            ("env", json!([{"name": "A", "value": "b"}])),
            ("envFrom", json!([{"secretRef": {"name": "s"}}])),
            ("volumeMounts", json!([{"name": "claim", "mountPath": "/a"}])),
            ("livenessProbe", json!({"httpGet": {"port": 80}})),
            ("securityContext", json!({"runAsUser": 1})),
        ] {
            whole[field] = value;
        }
        let volumes = |names: &[&str]| -> Vec<Value> {
            let all = json!([{"name": "claim", "persistentVolumeClaim": {"claimName": "p"}},
                {"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                {"name": "csi", "csi": {"driver": "d"}}, {"name": "image", "image": {"reference": "r"}},
                {"name": "disk", "gcePersistentDisk": {"pdName": "p"}},
                {"name": "token", "projected": {"sources": []}}, {"name": "map", "configMap": {"name": "m"}},
                {"name": "secret", "secret": {"secretName": "s"}}, {"name": "down", "downwardAPI": {}},
                {"name": "empty", "emptyDir": {}}, {"name": "host", "hostPath": {"path": "/"}}]);
            let all = all.as_array().unwrap().iter();
            all.filter(|volume| names.contains(&volume["name"].as_str().unwrap())).cloned().collect()
        };
        let left = ["claim", "own", "csi", "image", "disk"];
        let all = [left.as_slice(), &["token", "map", "secret", "down", "empty", "host"]].concat();
        let pod = |container: &Value, names: &[&str]| -> Pod {
            let spec = json!({"containers": [container], "initContainers": [container], "volumes": volumes(names),
                "nodeName": "n", "tolerations": [{"key": "k"}]});
            serde_json::from_value(json!({"metadata": {"name": "a", "annotations": {"a": "b"}}, "spec": spec,
                "status": {"phase": "Running"}}))
            .unwrap()
        };
        let mut trimmed = pod(&whole, &all);
        trim(&mut trimmed);
        assert_eq!(trimmed, pod(&kept, &left));
    }
}
