//! Programs beside the scheduler, as the file names them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use kiln_apimachinery::names::qualified_name;
use kiln_client::Client;
use kiln_client::https::{Auth, Https, HttpsConfig, Trust};
use kiln_pki::tls::{any_certificate, system_roots};
use rustls::ClientConfig;
use serde::Deserialize;

use super::ConfigError;
use crate::extender::Extender;

/// How long an extender may take if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An extender.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FileExtender {
    url_prefix: String,
    #[serde(default)]
    filter_verb: String,
    #[serde(default)]
    preempt_verb: String,
    #[serde(default)]
    prioritize_verb: String,
    #[serde(default)]
    weight: i64,
    #[serde(default)]
    bind_verb: String,
    /// The prefix says it as well; but so any certificate will do if no CA is named.
    #[serde(default, rename = "enableHTTPS")]
    enable_https: bool,
    #[serde(default)]
    tls_config: Tls,
    http_timeout: Option<String>,
    #[serde(default)]
    node_cache_capable: bool,
    #[serde(default)]
    pub(super) managed_resources: Vec<ManagedResource>,
    #[serde(default)]
    ignorable: bool,
}

/// A resource that is an extender's concern.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ManagedResource {
    pub(super) name: String,
    #[serde(default)]
    pub(super) ignored_by_scheduler: bool,
}

/// How it is known, and how it knows us.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Tls {
    insecure: bool,
    server_name: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_data: Option<String>,
    key_data: Option<String>,
    ca_data: Option<String>,
}

/// The text of a file, or of data in base64.
fn pem(at: &str, data: Option<&String>, file: Option<&PathBuf>) -> Result<Option<String>, ConfigError> {
    let wrong = |why: String| ConfigError::Value(format!("{at}: {why}"));
    if let Some(data) = data {
        let text = STANDARD.decode(data.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return text.map(Some).ok_or_else(|| wrong("it is no PEM in base64".to_owned()));
    }
    let read =
        |file: &PathBuf| std::fs::read_to_string(file).map_err(|error| wrong(format!("{}: {error}", file.display())));
    file.map(read).transpose()
}

/// All of them, checked.
pub(super) fn resolve(given: &[FileExtender]) -> Result<Vec<Extender>, ConfigError> {
    if given.iter().filter(|extender| !extender.bind_verb.is_empty()).count() > 1 {
        return Err(ConfigError::Value("extenders: only one extender can implement bind".to_owned()));
    }
    let mut managed = HashSet::new();
    let mut extenders = Vec::new();
    for (at, extender) in given.iter().enumerate() {
        let at = format!("extenders[{at}]");
        for (index, resource) in extender.managed_resources.iter().enumerate() {
            let wrong = |why| Err(ConfigError::Value(format!("{at}.managedResources[{index}].name: {why}")));
            if !is_extended_resource(&resource.name) {
                return wrong("is an invalid extended resource name");
            }
            if !managed.insert(&*resource.name) {
                return wrong("duplicate extender managed resource name");
            }
        }
        extenders.push(one(&at, extender)?);
    }
    // Those that can be done without are asked last.
    extenders.sort_by_key(|extender| extender.ignorable);
    Ok(extenders)
}

/// Whether a resource is neither one of Kubernetes' own nor a quota's.
fn is_extended_resource(name: &str) -> bool {
    let is_own = !name.contains('/') || name.contains("kubernetes.io/");
    let prefix = "requests.";
    !is_own
        && !name.starts_with(prefix)
        && [name, &format!("{prefix}{name}")].iter().all(|name| qualified_name(name).is_empty())
}

/// Whose certificates an extender may show if no CA is named for it: as in the reference anybody's if that is said or TLS is
/// asked for but no CA, and else those of CAs that this system trusts.
fn trust_without_ca(is_insecure: bool) -> Result<Trust, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    if is_insecure {
        return any_certificate(provider).map(Trust).map_err(|error| error.to_string());
    }
    let roots = system_roots().ok_or("this system trusts no CAs; name one by caFile or caData")?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(Trust(builder.map_err(|error| error.to_string())?.with_root_certificates(roots)))
}

fn one(at: &str, given: &FileExtender) -> Result<Extender, ConfigError> {
    let wrong = |why: &str| Err(ConfigError::Value(format!("{at}.{why}")));
    if !given.prioritize_verb.is_empty() && given.weight <= 0 {
        return wrong("weight: must have a positive weight applied to it");
    }
    let address =
        given.url_prefix.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('/').unwrap_or((rest, ""))));
    let (scheme, host, path) = match address {
        Some((scheme @ ("http" | "https"), (host, path))) if !host.is_empty() => (scheme, host, path),
        _ => return wrong("urlPrefix: write it as http://host:port/path or https://host:port/path"),
    };
    let tls = &given.tls_config;
    let field = |name: &str| format!("{at}.tlsConfig.{name}");
    let ca = pem(&field("caData"), tls.ca_data.as_ref(), tls.ca_file.as_ref())?;
    if tls.insecure && ca.is_some() {
        return wrong("tlsConfig: specifying a root certificates file with the insecure flag is not allowed");
    }
    let trust = match &ca {
        None if scheme == "https" => {
            let trust = trust_without_ca(tls.insecure || given.enable_https);
            Some(trust.map_err(|why| ConfigError::Value(format!("{at}.tlsConfig: {why}")))?)
        }
        _ => None,
    };
    let certificate = pem(&field("certData"), tls.cert_data.as_ref(), tls.cert_file.as_ref())?;
    let key = pem(&field("keyData"), tls.key_data.as_ref(), tls.key_file.as_ref())?;
    let auth = match (certificate, key) {
        (Some(certificate_pem), Some(key_pem)) => Auth::Certificate { certificate_pem, key_pem },
        _ => Auth::Anonymous,
    };
    let https = HttpsConfig {
        server: format!("{scheme}://{host}"),
        plain: scheme == "http",
        ca_pem: ca.unwrap_or_default(),
        trust,
        auth,
        tls_server_name: tls.server_name.clone(),
        ..HttpsConfig::default()
    };
    let transport = Https::new(https).map_err(|error| ConfigError::Value(format!("{at}: {error}")))?;
    let timeout = match given.http_timeout.as_deref().map(str::parse::<SignedDuration>) {
        None => TIMEOUT,
        Some(Ok(timeout)) if timeout.is_zero() => TIMEOUT,
        Some(Ok(timeout)) if timeout.is_positive() => timeout.unsigned_abs(),
        Some(_) => return wrong("httpTimeout: write it as 5s or 100ms"),
    };
    let verb = |verb: &String| Some(verb.clone()).filter(|verb| !verb.is_empty());
    let path = path.trim_end_matches('/');
    Ok(Extender {
        client: Client::new(transport),
        url: given.url_prefix.clone(),
        path: if path.is_empty() { String::new() } else { format!("/{path}") },
        filter: verb(&given.filter_verb),
        prioritize: verb(&given.prioritize_verb),
        preempt: verb(&given.preempt_verb),
        bind: verb(&given.bind_verb),
        weight: given.weight,
        knows_nodes: given.node_cache_capable,
        resources: given.managed_resources.iter().map(|resource| resource.name.clone()).collect(),
        ignorable: given.ignorable,
        timeout,
    })
}
