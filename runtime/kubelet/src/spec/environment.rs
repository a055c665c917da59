//! A container's environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVarSource, FileKeySelector, Pod, Secret};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::fields::{self, PodFacts};
use super::{PodContext, SpecError, env_file, expand, invalid, namespace};
use crate::sources::{SourceError, Sources};
use crate::volumes::Place;

/// More than this of a file of variables is not read.
const MOST_FILE: u64 = 1 << 20;

/// The ConfigMaps and Secrets that a container's environment names, by name; `None` for those that are not there.
#[derive(Debug, Clone, Default)]
pub struct EnvSources {
    config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    secrets: BTreeMap<String, Option<Arc<Secret>>>,
}

/// Fetches what a container's environment names. The pod must hold it already, which the mounting of its volumes sees to.
///
/// # Errors
/// When the API does not answer. What is missing is told by [`super::container_config`], unless it is optional.
pub async fn env_sources(sources: &Sources, pod: &Pod, container: &Container) -> Result<EnvSources, SpecError> {
    let mut found = EnvSources::default();
    let from = container.env_from.iter().flatten();
    let single = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    let maps = from.clone().filter_map(|list| list.config_map_ref.as_ref().map(|list| &list.name));
    for name in maps.chain(single.clone().filter_map(|one| one.config_map_key_ref.as_ref().map(|key| &key.name))) {
        if !found.config_maps.contains_key(name) {
            let map = unless_missing(sources.config_map(namespace(pod), name).await)?;
            found.config_maps.insert(name.clone(), map);
        }
    }
    let secrets = from.filter_map(|list| list.secret_ref.as_ref().map(|list| &list.name));
    for name in secrets.chain(single.filter_map(|one| one.secret_key_ref.as_ref().map(|key| &key.name))) {
        if !found.secrets.contains_key(name) {
            let secret = unless_missing(sources.secret(namespace(pod), name).await)?;
            found.secrets.insert(name.clone(), secret);
        }
    }
    Ok(found)
}

fn unless_missing<T>(found: Result<T, SourceError>) -> Result<Option<T>, SourceError> {
    match found {
        Err(SourceError::NotFound { .. }) => Ok(None),
        found => found.map(Some),
    }
}

impl EnvSources {
    fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, SpecError> {
        found(&self.config_maps, "configmap", name, optional)
    }

    fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, SpecError> {
        found(&self.secrets, "secret", name, optional)
    }
}

fn found<'a, T>(
    all: &'a BTreeMap<String, Option<Arc<T>>>,
    kind: &'static str,
    name: &str,
    optional: bool,
) -> Result<Option<&'a T>, SpecError> {
    match all.get(name) {
        Some(Some(object)) => Ok(Some(object)),
        _ if optional => Ok(None),
        _ => Err(SourceError::NotFound { kind, name: name.to_owned() }.into()),
    }
}

