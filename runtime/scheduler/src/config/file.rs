//! The file as it is written.

use serde::Deserialize;
use serde_json::Value;

use super::ConfigError;
use super::extenders::FileExtender;

/// A `KubeSchedulerConfiguration`. What concerns a process of its own is read and has no effect here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(default, rename = "parallelism")]
    _parallelism: Value,
    #[serde(default, rename = "leaderElection")]
    _leader_election: Value,
    #[serde(default, rename = "clientConnection")]
    _client_connection: Value,
    #[serde(default, rename = "enableProfiling")]
    _enable_profiling: Value,
    #[serde(default, rename = "enableContentionProfiling")]
    _enable_contention_profiling: Value,
    #[serde(default, rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Value,
    pub(super) percentage_of_nodes_to_score: Option<i64>,
    pub(super) pod_initial_backoff_seconds: Option<i64>,
    pub(super) pod_max_backoff_seconds: Option<i64>,
    #[serde(default)]
    pub(super) profiles: Vec<FileProfile>,
    #[serde(default)]
    pub(super) extenders: Vec<FileExtender>,
}

/// A profile.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct FileProfile {
    pub(super) scheduler_name: Option<String>,
    pub(super) percentage_of_nodes_to_score: Option<i64>,
    pub(super) plugins: FilePlugins,
    pub(super) plugin_config: Vec<FileArgs>,
}

/// The plugins of each extension point.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct FilePlugins {
    pub(super) multi_point: FileSet,
    pub(super) pre_enqueue: FileSet,
    pub(super) queue_sort: FileSet,
    pub(super) pre_filter: FileSet,
    pub(super) filter: FileSet,
    pub(super) post_filter: FileSet,
    pub(super) pre_score: FileSet,
    pub(super) score: FileSet,
    pub(super) reserve: FileSet,
    pub(super) permit: FileSet,
    pub(super) pre_bind: FileSet,
    pub(super) bind: FileSet,
    pub(super) post_bind: FileSet,
}

/// Plugins that are turned on and off at one extension point.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileSet {
    pub(super) enabled: Vec<FilePlugin>,
    pub(super) disabled: Vec<FilePlugin>,
}

/// A plugin by its name, or `*`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilePlugin {
    pub(super) name: String,
    #[serde(default)]
    pub(super) weight: i64,
}

/// The settings of a plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileArgs {
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Value,
}

pub(super) fn parse(text: &str) -> Result<File, ConfigError> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    if file.api_version != "kubescheduler.config.k8s.io/v1" || file.kind != "KubeSchedulerConfiguration" {
        let text = format!(
            "it is a {} of {}; write a KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1",
            file.kind, file.api_version
        );
        return Err(ConfigError::Value(text));
    }
    Ok(file)
}
