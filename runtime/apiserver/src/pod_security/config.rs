//! What an administrator says for all namespaces: what is asked for where labels say nothing, and who is exempt. Read from the
//! `AdmissionConfiguration` (`apiserver.config.k8s.io/v1`) that Kubernetes' own API server takes
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/enforce-standards-admission-controller/>).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_apimachinery::{FieldError, names};
use serde::Deserialize;
use serde_yaml_ng::Value;

use super::levels::{self, Policy, Standard};
use crate::admission::Plugin;

/// Settings of the Pod Security Standards; by default labels alone count and nobody is exempt.
#[derive(Debug, Clone, Default)]
pub struct PodSecurityConfig {
    pub(super) defaults: Policy,
    exemptions: Exemptions,
}

/// A file that configures admission can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PodSecurityError {
    /// It can't be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// It is no YAML, or of another shape.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, serde_yaml_ng::Error),
    /// It is of another kind or version, or of a plugin that takes none.
    #[error("{0}: {1}")]
    Foreign(PathBuf, String),
    /// Fields have values that they can't have.
    #[error("{0}: {1}")]
    Invalid(PathBuf, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// Where the configuration is, from the folder of the file that names it.
    path: Option<PathBuf>,
    configuration: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Exemptions {
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

impl PodSecurityConfig {
    /// Reads the file of an API server's `--admission-control-config-file`.
    ///
    /// # Errors
    /// [`PodSecurityError`], which names the file, and the field if it is one.
    pub fn read(path: &Path) -> Result<Self, PodSecurityError> {
        let file: File = parse(path, &text(path)?)?;
        kind(path, &file.api_version, &file.kind, "apiserver.config.k8s.io/v1", "AdmissionConfiguration")?;
        let mut config = Self::default();
        for entry in file.plugins {
            entry.name.parse::<Plugin>().map_err(|why| PodSecurityError::Foreign(path.into(), why))?;
            if entry.name != Plugin::PodSecurity.to_string() {
                let why = format!("the plugin {} takes no configuration here", entry.name);
                return Err(PodSecurityError::Foreign(path.into(), why));
            }
            let beside = entry.path.map(|of| path.parent().unwrap_or(Path::new("")).join(of));
            config = match (entry.configuration, beside) {
                (Some(value), _) => {
                    let read = serde_yaml_ng::from_value(value);
                    Self::of(path, read.map_err(|error| PodSecurityError::Unreadable(path.into(), error))?)?
                }
                (None, Some(beside)) => Self::of(&beside, parse(&beside, &text(&beside)?)?)?,
                (None, None) => Self::default(),
            };
        }
        Ok(config)
    }

    fn of(path: &Path, given: Configuration) -> Result<Self, PodSecurityError> {
        let wanted = "pod-security.admission.config.k8s.io/v1";
        kind(path, &given.api_version, &given.kind, wanted, "PodSecurityConfiguration")?;
        let mut errors = Vec::new();
        let mut standard = |field: &str, level: &str, version: &str| -> Standard {
            let mut told = |field: String, text: &str, why| {
                errors.push(FieldError::invalid(format!("defaults.{field}"), &text.into(), why));
            };
            let mut standard = Standard::default();
            match levels::known(level) {
                Some(level) => standard.level = level,
                None if level.is_empty() => {}
                None => told(field.to_owned(), level, levels::NO_LEVEL),
            }
            match levels::minor(version) {
                Some(minor) => standard.minor = minor,
                None if version.is_empty() => {}
                None => told(format!("{field}-version"), version, levels::NO_VERSION),
            }
            standard
        };
        let texts = &given.defaults;
        let defaults = Policy {
            enforce: standard("enforce", &texts.enforce, &texts.enforce_version),
            audit: standard("audit", &texts.audit, &texts.audit_version),
            warn: standard("warn", &texts.warn, &texts.warn_version),
        };
        let Exemptions { usernames, runtime_classes, namespaces } = &given.exemptions;
        let filled = |name: &str| if name.is_empty() { vec!["username must not be empty".to_owned()] } else { vec![] };
        check("namespaces", namespaces, names::dns1123_label, &mut errors);
        check("runtimeClasses", runtime_classes, names::dns1123_subdomain, &mut errors);
        check("usernames", usernames, filled, &mut errors);
        if errors.is_empty() {
            return Ok(Self { defaults, exemptions: given.exemptions });
        }
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(PodSecurityError::Invalid(path.into(), errors.join("; ")))
    }

    pub(super) fn is_exempt_namespace(&self, name: &str) -> bool {
        self.exemptions.namespaces.iter().any(|exempt| exempt == name)
    }

    pub(super) fn is_exempt_user(&self, name: &str) -> bool {
        self.exemptions.usernames.iter().any(|exempt| exempt == name)
    }

    pub(super) fn is_exempt_runtime(&self, class: &str) -> bool {
        self.exemptions.runtime_classes.iter().any(|exempt| exempt == class)
    }
}

/// Notes what is wrong with a list of names, each of which is to be there once.
fn check(list: &str, names: &[String], faults: impl Fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let (field, value) = (format!("exemptions.{list}[{at}]"), name.as_str().into());
        let faults = faults(name);
        if !faults.is_empty() {
            errors.push(FieldError::invalid(field, &value, &faults.join(", ")));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(field, &value));
        }
    }
}

