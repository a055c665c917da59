//! HelmChart and HelmChartConfig: what is read of them, and their definitions, with helm-controller's fields and columns.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_client::{Object, ObjectRef};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::installed;

const GROUP: &str = "helm.cattle.io";
/// How long a release may take, unless it is said.
const PATIENCE: Duration = Duration::from_secs(300);

/// Metadata.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) finalizers: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// A HelmChart.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Chart {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) conditions: Vec<Value>,
}

/// What a HelmChart, or a HelmChartConfig of it, asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Spec {
    pub(super) target_namespace: String,
    pub(super) create_namespace: bool,
    pub(super) chart: String,
    pub(super) version: String,
    pub(super) repo: String,
    pub(super) repo_ca: String,
    pub(super) repo_ca_config_map: String,
    pub(super) take_ownership: bool,
    pub(super) chart_content: String,
    pub(super) timeout: String,
    pub(super) failure_policy: String,
    pub(super) set: BTreeMap<String, Value>,
    pub(super) values: Value,
    pub(super) values_content: String,
    pub(super) values_secrets: Vec<ValuesSecret>,
    pub(super) auth_secret: String,
    /// Whether other servers that the repository names learn who asks, too.
    pub(super) pass_credentials: bool,
    pub(super) docker_registry_secret: String,
    /// Whether any certificate of a server is believed.
    pub(super) skip_tls_verify: bool,
    /// Whether registries are spoken to in the clear.
    pub(super) plain_http: bool,
    /// All of it: another wish is another release.
    pub(super) wish: Value,
}

/// A Secret with values.
#[derive(Debug, Clone)]
pub(super) struct ValuesSecret {
    pub(super) name: String,
    pub(super) keys: Vec<String>,
    /// It may be missing, and its changes alone are no reason for an upgrade.
    pub(super) is_optional: bool,
}

impl From<Value> for Spec {
    fn from(wish: Value) -> Self {
        let named = |field: &str| wish[field]["name"].as_str().unwrap_or_default().to_owned();
        let text = |field: &str| wish[field].as_str().unwrap_or_default().to_owned();
        let flag = |field: &str| wish[field] == true;
        let secrets = wish["valuesSecrets"].as_array().into_iter().flatten().map(|secret| ValuesSecret {
            name: secret["name"].as_str().unwrap_or_default().to_owned(),
            keys: meta::strings(secret.get("keys")).into_iter().map(str::to_owned).collect(),
            is_optional: secret["ignoreUpdates"] == true,
        });
        Self {
            target_namespace: text("targetNamespace"),
            create_namespace: flag("createNamespace"),
            chart: text("chart"),
            version: text("version"),
            repo: text("repo"),
            repo_ca: text("repoCA"),
            repo_ca_config_map: named("repoCAConfigMap"),
            take_ownership: flag("takeOwnership"),
            chart_content: text("chartContent"),
            timeout: text("timeout"),
            failure_policy: text("failurePolicy"),
            set: wish["set"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            values: wish["values"].clone(),
            values_content: text("valuesContent"),
            values_secrets: secrets.collect(),
            auth_secret: named("authSecret"),
            pass_credentials: flag("authPassCredentials"),
            docker_registry_secret: named("dockerRegistrySecret"),
            skip_tls_verify: flag("insecureSkipTLSVerify"),
            plain_http: flag("plainHTTP"),
            wish,
        }
    }
}

impl Spec {
    /// How long hooks may take.
    pub(super) fn patience(&self) -> Duration {
        let span = self.timeout.to_lowercase().parse::<jiff::SignedDuration>().ok();
        span.and_then(|span| Duration::try_from(span).ok()).unwrap_or(PATIENCE)
    }

    /// Whether changes of a Secret of this name are a reason for an upgrade.
    pub(super) fn follows(&self, name: &str) -> bool {
        self.values_secrets.iter().any(|secret| secret.name == name && !secret.is_optional)
    }
}

impl Chart {
    /// Where it is installed.
    pub(super) fn namespace(&self) -> &str {
        match self.spec.target_namespace.as_str() {
            "" => &self.metadata.namespace,
            namespace => namespace,
        }
    }
}

/// That there is a Secret; what is in it is asked for when it is needed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Secret {
    metadata: Identity,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
}

