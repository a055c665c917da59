//! Profiles of seccomp and AppArmor.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SeccompProfile};

use super::of_pod;
use crate::cri::{ProfileType, SecurityProfile};
use crate::spec::{PodContext, SpecError, invalid};

/// What annotations of before Kubernetes 1.30 begin with.
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn profile(kind: ProfileType, localhost: &str) -> SecurityProfile {
    SecurityProfile { profile_type: kind as i32, localhost_ref: localhost.to_owned() }
}

/// A container's own profile of seccomp, its pod's, or the node's.
pub(super) fn seccomp(pod: &Pod, container: &Container, context: &PodContext) -> Result<SecurityProfile, SpecError> {
    let own = container.security_context.as_ref().and_then(|security| security.seccomp_profile.as_ref());
    let whole = || of_pod(pod).and_then(|security| security.seccomp_profile.as_ref());
    let Some(SeccompProfile { type_, localhost_profile }) = own.or_else(whole) else {
        let default = context.node.seccomp_default;
        return Ok(profile(if default { ProfileType::RuntimeDefault } else { ProfileType::Unconfined }, ""));
    };
    match type_.as_str() {
        "RuntimeDefault" => Ok(profile(ProfileType::RuntimeDefault, "")),
        "Localhost" => match localhost_profile.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => {
                let path = context.node.dirs.seccomp().join(name);
                Ok(profile(ProfileType::Localhost, &path.to_string_lossy()))
            }
            None => Err(invalid("localhostProfile must be set if seccompProfile type is Localhost.")),
        },
        _ => Ok(profile(ProfileType::Unconfined, "")),
    }
}

/// A container's own profile of AppArmor, the one that an annotation names, or its pod's.
pub(super) fn apparmor(pod: &Pod, container: &Container) -> Result<Option<SecurityProfile>, SpecError> {
    let own = container.security_context.as_ref().and_then(|security| security.app_armor_profile.clone());
    let whole = || of_pod(pod).and_then(|security| security.app_armor_profile.clone());
    let Some(AppArmorProfile { type_, localhost_profile }) = own.or_else(|| annotated(pod, container)).or_else(whole)
    else {
        return Ok(None);
    };
    match (type_.as_str(), localhost_profile) {
        ("RuntimeDefault", _) => Ok(Some(profile(ProfileType::RuntimeDefault, ""))),
        ("Unconfined", _) => Ok(Some(profile(ProfileType::Unconfined, ""))),
        ("Localhost", Some(name)) => Ok(Some(profile(ProfileType::Localhost, &name))),
        ("Localhost", None) => Err(invalid("missing localhost apparmor profile name")),
        (other, _) => Err(invalid(format!("unknown apparmor profile type: {other:?}"))),
    }
}

/// The profile that an annotation of before Kubernetes 1.30 names.
fn annotated(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let value = annotations.get(&format!("{APPARMOR}{}", container.name))?;
    let of = |kind: &str, name: Option<&str>| {
        Some(AppArmorProfile { type_: kind.to_owned(), localhost_profile: name.map(str::to_owned) })
    };
    match value.as_str() {
        "runtime/default" => of("RuntimeDefault", None),
        "unconfined" => of("Unconfined", None),
        value => value.strip_prefix("localhost/").and_then(|name| of("Localhost", Some(name))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing;

    #[test]
    fn profiles_come_from_the_container_then_the_pod_then_the_node() {
        let of = |whole: Value, own: Value, default: bool| {
            let spec = json!({"securityContext": {"seccompProfile": whole},
                "containers": [{"name": "c", "securityContext": {"seccompProfile": own}}]});
            let pod = testing::pod(spec);
            let mut node = testing::node();
            node.seccomp_default = default;
            let found = seccomp(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &testing::of_node(node));
            found.map(|profile| (profile.profile_type, profile.localhost_ref)).map_err(|error| error.to_string())
        };
        let runtime = || Ok((ProfileType::RuntimeDefault as i32, String::new()));
        let unconfined = || Ok((ProfileType::Unconfined as i32, String::new()));
        let kind = |kind: &str| json!({ "type": kind });
        assert_eq!(of(Value::Null, Value::Null, false), unconfined());
        assert_eq!(of(Value::Null, Value::Null, true), runtime());
        assert_eq!(of(kind("RuntimeDefault"), Value::Null, false), runtime());
        assert_eq!(of(kind("RuntimeDefault"), kind("Unconfined"), true), unconfined());
        let local = json!({"type": "Localhost", "localhostProfile": "a/b.json"});
        let path = "/var/lib/kubelet/seccomp/a/b.json".to_owned();
        assert_eq!(of(local, Value::Null, false), Ok((ProfileType::Localhost as i32, path)));
        let why = "localhostProfile must be set if seccompProfile type is Localhost.";
        assert_eq!(of(kind("Localhost"), Value::Null, false), Err(why.to_owned()));
    }

    #[test]
    fn apparmor_profiles_are_found_in_fields_and_in_annotations() {
        let of = |annotation: Option<&str>, own: Value| {
            let mut pod =
                testing::pod(json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": own}}]}));
            pod.metadata.annotations = annotation.map(|value| [(format!("{APPARMOR}c"), value.to_owned())].into());
            let found = apparmor(&pod, &pod.spec.as_ref().expect("a spec").containers[0]).expect("a profile");
            found.map(|profile| (profile.profile_type, profile.localhost_ref))
        };
        assert_eq!(of(None, Value::Null), None);
        assert_eq!(of(Some("localhost/x"), Value::Null), Some((ProfileType::Localhost as i32, "x".to_owned())));
        let field = json!({"type": "RuntimeDefault"});
        assert_eq!(of(Some("unconfined"), field), Some((ProfileType::RuntimeDefault as i32, String::new())));
    }
}
