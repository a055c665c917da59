//! Under which rights a pod's processes run: users, groups, capabilities and namespaces here, seccomp and AppArmor in
//! [`profiles`].

mod profiles;

use std::fs;
use std::sync::OnceLock;

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSecurityContext, SELinuxOptions, SecurityContext};

use self::profiles::{apparmor, profile, seccomp};
use super::{ContainerContext, PodContext, SpecError, described, invalid};
use crate::cri::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    ProfileType, SeLinuxOption, SupplementalGroupsPolicy,
};

const MOST_UID: i64 = 2_147_483_647;
/// What of /proc and /sys containers do not see; the list is that of Docker.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container's settings with those of its pod where it has none.
pub(super) fn effective(pod: &Pod, container: &Container) -> SecurityContext {
    let mut own = container.security_context.clone().unwrap_or_default();
    let Some(whole) = of_pod(pod) else { return own };
    own.se_linux_options = own.se_linux_options.or_else(|| whole.se_linux_options.clone());
    own.run_as_user = own.run_as_user.or(whole.run_as_user);
    own.run_as_group = own.run_as_group.or(whole.run_as_group);
    own.run_as_non_root = own.run_as_non_root.or(whole.run_as_non_root);
    own
}

/// Refuses a container that would run as root though it must not.
pub(super) fn check_non_root(pod: &Pod, container: &Container, context: &ContainerContext) -> Result<(), SpecError> {
    let security = effective(pod, container);
    if security.run_as_non_root != Some(true) {
        return Ok(());
    }
    let of = format!("(pod: {:?}, container: {})", described(pod), container.name);
    match (security.run_as_user, context.image_uid) {
        (Some(0), _) => Err(invalid(format!("container's runAsUser breaks non-root policy {of}"))),
        (Some(_), _) => Ok(()),
        (None, Some(uid)) if !(0..=MOST_UID).contains(&uid) => Err(invalid(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({MOST_UID})): \
             must be between 0 and {MOST_UID}, inclusive {of}"
        ))),
        (None, Some(1..)) => Ok(()),
        (None, None) if !context.image_username.is_empty() => Err(invalid(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {of}",
            context.image_username
        ))),
        // An image that names no user runs as root.
        (None, Some(_) | None) => Err(invalid(format!("container has runAsNonRoot and image will run as root {of}"))),
    }
}

/// A sandbox's rights.
pub(super) fn sandbox(pod: &Pod, context: &PodContext) -> Result<LinuxSandboxSecurityContext, SpecError> {
    let mut security = LinuxSandboxSecurityContext {
        privileged: has_privileged(pod),
        seccomp: Some(profile(ProfileType::RuntimeDefault, "")),
        namespace_options: Some(namespaces(pod, context)),
        ..LinuxSandboxSecurityContext::default()
    };
    if let Some(whole) = of_pod(pod) {
        security.run_as_user = whole.run_as_user.map(|value| Int64Value { value });
        security.run_as_group = whole.run_as_group.map(|value| Int64Value { value });
        security.supplemental_groups = groups(whole);
        security.supplemental_groups_policy = groups_policy(whole)?;
        security.selinux_options = whole.se_linux_options.as_ref().map(selinux);
    }
    Ok(security)
}

/// A container's rights.
pub(super) fn container(
    pod: &Pod,
    container: &Container,
    context: &PodContext,
    own: &ContainerContext,
) -> Result<LinuxContainerSecurityContext, SpecError> {
    let security = effective(pod, container);
    let unmasked = security.proc_mount.as_deref() == Some("Unmasked");
    let mut namespace_options = namespaces(pod, context);
    if let Some(target) = own.target.as_ref().filter(|_| namespace_options.pid == NamespaceMode::Container as i32) {
        namespace_options.pid = NamespaceMode::Target as i32;
        namespace_options.target_id.clone_from(target);
    }
    let mut rights = LinuxContainerSecurityContext {
        capabilities: security.capabilities.as_ref().map(capabilities),
        privileged: security.privileged == Some(true),
        namespace_options: Some(namespace_options),
        selinux_options: security.se_linux_options.as_ref().map(selinux),
        run_as_user: security.run_as_user.map(|value| Int64Value { value }),
        run_as_group: security.run_as_group.map(|value| Int64Value { value }),
        readonly_rootfs: security.read_only_root_filesystem == Some(true),
        no_new_privs: security.allow_privilege_escalation == Some(false),
        seccomp: Some(seccomp(pod, container, context)?),
        apparmor: apparmor(pod, container)?,
        masked_paths: if unmasked { Vec::new() } else { masked_paths().to_vec() },
        readonly_paths: if unmasked { Vec::new() } else { READ_ONLY.map(str::to_owned).to_vec() },
        ..LinuxContainerSecurityContext::default()
    };
    if rights.run_as_user.is_none() {
        // An image that names no user means root.
        let uid = own.image_uid.or_else(|| own.image_username.is_empty().then_some(0));
        rights.run_as_user = uid.map(|value| Int64Value { value });
        rights.run_as_username.clone_from(&own.image_username);
    }
    if let Some(whole) = of_pod(pod) {
        rights.supplemental_groups = groups(whole);
        rights.supplemental_groups_policy = groups_policy(whole)?;
    }
    Ok(rights)
}

