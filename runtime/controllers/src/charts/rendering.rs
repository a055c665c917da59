//! From a wish to manifests: values, the cluster's abilities, and the cluster's side of the templates.

use bytes::Bytes;
use kiln_charts::{Capabilities, CertificateRequest, Host, Pair, Release, Rendered, render, yaml};
use kiln_client::{Client, Clock};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::fetch::entry;
use super::spec::{Chart, ChartConfig, Spec, ValuesSecret};
use super::{Controller, Wanted};
use crate::object_set::{Kind, Sets};
use crate::reconcile::Failure;

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Controller {
    /// The values that are asked for, each over those before it; without Secrets whose changes are no reason for an upgrade, if
    /// that is all that is wanted.
    pub(super) async fn values(
        &self,
        chart: &Chart,
        config: Option<&ChartConfig>,
        with_optional: bool,
    ) -> Result<Map<String, Value>, Failure> {
        let mut values = Map::new();
        for spec in std::iter::once(&chart.spec).chain(config.map(|config| &config.spec)) {
            self.lay(&mut values, spec, &chart.metadata.namespace, with_optional).await?;
        }
        for (path, value) in &chart.spec.set {
            let value = match value {
                Value::String(text) if matches!(text.to_lowercase().as_str(), "true" | "false" | "null") => {
                    kiln_charts::typed(&text.to_lowercase())
                }
                value => value.clone(),
            };
            kiln_charts::set(&mut values, path, value).map_err(Failure::Waiting)?;
        }
        Ok(values)
    }

    async fn lay(
        &self,
        values: &mut Map<String, Value>,
        spec: &Spec,
        namespace: &str,
        with_optional: bool,
    ) -> Result<(), Failure> {
        let mut over = |what: &str, text: &str| -> Result<(), Failure> {
            match yaml::parse(text).map_err(|error| Failure::Waiting(format!("{what}: {error}")))? {
                Value::Object(map) => kiln_charts::merge(values, map),
                Value::Null => {}
                _ => return Err(Failure::Waiting(format!("{what} is no map"))),
            }
            Ok(())
        };
        over("valuesContent", &spec.values_content)?;
        if let Value::Object(_) = &spec.values {
            over("values", &spec.values.to_string())?;
        }
        let secrets = spec.values_secrets.iter().filter(|secret| with_optional || !secret.is_optional);
        for ValuesSecret { name, keys, is_optional } in secrets.filter(|secret| !secret.keys.is_empty()) {
            let secret = self.client.find::<Value>(&format!("/api/v1/namespaces/{namespace}/secrets/{name}")).await?;
            let Some(secret) = secret else {
                if *is_optional {
                    continue;
                }
                return Err(Failure::Waiting(format!("the Secret {namespace}/{name} is not there")));
            };
            for key in keys {
                over(&format!("{name}/{key}"), &entry(&secret, key))?;
            }
        }
        Ok(())
    }

    /// What Chart.yaml says, and what the chart comes to.
    pub(super) async fn rendered(
        &self,
        wanted: &Wanted<'_>,
        archive: Bytes,
        revision: i64,
        is_upgrade: bool,
    ) -> Result<(Map<String, Value>, Rendered), Failure> {
        let release = Release {
            name: wanted.chart.metadata.name.clone(),
            namespace: wanted.namespace.clone(),
            revision,
            is_upgrade,
        };
        let capabilities = self.capabilities().await?;
        let values = wanted.values.clone();
        let host = Cluster { client: self.client.clone(), clock: self.clock.clone(), runtime: Handle::current() };
        let rendering = tokio::task::spawn_blocking(move || {
            let chart = kiln_charts::Chart::load(&archive)?;
            let metadata = chart.metadata().clone();
            let rendered = render(chart, values, &release, &capabilities, &host)?;
            Ok::<_, kiln_charts::ChartError>((metadata, rendered))
        });
        let rendered = rendering.await.map_err(|error| Failure::Waiting(format!("rendering: {error}")))?;
        rendered.map_err(|error| Failure::Waiting(error.to_string()))
    }

    async fn capabilities(&self) -> Result<Capabilities, Failure> {
        let version = self.client.get::<Value>("/version").await?;
        let text = |field: &str| version[field].as_str().unwrap_or_default().to_owned();
        let mut api_versions = Vec::new();
        for path in ["/api", "/apis"] {
            let request = http::Request::builder().uri(path).header(http::header::ACCEPT, DISCOVERY).body(Bytes::new());
            let request = request.map_err(|error| Failure::Waiting(error.to_string()))?;
            let groups = self.client.send::<Value>(request).await?;
            for group in groups["items"].as_array().into_iter().flatten() {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                for version in group["versions"].as_array().into_iter().flatten() {
                    let version_name = version["version"].as_str().unwrap_or_default();
                    let api_version =
                        if name.is_empty() { version_name.to_owned() } else { format!("{name}/{version_name}") };
                    let resources = version["resources"].as_array().into_iter().flatten();
                    let kinds = resources.filter_map(|resource| resource["responseKind"]["kind"].as_str());
                    api_versions.extend(kinds.map(|kind| format!("{api_version}/{kind}")));
                    api_versions.push(api_version);
                }
            }
        }
        Ok(Capabilities { version: text("gitVersion"), major: text("major"), minor: text("minor"), api_versions })
    }
}

/// The cluster as templates see it, from a thread that may wait.
struct Cluster {
    client: Client,
    clock: Clock,
    runtime: Handle,
}

impl Host for Cluster {
    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, String> {
        let kind = Kind { api_version: api_version.to_owned(), kind: kind.to_owned() };
        let looking = Sets::look_up(&self.client, &kind, namespace, name);
        self.runtime.block_on(looking).map_err(|failure| failure.to_string())
    }

    fn random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            if let Ok(random) = kiln_pki::secret::random_bytes::<32>() {
                chunk.copy_from_slice(&random[..chunk.len()]);
            }
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    fn certificate(&self, request: &CertificateRequest) -> Result<Pair, String> {
        let wish = kiln_pki::Wish {
            common_name: &request.common_name,
            names: request.addresses.iter().chain(&request.names).cloned().collect(),
            days: request.days,
            is_ca: request.is_ca,
            issuer: request.issuer.as_ref().map(|issuer| (issuer.certificate.as_str(), issuer.key.as_str())),
        };
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(self.now()).unwrap_or_default());
        let issued = kiln_pki::issue(&wish, now).map_err(|error| error.to_string())?;
        Ok(Pair { certificate: issued.certificate_pem, key: issued.key_pem })
    }
}
