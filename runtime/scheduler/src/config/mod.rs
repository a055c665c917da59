//! What a KubeSchedulerConfiguration says, resolved: profiles with their plugins and settings.
//!
//! The file has the form of `kubescheduler.config.k8s.io/v1`. Without one there is one profile, `default-scheduler`, with
//! Kubernetes' defaults.

pub(crate) mod args;
mod extenders;
mod file;
mod resolve;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::NodeAffinity;

use self::args::{FitArgs, ResourceWeight, default_resources};
use crate::extender::Extender;
use crate::framework::{PluginId, Plugins};
use crate::metrics::Metrics;
use crate::plugins::SpreadDefaults;

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no YAML, or has a field that there is not.
    #[error("{0}")]
    Syntax(String),
    /// It says something that can't be; the text names the field.
    #[error("{0}")]
    Value(String),
}

/// What the scheduler is to do.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) profiles: Vec<ProfileConfig>,
    pub(crate) extenders: Vec<Extender>,
    /// The first wait of a pod that found no node; it doubles each time.
    pub(crate) initial_backoff: Duration,
    /// The longest wait.
    pub(crate) max_backoff: Duration,
    /// Where the scheduler runs, for events.
    pub(crate) host: String,
    /// Where it counts what it does.
    pub(crate) metrics: Arc<Metrics>,
}

impl Config {
    /// Whether programs elsewhere have a say in where pods go. They are sent the pods.
    pub fn has_extenders(&self) -> bool {
        !self.extenders.is_empty()
    }

    /// Kubernetes' defaults.
    pub fn new() -> Self {
        Self {
            profiles: vec![ProfileConfig::default()],
            extenders: Vec::new(),
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            host: "localhost".to_owned(),
            metrics: Arc::default(),
        }
    }

    /// What a file says.
    ///
    /// # Errors
    /// It can't be read, or what it says can't be done.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        resolve::resolve(&file::parse(text)?)
    }

    /// The same, counting here what it does.
    #[must_use]
    pub fn counting(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// The same, run on a host of this name.
    #[must_use]
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// A profile's plugins and their settings.
#[derive(Debug, Clone)]
pub(crate) struct ProfileConfig {
    pub(crate) name: String,
    pub(crate) percentage: usize,
    pub(crate) pre_enqueue: Plugins,
    pub(crate) filters: Vec<PluginId>,
    pub(crate) post_filter: Plugins,
    pub(crate) scores: Vec<(PluginId, i64)>,
    pub(crate) fit: FitArgs,
    pub(crate) balanced: Vec<ResourceWeight>,
    pub(crate) hard_pod_affinity_weight: i64,
    pub(crate) ignore_preferred_of_existing: bool,
    pub(crate) added_affinity: Option<Box<NodeAffinity>>,
    pub(crate) spread: SpreadDefaults,
    pub(crate) bind_timeout: Duration,
    pub(crate) candidates_percentage: usize,
    pub(crate) candidates_at_least: usize,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self {
            name: "default-scheduler".to_owned(),
            percentage: 0,
            pre_enqueue: Plugins::all(),
            filters: PluginId::ALL.to_vec(),
            post_filter: Plugins::all(),
            scores: PluginId::ALL.iter().map(|id| (*id, id.default_weight())).collect(),
            fit: FitArgs::default(),
            balanced: default_resources(),
            hard_pod_affinity_weight: 1,
            ignore_preferred_of_existing: false,
            added_affinity: None,
            spread: SpreadDefaults::System,
            bind_timeout: Duration::from_secs(600),
            candidates_percentage: 10,
            candidates_at_least: 100,
        }
    }
}
