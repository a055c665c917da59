//! Gets the archive of a chart: from the HelmChart itself, over HTTPS or HTTP from a URL or a repository, or from an OCI registry.

mod registry;
mod source;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, header};
use kiln_charts::repository;
use kiln_client::https::Auth;
use kiln_client::registry_login;
use serde_json::Value;

use self::registry::Registry;
use self::source::{Login, Source, host};
use super::Controller;
use super::spec::Chart;
use crate::reconcile::Failure;

fn failed(what: impl Into<String>) -> Failure {
    Failure::Waiting(what.into())
}

/// An entry of a Secret; empty if it has none.
pub(super) fn entry(secret: &Value, key: &str) -> String {
    let bytes = secret["data"][key].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// What HTTP's basic authentication sends.
fn basic(name: &str, password: &str) -> Option<HeaderValue> {
    let mut value =
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Controller {
    /// The chart's archive.
    pub(super) async fn archive(&self, chart: &Chart) -> Result<Bytes, Failure> {
        let spec = &chart.spec;
        if !spec.chart_content.is_empty() {
            let packed: String = spec.chart_content.split_whitespace().collect();
            let bytes = BASE64_STANDARD.decode(packed).map_err(|error| failed(format!("chartContent: {error}")))?;
            return Ok(bytes.into());
        }
        let source = Source { ca: self.authorities(chart).await?, is_insecure: spec.skip_tls_verify };
        if let Some(place) = spec.chart.strip_prefix("oci://") {
            let mut registry = Registry::new(&source, place, spec.plain_http)?;
            registry.login = self.registry_login(chart, &registry).await?;
            return registry.chart(&spec.version).await;
        }
        let login = self.login(chart).await?;
        let is_url = spec.chart.starts_with("https://") || spec.chart.starts_with("http://");
        if is_url {
            return source.get(&spec.chart, &login).await;
        }
        if spec.repo.is_empty() || spec.chart.contains("://") {
            let what =
                "charts come from an https, http or oci URL, from a repository with `repo`, or from `chartContent`";
            return Err(failed(format!("cannot get the chart {:?}: {what}", spec.chart)));
        }
        let index = source.get(&format!("{}/index.yaml", spec.repo.trim_end_matches('/')), &login).await?;
        let index = String::from_utf8_lossy(&index).into_owned();
        // Large, and the words of it are read one by one.
        let (repo, name, version) = (spec.repo.clone(), spec.chart.clone(), spec.version.clone());
        let finding = tokio::task::spawn_blocking(move || repository::find(&index, &repo, &name, &version));
        let url =
            finding.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        let is_told = spec.pass_credentials || host(&url) == host(&spec.repo);
        let login = if is_told { login } else { Login::default() };
        source.get(&url, &login).await
    }

    /// A Secret or ConfigMap beside the HelmChart; null if none is named.
    async fn beside(&self, chart: &Chart, plural: &str, name: &str) -> Result<Value, Failure> {
        if name.is_empty() {
            return Ok(Value::Null);
        }
        let path = format!("/api/v1/namespaces/{}/{plural}/{name}", chart.metadata.namespace);
        Ok(self.client.get::<Value>(&path).await?)
    }

    /// The CAs that are believed, PEM; empty for those of the system.
    async fn authorities(&self, chart: &Chart) -> Result<String, Failure> {
        let map = self.beside(chart, "configmaps", &chart.spec.repo_ca_config_map).await?;
        let files = map["data"].as_object().into_iter().flatten().filter_map(|(_, text)| text.as_str());
        let all = std::iter::once(chart.spec.repo_ca.as_str()).chain(files).filter(|text| !text.is_empty());
        Ok(all.collect::<Vec<_>>().join("\n"))
    }

    /// Who asks a repository: a name with a password, or else a certificate.
    async fn login(&self, chart: &Chart) -> Result<Login, Failure> {
        let secret = self.beside(chart, "secrets", &chart.spec.auth_secret).await?;
        let mut login = Login::default();
        let (name, password) = (entry(&secret, "username"), entry(&secret, "password"));
        let (certificate_pem, key_pem) = (entry(&secret, "tls.crt"), entry(&secret, "tls.key"));
        if !name.is_empty() || !password.is_empty() {
            login.headers.extend(basic(&name, &password).map(|value| (header::AUTHORIZATION, value)));
        } else if !certificate_pem.is_empty() {
            login.auth = Auth::Certificate { certificate_pem, key_pem };
        }
        Ok(login)
    }

    /// Who asks a registry: whom Docker's configuration names for it.
    async fn registry_login(&self, chart: &Chart, registry: &Registry<'_>) -> Result<Option<HeaderValue>, Failure> {
        let name = &chart.spec.docker_registry_secret;
        let secret = self.beside(chart, "secrets", name).await?;
        if secret.is_null() {
            return Ok(None);
        }
        let config: Value = serde_json::from_str(&entry(&secret, ".dockerconfigjson"))
            .map_err(|error| failed(format!("the Secret {name}: .dockerconfigjson: {error}")))?;
        let entries = config["auths"].as_object().into_iter().flatten();
        let own = entries.filter(|(place, _)| registry.is_at(place)).max_by_key(|(place, _)| place.len());
        Ok(own.map(|(_, entry)| registry_login(entry)).and_then(|(name, password)| basic(&name, &password)))
    }
}