/// All variables: those of lists, over them the single ones in their order, and what services add.
pub(super) fn environment(
    pod: &Pod,
    container: &Container,
    context: &PodContext,
    sources: &EnvSources,
) -> Result<BTreeMap<String, String>, SpecError> {
    let mut variables = BTreeMap::new();
    for list in container.env_from.iter().flatten() {
        take_list(&mut variables, list, sources)?;
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let value = |name: &str| variables.get(name).or_else(|| context.services.get(name)).map(String::as_str);
                Some(expand::expand(text, value))
            }
            (_, Some(source)) => look_up(pod, container, context, sources, source)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in &context.services {
        variables.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(variables)
}

fn take_list(
    variables: &mut BTreeMap<String, String>,
    list: &EnvFromSource,
    sources: &EnvSources,
) -> Result<(), SpecError> {
    let prefix = list.prefix.as_deref().unwrap_or_default();
    if let Some(source) = &list.config_map_ref {
        let map = sources.config_map(&source.name, source.optional == Some(true))?;
        let data = map.and_then(|map| map.data.as_ref()).into_iter().flatten();
        variables.extend(data.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
    } else if let Some(source) = &list.secret_ref {
        let secret = sources.secret(&source.name, source.optional == Some(true))?;
        let data = secret.and_then(|secret| secret.data.as_ref()).into_iter().flatten();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        variables.extend(data.map(|(key, value)| (format!("{prefix}{key}"), text(&value.0))));
    }
    Ok(())
}

/// The value of a source; `None` for one that is optional and not there.
fn look_up(
    pod: &Pod,
    container: &Container,
    context: &PodContext,
    sources: &EnvSources,
    source: &EnvVarSource,
) -> Result<Option<String>, SpecError> {
    if let Some(field) = &source.field_ref {
        let host_ips: Vec<String> = context.node.addresses.iter().map(ToString::to_string).collect();
        let facts = PodFacts { host_ips: &host_ips, pod_ips: &context.pod_ips };
        return fields::of_pod(pod, field, &facts).map(Some).map_err(SpecError::Invalid);
    }
    if let Some(field) = &source.resource_field_ref {
        let value = fields::of_resources(pod, Some(container), field, &context.node.allocatable);
        return value.map(Some).map_err(SpecError::Invalid);
    }
    let missing = |kind: &str, key: &str, name: &str| {
        Err(invalid(format!("couldn't find key {key} in {kind} {}/{name}", namespace(pod))))
    };
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = sources.config_map(&key.name, optional)? else { return Ok(None) };
        return match map.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => missing("ConfigMap", &key.key, &key.name),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = sources.secret(&key.name, optional)? else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => missing("Secret", &key.key, &key.name),
        };
    }
    if let Some(key) = &source.file_key_ref {
        return from_file(context, key);
    }
    Ok(Some(String::new()))
}

fn from_file(context: &PodContext, key: &FileKeySelector) -> Result<Option<String>, SpecError> {
    let volume = context.volumes.get(&key.volume_name).map(|volume| &volume.place);
    let Some(Place::Path(volume)) = volume else {
        return Err(invalid(format!("cannot find the volume {:?} referenced by FileKeyRef", key.volume_name)));
    };
    let value = read_inside(volume, Path::new(&key.path)).and_then(|text| env_file::find(&text, &key.key));
    let value = value.map_err(|why| {
        // The container's status does not show what a file of the node holds.
        tracing::warn!(volume = key.volume_name, path = key.path, why, "cannot read a file of variables");
        invalid("couldn't parse env file")
    })?;
    match value {
        Some(value) => Ok(Some(value)),
        None if key.optional == Some(true) => Ok(None),
        None => {
            let path = volume.join(&key.path);
            Err(invalid(format!("environment variable key {:?} not found in file {:?}", key.key, path.display())))
        }
    }
}

