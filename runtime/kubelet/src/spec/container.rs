//! A container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{ContainerContext, PodContext, SpecError, environment, expand, identity, mounts, resources, security};
use crate::cri::{ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig};

/// What the runtime is to make the container of. The places of parts of volumes are mounted, and the pod's file of host names is
/// written.
///
/// # Errors
/// What the container's status shows under the reason `CreateContainerConfigError`.
pub fn container_config(
    pod: &Pod,
    container: &Container,
    context: &PodContext,
    own: &ContainerContext,
) -> Result<ContainerConfig, SpecError> {
    let devices = mounts::devices(container, context)?;
    let environment = environment::environment(pod, container, context, &own.sources)?;
    let mounts = mounts::of(pod, container, context, own, &environment)?;
    security::check_non_root(pod, container, own)?;
    let linux = LinuxContainerConfig {
        resources: Some(resources::container_resources(pod, container, &context.node)),
        security_context: Some(security::container(pod, container, context, own)?),
    };
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: own.attempt }),
        image: Some(ImageSpec {
            image: own.image.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: expanded(container.command.as_deref(), &environment),
        args: expanded(container.args.as_deref(), &environment),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        devices,
        labels: identity::container_labels(pod, container),
        annotations: identity::container_annotations(pod, container, own.attempt),
        log_path: identity::log_path(&container.name, own.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(linux),
        envs: environment.into_iter().map(|(key, value)| KeyValue { key, value: value.into_bytes() }).collect(),
        ..ContainerConfig::default()
    })
}

fn expanded(words: Option<&[String]>, environment: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| environment.get(name).map(String::as_str);
    words.unwrap_or_default().iter().map(|word| expand::expand(word, value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing;
    use super::*;

    #[test]
    fn a_container_is_configured_from_its_part_of_the_pod() {
        let pod = testing::pod(json!({"terminationGracePeriodSeconds": 30, "containers": [{
            "name": "c", "image": "busybox", "command": ["sh", "-c"], "args": ["echo $(WHO) $$(WHO)"], "workingDir": "/w",
            "env": [{"name": "WHO", "value": "me"}], "tty": true, "stdin": true,
            "terminationMessagePolicy": "File",
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        }]}));
        let own = ContainerContext { attempt: 2, image: "sha256:1".to_owned(), ..ContainerContext::default() };
        // No address yet, so no file of host names.
        let mut context = testing::context();
        context.pod_ips.clear();
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let config = container_config(&pod, container, &context, &own).expect("a configuration");
        assert_eq!((config.command, config.args), (vec!["sh".into(), "-c".into()], vec!["echo me $(WHO)".into()]));
        assert_eq!(
            config.image.map(|image| (image.image, image.user_specified_image)),
            Some(("sha256:1".into(), "busybox".into()))
        );
        assert_eq!((config.log_path.as_str(), config.working_dir.as_str()), ("c/2.log", "/w"));
        assert!(config.tty && config.stdin && !config.stdin_once && config.mounts.is_empty());
        assert_eq!(config.envs, [KeyValue { key: "WHO".into(), value: b"me".to_vec() }]);
        assert_eq!(config.labels["io.kubernetes.container.name"], "c");
        assert_eq!(config.annotations["io.kubernetes.container.restartCount"], "2");
        assert_eq!(config.annotations["io.kubernetes.pod.terminationGracePeriod"], "30");
        assert_eq!(config.annotations["io.kubernetes.container.preStopHandler"], r#"{"exec":{"command":["true"]}}"#);
    }

    #[test]
    fn an_ephemeral_container_is_a_container() {
        let ephemeral = json!({"name": "debug", "image": "busybox", "targetContainerName": "c", "stdin": true});
        let ephemeral = serde_json::from_value(ephemeral).expect("a container");
        let container = super::super::of_ephemeral(&ephemeral);
        assert_eq!((container.name.as_str(), container.stdin), ("debug", Some(true)));
    }
}