fn text(path: &Path) -> Result<String, PodSecurityError> {
    std::fs::read_to_string(path).map_err(|error| PodSecurityError::File(path.into(), error))
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, PodSecurityError> {
    serde_yaml_ng::from_str(text).map_err(|error| PodSecurityError::Unreadable(path.into(), error))
}

fn kind(path: &Path, api_version: &str, kind: &str, version: &str, name: &str) -> Result<(), PodSecurityError> {
    if (api_version, kind) == (version, name) {
        return Ok(());
    }
    let why = format!("a {kind} in {api_version}; it must be a {name} in {version}");
    Err(PodSecurityError::Foreign(path.into(), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PodSecurityConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admission.yaml");
        std::fs::write(&path, text).unwrap();
        let named = format!("{}: ", path.display());
        PodSecurityConfig::read(&path).map_err(|error| error.to_string().replace(&named, ""))
    }

    /// The file with a plugin's configuration, of which the rest is given.
    fn with(configuration: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  \
             configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    \
             kind: PodSecurityConfiguration\n{configuration}"
        )
    }

    #[test]
    fn the_file_of_the_documentation_is_read() {
        let text = with(
            "    defaults:\n      enforce: baseline\n      enforce-version: v1.30\n      audit: restricted\n    \
             exemptions:\n      usernames: [alice]\n      runtimeClasses: [vm]\n      namespaces: [infra]\n",
        );
        let config = read(&text).unwrap();
        let told = |policy: Policy| [policy.enforce, policy.audit, policy.warn].map(|standard| standard.to_string());
        assert_eq!(told(config.defaults), ["baseline:v1.30", "restricted:latest", "privileged:latest"]);
        assert!(
            config.is_exempt_user("alice") && config.is_exempt_runtime("vm") && config.is_exempt_namespace("infra")
        );
        assert!(
            !config.is_exempt_user("bob") && !config.is_exempt_runtime("") && !config.is_exempt_namespace("default")
        );
        let nothing = read("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n").unwrap();
        assert_eq!(told(nothing.defaults), ["privileged:latest"; 3]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        let plugin = |name: &str| {
            format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{{name: {name}}}]\n"
            )
        };
        for (text, why) in [
            ("kind: Pod\napiVersion: v1\n".to_owned(), "a Pod in v1; it must be a AdmissionConfiguration"),
            (plugin("Nonsense"), "there is no admission plugin `Nonsense`"),
            (plugin("ImagePolicyWebhook"), "there is no admission plugin `ImagePolicyWebhook`"),
            (plugin("ResourceQuota"), "the plugin ResourceQuota takes no configuration"),
            (with("    default: {}\n"), "unknown field `default`"),
            (with("    defaults: {enforce: strict}\n"), "defaults.enforce: Invalid value: \"strict\": must be one of"),
            (with("    defaults: {warn-version: v2.0}\n"), "defaults.warn-version: Invalid value: \"v2.0\": must be"),
            (
                with("    exemptions: {namespaces: [A]}\n"),
                "exemptions.namespaces[0]: Invalid value: \"A\": a lowercase",
            ),
            (with("    exemptions: {usernames: [a, a]}\n"), "exemptions.usernames[1]: Duplicate value: \"a\""),
            (
                with("    exemptions: {usernames: ['']}\n"),
                "exemptions.usernames[0]: Invalid value: \"\": username must",
            ),
        ] {
            let told = read(&text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
