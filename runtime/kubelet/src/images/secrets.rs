//! Credentials of registries, from the secrets that a pod names.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kiln_client::{Client, path, registry_login};
use serde_json::Value;

use super::reference;
use crate::cri::AuthConfig;
use crate::pods::namespace;

/// The credentials of the pod's secrets that are for this image's registry, those for the longest path first. A secret that is
/// missing or cannot be read is left out, as upstream does: the registry will tell.
pub(super) async fn of(client: &Client, pod: &Pod, image: &str) -> Vec<AuthConfig> {
    let names = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
    let mut found = Vec::new();
    for name in names {
        match client.get::<Secret>(&path::<Secret>(namespace(pod), &name.name)).await {
            Ok(secret) => found.extend(entries(&secret).into_iter().filter_map(|(place, auth)| {
                let length = matches(&place, image)?;
                Some((length, auth))
            })),
            Err(error) => tracing::debug!(secret = name.name, %error, "a pull secret cannot be read"),
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// The places and credentials of a secret.
fn entries(secret: &Secret) -> Vec<(String, AuthConfig)> {
    let data = |key: &str| Some(&secret.data.as_ref()?.get(key)?.0);
    let parsed = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).ok();
    let auths = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").and_then(parsed).map(|config| config["auths"].clone())
        }
        Some("kubernetes.io/dockercfg") => data(".dockercfg").and_then(parsed),
        _ => None,
    };
    let Some(Value::Object(auths)) = auths else { return Vec::new() };
    auths.into_iter().map(|(place, auth)| (place, credentials(&auth))).collect()
}

fn credentials(auth: &Value) -> AuthConfig {
    let text = |key: &str| auth[key].as_str().unwrap_or_default().to_owned();
    let (username, password) = registry_login(auth);
    AuthConfig {
        username,
        password,
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        ..AuthConfig::default()
    }
}

/// Whether credentials of a place (`host[:port][/path]`, a host's parts may be globs) are for an image: how long the place is.
fn matches(place: &str, image: &str) -> Option<usize> {
    let place = place.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    // Docker Hub has always been written like this.
    let is_hub = matches!(host, "index.docker.io" | "docker.io" | "registry-1.docker.io");
    let path = if is_hub { path.trim_start_matches("v1").trim_start_matches("v2") } else { path };
    let image = reference::normalised(image).ok()?;
    let registry = reference::registry(&image);
    let rest = image.strip_prefix(registry)?.trim_start_matches('/');
    let same = if is_hub { registry == "docker.io" } else { same_host(host, registry) };
    (same && rest.starts_with(path.trim_start_matches('/'))).then_some(place.len())
}

fn same_host(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern.len() == host.len() && pattern.iter().zip(host).all(|(pattern, part)| glob(pattern, part))
}

/// A part of a host's name; `*` is any number of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| glob(after, rest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_their_registry_and_path() {
        let rows = [
            ("https://index.docker.io/v1/", "busybox", true),
            ("registry:5000", "registry:5000/a/b:1", true),
            ("registry:5000", "registry:5001/a/b:1", false),
            ("registry:5000/a", "registry:5000/a/b", true),
            ("registry:5000/c", "registry:5000/a/b", false),
            ("*.example.org", "x.example.org/a", true),
            ("*.example.org", "x.y.example.org/a", false),
            ("ghcr.io", "docker.io/library/a", false),
        ];
        for (place, image, is_for) in rows {
            assert_eq!(matches(place, image).is_some(), is_for, "{place} {image}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let auth = credentials(&serde_json::json!({"username": "me", "password": "se:cret"}));
        assert!(!format!("{auth:?}").contains("cret"), "secrets are not for logs");
    }
}