/// Reads a file of a volume, wherever links in the volume point to.
fn read_inside(volume: &Path, path: &Path) -> Result<String, String> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let read = || -> std::io::Result<String> {
        let file = openat2(File::open(volume)?, path, how)?;
        let mut text = String::new();
        File::from(file).take(MOST_FILE).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing;
    use super::*;

    fn sources() -> EnvSources {
        let map = json!({"data": {"one": "1", "two": "2"}});
        let secret = json!({"data": {"pass": "cGFzcw=="}});
        EnvSources {
            config_maps: [
                ("settings".to_owned(), Some(Arc::new(serde_json::from_value(map).expect("a map")))),
                ("none".to_owned(), None),
            ]
            .into(),
            secrets: [("secret".to_owned(), Some(Arc::new(serde_json::from_value(secret).expect("a secret"))))].into(),
        }
    }

    fn of(container: Value) -> Result<BTreeMap<String, String>, String> {
        let mut fields = json!({"name": "c"});
        fields.as_object_mut().expect("an object").extend(container.as_object().expect("an object").clone());
        let pod = testing::pod(json!({"containers": [fields]}));
        let mut context = testing::context();
        context.services =
            [("DB_HOST".to_owned(), "10.43.0.5".to_owned()), ("DB_PORT".to_owned(), "1".to_owned())].into();
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        environment(&pod, container, &context, &sources()).map_err(|error| error.to_string())
    }

    fn value_of(env: Value) -> Result<Option<String>, String> {
        of(json!({ "env": [env] })).map(|found| found.get("X").cloned())
    }

    #[test]
    fn later_variables_refer_to_earlier_ones_and_override_lists_and_services() {
        let found = of(json!({
            "envFrom": [
                {"configMapRef": {"name": "settings"}},
                {"prefix": "P_", "configMapRef": {"name": "settings"}},
                {"secretRef": {"name": "secret"}},
                {"configMapRef": {"name": "none", "optional": true}},
            ],
            "env": [
                {"name": "two", "value": "$(one)$(one)"},
                {"name": "LATE", "value": "$(two) $(DB_HOST) $(NONE) $$(one)"},
                {"name": "DB_PORT", "value": "9"},
                {"name": "EMPTY"},
            ],
        }));
        let expected: BTreeMap<String, String> = [
            ("one", "1"),
            ("two", "11"),
            ("P_one", "1"),
            ("P_two", "2"),
            ("pass", "pass"),
            ("LATE", "11 10.43.0.5 $(NONE) $(one)"),
            ("DB_HOST", "10.43.0.5"),
            ("DB_PORT", "9"),
            ("EMPTY", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn each_source_has_its_value_or_its_fault() {
        let key = |kind: &str, name: &str, key: &str, optional: bool| json!({"name": "X", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}});
        let rows = [
            (key("configMapKeyRef", "settings", "one", false), Ok(Some("1"))),
            (key("secretKeyRef", "secret", "pass", false), Ok(Some("pass"))),
            (key("configMapKeyRef", "settings", "ten", true), Ok(None)),
            (key("configMapKeyRef", "none", "ten", true), Ok(None)),
            (key("configMapKeyRef", "settings", "ten", false), Err("couldn't find key ten in ConfigMap ns/settings")),
            (key("secretKeyRef", "secret", "ten", false), Err("couldn't find key ten in Secret ns/secret")),
            (key("configMapKeyRef", "none", "ten", false), Err("configmap \"none\" not found")),
            (key("secretKeyRef", "none", "ten", false), Err("secret \"none\" not found")),
            (json!({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}), Ok(Some("192.168.0.2"))),
            (
                json!({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}),
                Ok(Some("10.42.0.5,fd00::5")),
            ),
            (json!({"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}), Ok(Some("4"))),
        ];
        for (env, expected) in rows {
            let expected = expected.map(|found| found.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(value_of(env.clone()), expected, "{env}");
        }
    }

    #[test]
    fn files_of_volumes_are_read_without_leaving_the_volume() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("env"), "A='1'\n").expect("a file");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("out")).expect("a link");
        let pod = testing::pod(json!({"containers": [{"name": "c"}]}));
        let mut context = testing::context();
        context.volumes.insert("v".to_owned(), testing::mounted(dir.path()));
        let look = |path: &str, key: &str, optional: bool| {
            let source = json!({"fileKeyRef": {"volumeName": "v", "path": path, "key": key, "optional": optional}});
            let source: EnvVarSource = serde_json::from_value(source).expect("a source");
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            look_up(&pod, container, &context, &EnvSources::default(), &source).map_err(|error| error.to_string())
        };
        assert_eq!(look("env", "A", false), Ok(Some("1".to_owned())));
        assert_eq!(look("env", "B", true), Ok(None));
        let missing = format!("environment variable key \"B\" not found in file {:?}", dir.path().join("env"));
        assert_eq!(look("env", "B", false), Err(missing));
        assert_eq!(look("out", "root", false), Err("couldn't parse env file".to_owned()));
    }
}