fn of_pod(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

fn has_privileged(pod: &Pod) -> bool {
    let is = |security: Option<&SecurityContext>| security.and_then(|security| security.privileged) == Some(true);
    let Some(spec) = &pod.spec else { return false };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ephemeral = spec.ephemeral_containers.iter().flatten();
    containers.into_iter().any(|container| is(container.security_context.as_ref()))
        || ephemeral.any(|container| is(container.security_context.as_ref()))
}

fn namespaces(pod: &Pod, context: &PodContext) -> NamespaceOption {
    let spec = pod.spec.as_ref();
    let of_host = |flag: Option<bool>| if flag == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match spec {
        Some(spec) if spec.host_pid == Some(true) => NamespaceMode::Node,
        Some(spec) if spec.share_process_namespace == Some(true) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOption {
        network: of_host(spec.and_then(|spec| spec.host_network)) as i32,
        ipc: of_host(spec.and_then(|spec| spec.host_ipc)) as i32,
        pid: pid as i32,
        target_id: String::new(),
        userns_options: context.user_namespace.clone(),
    }
}

fn groups(security: &PodSecurityContext) -> Vec<i64> {
    security.fs_group.into_iter().chain(security.supplemental_groups.iter().flatten().copied()).collect()
}

fn groups_policy(security: &PodSecurityContext) -> Result<i32, SpecError> {
    match security.supplemental_groups_policy.as_deref() {
        None | Some("Merge") => Ok(SupplementalGroupsPolicy::Merge as i32),
        Some("Strict") => Ok(SupplementalGroupsPolicy::Strict as i32),
        Some(other) => Err(invalid(format!("unsupported supplementalGroupsPolicy: {other}"))),
    }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn capabilities(capabilities: &Capabilities) -> Capability {
    Capability {
        add_capabilities: capabilities.add.clone().unwrap_or_default(),
        drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

fn masked_paths() -> &'static [String] {
    static PATHS: OnceLock<Vec<String>> = OnceLock::new();
    PATHS.get_or_init(|| {
        let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten().map(|entry| entry.path());
        let throttles = cpus.map(|cpu| cpu.join("thermal_throttle")).filter(|path| path.exists());
        let mut paths: Vec<String> = MASKED.map(str::to_owned).to_vec();
        paths.extend(throttles.map(|path| path.to_string_lossy().into_owned()));
        paths
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing;
    use super::*;

    fn rights(whole: Value, own: Value, image: &ContainerContext) -> LinuxContainerSecurityContext {
        let pod =
            testing::pod(json!({"securityContext": whole, "containers": [{"name": "c", "securityContext": own}]}));
        super::container(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &testing::context(), image)
            .expect("rights")
    }

    #[test]
    fn a_container_has_its_own_settings_or_its_pods() {
        let whole = json!({"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000],
            "supplementalGroupsPolicy": "Strict", "seLinuxOptions": {"level": "s0:c1"}});
        let found = rights(whole.clone(), json!({}), &ContainerContext::default());
        let value = |value: i64| Some(Int64Value { value });
        assert_eq!((found.run_as_user, found.run_as_group), (value(1000), value(2000)));
        assert_eq!(found.supplemental_groups, [3000, 4000]);
        assert_eq!(found.supplemental_groups_policy, SupplementalGroupsPolicy::Strict as i32);
        assert_eq!(found.selinux_options.map(|options| options.level), Some("s0:c1".to_owned()));
        assert!(!found.privileged && !found.no_new_privs && !found.readonly_rootfs);
        let own = json!({"runAsUser": 0, "privileged": true, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}});
        let found = rights(whole, own, &ContainerContext::default());
        assert_eq!(found.run_as_user, value(0));
        assert!(found.privileged && found.no_new_privs && found.readonly_rootfs);
        let capabilities = found.capabilities.expect("capabilities");
        assert_eq!(
            (capabilities.add_capabilities, capabilities.drop_capabilities),
            (vec!["NET_ADMIN".into()], vec!["ALL".into()])
        );
    }

    #[test]
    fn the_image_names_the_user_if_nobody_else_does() {
        let of = |image: ContainerContext| {
            let found = rights(json!({}), json!({}), &image);
            (found.run_as_user.map(|user| user.value), found.run_as_username)
        };
        assert_eq!(of(ContainerContext::default()), (Some(0), String::new()));
        assert_eq!(of(ContainerContext { image_uid: Some(7), ..Default::default() }), (Some(7), String::new()));
        let named = ContainerContext { image_username: "www".to_owned(), ..Default::default() };
        assert_eq!(of(named), (None, "www".to_owned()));
    }

    #[test]
    fn who_must_not_be_root_is_not() {
        let of = "(pod: \"p_ns(u)\", container: c)";
        let rows = [
            (json!({}), Some(0), "", Ok(())),
            (json!({"runAsNonRoot": false}), Some(0), "", Ok(())),
            (json!({"runAsNonRoot": true}), Some(5), "", Ok(())),
            (json!({"runAsNonRoot": true, "runAsUser": 5}), Some(0), "", Ok(())),
            (
                json!({"runAsNonRoot": true, "runAsUser": 0}),
                Some(5),
                "",
                Err(format!("container's runAsUser breaks non-root policy {of}")),
            ),
            (
                json!({"runAsNonRoot": true}),
                Some(0),
                "",
                Err(format!("container has runAsNonRoot and image will run as root {of}")),
            ),
            (
                json!({"runAsNonRoot": true}),
                None,
                "",
                Err(format!("container has runAsNonRoot and image will run as root {of}")),
            ),
            (
                json!({"runAsNonRoot": true}),
                None,
                "www",
                Err(format!(
                    "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root {of}"
                )),
            ),
        ];
        for (security, image_uid, user, expected) in rows {
            let image = ContainerContext { image_uid, image_username: user.to_owned(), ..Default::default() };
            let own = testing::pod(json!({"containers": [{"name": "c", "securityContext": security}]}));
            let whole = testing::pod(json!({"securityContext": security}));
            for pod in [own, whole] {
                let container = &pod.spec.as_ref().expect("a spec").containers[0];
                let found = check_non_root(&pod, container, &image).map_err(|error| error.to_string());
                assert_eq!(found, expected, "{security}");
            }
        }
    }

    #[test]
    fn namespaces_are_the_pods_the_nodes_or_the_containers_own() {
        let of = |spec: Value, target: Option<&str>| {
            let pod = testing::pod(spec);
            let own = ContainerContext { target: target.map(str::to_owned), ..Default::default() };
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            let found = super::container(&pod, container, &testing::context(), &own).expect("rights");
            let found = found.namespace_options.expect("namespaces");
            (found.network, found.ipc, found.pid, found.target_id)
        };
        let [own, pod, node] =
            [NamespaceMode::Container, NamespaceMode::Pod, NamespaceMode::Node].map(|mode| mode as i32);
        assert_eq!(of(json!({}), None), (pod, pod, own, String::new()));
        let host = json!({"hostNetwork": true, "hostIPC": true, "hostPID": true});
        assert_eq!(of(host, Some("x")), (node, node, node, String::new()));
        assert_eq!(of(json!({"shareProcessNamespace": true}), Some("x")), (pod, pod, pod, String::new()));
        assert_eq!(of(json!({}), Some("x")), (pod, pod, NamespaceMode::Target as i32, "x".to_owned()));
    }

    #[test]
    fn proc_is_masked_unless_the_container_says_otherwise() {
        let masked = rights(json!({}), json!({}), &ContainerContext::default());
        assert!(masked.masked_paths.iter().any(|path| path == "/proc/kcore") && masked.readonly_paths.len() == 5);
        let open = rights(json!({}), json!({"procMount": "Unmasked"}), &ContainerContext::default());
        assert!(open.masked_paths.is_empty() && open.readonly_paths.is_empty());
    }
}
