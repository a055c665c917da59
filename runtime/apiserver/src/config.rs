//! What the server is told at its start.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kiln_apimachinery::net::Cidr;
use serde_json::{Value, json};

use crate::admission::Plugins;
use crate::audit::AuditConfig;
use crate::authn::accounts::ServiceAccountConfig;
use crate::authn::oidc::OidcConfig;
use crate::dialer::{self, Dialer};
use crate::pod_security::PodSecurityConfig;

/// Writes metrics of another part of this process.
pub type WriteMetrics = Arc<dyn Fn(&mut String) + Send + Sync>;

/// Where the time comes from; tests give one that stands still.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What `/version` says.
#[derive(Clone, Debug)]
pub struct Version {
    /// Minor of the Kubernetes API served, such as `36`.
    pub minor: String,
    /// Whole version, such as `v1.36.0+kiln1`.
    pub git_version: String,
    /// Commit of the source, or empty.
    pub git_commit: String,
    /// Build date, RFC 3339, or empty.
    pub build_date: String,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            minor: "36".into(),
            git_version: "v1.36.0+kiln1".into(),
            git_commit: String::new(),
            build_date: "1970-01-01T00:00:00Z".into(),
        }
    }
}

impl Version {
    /// The body of `/version`.
    pub(crate) fn to_value(&self) -> Value {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "major": "1", "minor": self.minor, "gitVersion": self.git_version, "gitCommit": self.git_commit,
            "gitTreeState": "clean", "buildDate": self.build_date, "goVersion": "none", "compiler": "rustc",
            "platform": format!("linux/{arch}"),
        })
    }
}

/// What this server shows the servers of aggregated APIs, so that they believe whose requests it passes on.
#[derive(Clone)]
pub struct FrontProxy {
    /// PEM of the CA that signs the certificate. It should be no other's: what it signs may act as anyone.
    pub ca_pem: String,
    /// The common name of the certificate.
    pub allowed_names: Vec<String>,
    /// Makes a certificate, or says why it can't. Asked twice a day and for each APIService.
    pub identity: Arc<dyn Fn() -> Result<ProxyIdentity, String> + Send + Sync>,
}

/// A client's certificate.
#[derive(Clone)]
pub struct ProxyIdentity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, PKCS#8.
    pub key_pem: String,
}

/// The server's settings.
#[derive(Clone)]
pub struct Config {
    /// PEM of the cluster's CA certificate, given to anyone at `/cacerts`.
    pub ca_pem: String,
    /// What `/version` says.
    pub version: Version,
    /// Tokens of service accounts: who signs them, for whom.
    pub service_accounts: ServiceAccountConfig,
    /// The steps of admission that are taken.
    pub plugins: Plugins,
    /// What the Pod Security Standards ask for where a namespace does not say, and who is exempt from them.
    pub pod_security: PodSecurityConfig,
    /// Networks that Services get their addresses from: one, or one of IPv4 and one of IPv6; the first one's family is
    /// that of Services that don't say.
    pub service_cidrs: Vec<Cidr>,
    /// Where this server listens, as the Service `kubernetes` says it.
    pub port: u16,
    /// Ports of the nodes that Services may be given.
    pub node_ports: RangeInclusive<u16>,
    /// An issuer whose users are this cluster's, if there is one.
    pub oidc: Option<OidcConfig>,
    /// What is audited, if anything.
    pub audit: Option<AuditConfig>,
    /// What aggregated APIs are shown; without it they are asked by nobody in particular.
    pub front_proxy: Option<FrontProxy>,
    /// The way to the nodes; without one, nothing on a node can be reached.
    pub dialer: Arc<dyn Dialer>,
    /// Source of the time.
    pub clock: Clock,
    /// How often a watch that allows bookmarks gets one.
    pub bookmark_interval: Duration,
    /// How long a watch lasts at least whose client names no timeout; at most it is twice as long.
    pub watch_timeout: Duration,
    /// How long any other request may take.
    pub request_timeout: Duration,
    /// Requests that are served at the same time, shared out among the priority levels.
    pub seats: usize,
    /// How long the server goes on serving, though not ready any more, once a shutdown began: load balancers need time to
    /// look elsewhere.
    pub shutdown_delay: Duration,
    /// How long requests may take to end once a shutdown began.
    pub drain_timeout: Duration,
    /// Write what else of this process is counted, for `/metrics`.
    pub further_metrics: Vec<WriteMetrics>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ca_pem: String::new(),
            version: Version::default(),
            service_accounts: ServiceAccountConfig::default(),
            plugins: Plugins::default(),
            pod_security: PodSecurityConfig::default(),
            service_cidrs: "10.43.0.0/16".parse().into_iter().collect(),
            port: 6443,
            node_ports: 30000..=32767,
            oidc: None,
            audit: None,
            front_proxy: None,
            dialer: dialer::none(),
            clock: Arc::new(Timestamp::now),
            bookmark_interval: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(30 * 60),
            request_timeout: Duration::from_secs(60),
            seats: 600,
            shutdown_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            further_metrics: Vec::new(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("version", &self.version).finish_non_exhaustive()
    }
}