/// A HelmChartConfig.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ChartConfig {
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) spec: Spec,
}

macro_rules! objects {
    ($($kind:ty),*) => {
        $(impl Object for $kind {
            fn key(&self) -> ObjectRef {
                ObjectRef::namespaced(self.metadata.namespace.as_str(), self.metadata.name.as_str())
            }

            fn uid(&self) -> &str {
                &self.metadata.uid
            }

            fn resource_version(&self) -> &str {
                &self.metadata.resource_version
            }
        })*
    };
}

objects!(Chart, ChartConfig, Secret);

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn reference() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}}})
}

/// What both kinds have.
fn common() -> Value {
    json!({
        "values": {"description": "Values of the chart; they go before valuesContent.", "x-kubernetes-preserve-unknown-fields": true},
        "valuesContent": text("Values of the chart, as YAML."),
        "valuesSecrets": {"type": "array", "description": "Secrets with values of the chart.", "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "keys": {"type": "array", "items": {"type": "string"}},
                "ignoreUpdates": flag("The Secret may be missing, and its changes upgrade nothing."),
            },
        }},
        "failurePolicy": {"type": "string", "enum": ["abort", "reinstall", "retry"],
            "description": "abort and retry wait for another wish after a failure; reinstall tries again."},
        "serverSide": {"type": "string", "enum": ["true", "false", "auto"]},
        "forceConflicts": flag("Objects are always applied by force."),
    })
}

/// The definition of HelmCharts.
pub(super) fn chart_definition() -> Value {
    let mut properties = common();
    let own = json!({
        "targetNamespace": text("Where the chart is installed."),
        "createNamespace": flag("Make the namespace if it is not there."),
        "chart": text("The chart's name in the repository, the URL of its archive, or oci:// and its place in a registry."),
        "version": text("The chart's version, or a constraint on it."),
        "repo": text("The repository's URL."),
        "repoCA": text("Certificates of the CAs that are believed, PEM."),
        "repoCAConfigMap": reference(),
        "set": {"type": "object", "description": "Single values; they go before all others.",
            "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}},
        "helmVersion": text("Not used."),
        "bootstrap": flag("Not used: no pod is needed."),
        "takeOwnership": flag("Take over objects that are there already."),
        "chartContent": text("The chart's archive, in base64."),
        "jobImage": text("Not used: no pod is needed."),
        "backOffLimit": {"type": "integer", "format": "int32"},
        "timeout": text("How long each hook may take, as 5m0s."),
        "authSecret": reference(),
        "authPassCredentials": flag("Other servers that the repository names learn who asks, too."),
        "insecureSkipTLSVerify": flag("Believe any certificate of the servers that the chart comes from."),
        "plainHTTP": flag("Speak to registries in the clear."),
        "dockerRegistrySecret": reference(),
        "podSecurityContext": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "securityContext": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "driver": {"type": "string", "enum": ["secret", "configmap"], "default": "secret"},
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut properties, own) {
        all.extend(own);
    }
    let condition = json!({"type": "object", "required": ["type", "status"], "properties": {
        "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"}, "message": {"type": "string"}}});
    let status = json!({"type": "object", "properties": {
        "jobName": {"type": "string"},
        "conditions": {"type": "array", "items": condition, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    }});
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let columns = json!([
        column("Repo", "string", ".spec.repo"),
        column("Chart", "string", ".spec.chart"),
        column("Version", "string", ".spec.version"),
        column("TargetNamespace", "string", ".spec.targetNamespace"),
        column("Bootstrap", "boolean", ".spec.bootstrap"),
        column("Failed", "string", ".status.conditions[?(@.type=='Failed')].status"),
    ]);
    let spec = json!({"type": "object", "properties": properties});
    installed::definition(GROUP, ("HelmChart", "helmcharts", &["hc"]), spec, Some(status), columns)
}

/// The definition of HelmChartConfigs.
pub(super) fn config_definition() -> Value {
    let spec = json!({"type": "object", "properties": common()});
    installed::definition(GROUP, ("HelmChartConfig", "helmchartconfigs", &["hcc"]), spec, None, json!([]))
}
