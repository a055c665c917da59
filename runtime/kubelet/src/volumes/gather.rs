//! What goes into the files of ConfigMaps, Secrets, downward APIs and projections.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection};

use super::atomic::{File, Payload};
use super::dirs::Plugin;
use super::payload::{Pick, bits, of_config_map, of_secret};
use super::{Volumes, namespace};
use crate::sources::SourceError;
use crate::spec::fields;

/// The permissions of files that name none; the API fills them in.
const MODE: i32 = 0o644;

/// Which plugin's folder a volume of files is in, if it is one.
pub(super) fn plugin(volume: &Volume) -> Option<Plugin> {
    if volume.config_map.is_some() {
        Some(Plugin::ConfigMap)
    } else if volume.secret.is_some() {
        Some(Plugin::Secret)
    } else if volume.downward_api.is_some() {
        Some(Plugin::DownwardApi)
    } else if volume.projected.is_some() {
        Some(Plugin::Projected)
    } else {
        None
    }
}

impl Volumes {
    /// All files of a volume.
    pub(super) async fn gather(&self, pod: &Arc<Pod>, volume: &Volume) -> Result<Payload<'static>, String> {
        let mut files = Payload::new();
        if let Some(source) = &volume.config_map {
            let optional = source.optional == Some(true);
            let pick = Pick { items: source.items.as_deref(), mode: source.default_mode.unwrap_or(MODE), optional };
            self.take_config_map(&mut files, pod, &source.name, &pick).await?;
        } else if let Some(source) = &volume.secret {
            let optional = source.optional == Some(true);
            let pick = Pick { items: source.items.as_deref(), mode: source.default_mode.unwrap_or(MODE), optional };
            self.take_secret(&mut files, pod, source.secret_name.as_deref().unwrap_or_default(), &pick).await?;
        } else if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            self.take_facts(&mut files, pod, items, source.default_mode.unwrap_or(MODE))?;
        } else if let Some(source) = &volume.projected {
            let mode = source.default_mode.unwrap_or(MODE);
            let mut faults = Vec::new();
            for part in source.sources.iter().flatten() {
                faults.extend(self.take_part(&mut files, pod, &volume.name, part, mode).await.err());
            }
            match faults.len() {
                0 => {}
                1 => return Err(faults.remove(0)),
                _ => return Err(format!("[{}]", faults.join(", "))),
            }
        }
        Ok(files)
    }

    async fn take_part(
        &self,
        files: &mut Payload<'static>,
        pod: &Arc<Pod>,
        volume: &str,
        part: &VolumeProjection,
        mode: i32,
    ) -> Result<(), String> {
        let pick = |items: &'_ Option<Vec<KeyToPath>>, optional: Option<bool>| (items.clone(), optional == Some(true));
        if let Some(source) = &part.config_map {
            let (items, optional) = pick(&source.items, source.optional);
            let pick = Pick { items: items.as_deref(), mode, optional };
            self.take_config_map(files, pod, &source.name, &pick).await
        } else if let Some(source) = &part.secret {
            let (items, optional) = pick(&source.items, source.optional);
            let pick = Pick { items: items.as_deref(), mode, optional };
            self.take_secret(files, pod, &source.name, &pick).await
        } else if let Some(source) = &part.downward_api {
            self.take_facts(files, pod, source.items.as_deref().unwrap_or_default(), mode)
        } else if let Some(source) = &part.service_account_token {
            let (owner, mode) = secret_file(pod, mode);
            let token = self.token(pod, volume, source).await?;
            let file = File { data: Cow::Owned(token.into_bytes()), mode, owner };
            files.insert(source.path.clone(), file);
            Ok(())
        } else if let Some(source) = &part.cluster_trust_bundle {
            let (owner, mode) = secret_file(pod, mode);
            let anchors = self.trust_anchors(source).await?;
            files.insert(source.path.clone(), File { data: Cow::Owned(anchors.into_bytes()), mode, owner });
            Ok(())
        } else {
            Err("the projection is of no kind that this node knows".to_owned())
        }
    }

    async fn take_config_map(
        &self,
        files: &mut Payload<'static>,
        pod: &Pod,
        name: &str,
        pick: &Pick<'_>,
    ) -> Result<(), String> {
        let found = self.0.sources.config_map(namespace(pod), name).await;
        let map: Option<Arc<ConfigMap>> = unless_optional(found, pick.optional)?;
        let mut taken = Payload::new();
        of_config_map(&mut taken, map.as_deref(), pick)?;
        keep(files, taken);
        Ok(())
    }

    async fn take_secret(
        &self,
        files: &mut Payload<'static>,
        pod: &Pod,
        name: &str,
        pick: &Pick<'_>,
    ) -> Result<(), String> {
        let found = self.0.sources.secret(namespace(pod), name).await;
        let secret: Option<Arc<Secret>> = unless_optional(found, pick.optional)?;
        let mut taken = Payload::new();
        of_secret(&mut taken, secret.as_deref(), pick)?;
        keep(files, taken);
        Ok(())
    }

    fn take_facts(
        &self,
        files: &mut Payload<'static>,
        pod: &Pod,
        items: &[DownwardAPIVolumeFile],
        mode: i32,
    ) -> Result<(), String> {
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                fields::metadata(pod, &field.field_path)?
            } else if let Some(field) = &item.resource_field_ref {
                fields::of_resources(pod, None, field, &(self.0.config.allocatable)())?
            } else {
                String::new()
            };
            let mode = bits(item.mode.unwrap_or(mode));
            files.insert(item.path.clone(), File { data: Cow::Owned(text.into_bytes()), mode, owner: None });
        }
        Ok(())
    }
}

