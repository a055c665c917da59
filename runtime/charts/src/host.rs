//! What a chart may ask of the cluster that it is rendered for.

use serde_json::Value;

/// A certificate with its key, PEM.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// What a certificate is to say.
#[derive(Debug, Clone, Default)]
pub struct CertificateRequest {
    /// The subject's common name.
    pub common_name: String,
    /// Addresses.
    pub addresses: Vec<String>,
    /// DNS names.
    pub names: Vec<String>,
    /// How long it is valid.
    pub days: i64,
    /// Whether it is a CA's.
    pub is_ca: bool,
    /// The CA that signs it; itself, if none.
    pub issuer: Option<Pair>,
}

/// The cluster's side of rendering.
pub trait Host {
    /// An object, a list of them if `name` is empty, or `None` if there is none.
    ///
    /// # Errors
    /// Why the cluster cannot say.
    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, String>;

    /// Fills bytes so that nobody can guess them.
    fn random(&self, bytes: &mut [u8]);

    /// The time of day in seconds since the epoch.
    fn now(&self) -> i64;

    /// Makes a certificate, or answers why not.
    ///
    /// # Errors
    /// Why it cannot be made.
    fn certificate(&self, request: &CertificateRequest) -> Result<Pair, String>;
}