fn unless_optional<T>(found: Result<T, SourceError>, optional: bool) -> Result<Option<T>, String> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(SourceError::NotFound { .. }) if optional => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn keep(files: &mut Payload<'static>, taken: Payload<'_>) {
    files.extend(taken.into_iter().map(|(path, file)| {
        let File { data, mode, owner } = file;
        (path, File { data: Cow::Owned(data.into_owned()), mode, owner })
    }));
}

/// Owner and permissions of a file that only the pod shall read: the group's, if the pod's volumes have one, else the user's, if
/// all its containers run as the same.
fn secret_file(pod: &Pod, mode: i32) -> (Option<u32>, u32) {
    let user = only_user(pod);
    let has_group = super::set_up::group(pod).is_some();
    (user, if user.is_some() || has_group { 0o600 } else { bits(mode) })
}

/// The user of all containers, if it is the same one and named.
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let whole = spec.security_context.as_ref().and_then(|security| security.run_as_user);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let containers = containers.map(|container| container.security_context.as_ref());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.security_context.as_ref());
    let mut users = containers.chain(ephemeral).map(|own| own.and_then(|own| own.run_as_user).or(whole));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_token_is_for_the_only_user_or_the_group_of_the_pod() {
        let container = |user: Value| json!({"name": "c", "securityContext": {"runAsUser": user}});
        let rows = [
            (json!({}), vec![container(json!(1000)), container(json!(1000))], (Some(1000), 0o600)),
            (json!({}), vec![container(json!(1000)), container(json!(1001))], (None, 0o644)),
            (json!({}), vec![container(json!(1000)), container(Value::Null)], (None, 0o644)),
            (json!({"runAsUser": 5}), vec![container(Value::Null)], (Some(5), 0o600)),
            (json!({"fsGroup": 7}), vec![container(Value::Null)], (None, 0o600)),
            (json!({}), vec![container(Value::Null)], (None, 0o644)),
        ];
        for (security, containers, expected) in rows {
            let pod = json!({"spec": {"securityContext": security, "containers": containers}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(secret_file(&pod, 0o644), expected, "{security}");
        }
    }
}
