//! Certificates: which one a client is shown.
//!
//! By the name that it asks for (SNI): one for the whole name, one for the wildcard that covers it, else the default one, which is
//! made at the start and signed by nobody. They are exchanged while connections go on.

mod load;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

pub(crate) use load::{CertificateError, Loaded, load};

/// Certificates by names.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what stands behind a `*.` that is for several labels too.
    deep: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For all other names, and for clients that tell none.
    default: Option<Arc<CertifiedKey>>,
}

impl Table {
    /// Adds a certificate for a name, unless there is one.
    pub(crate) fn add(&mut self, name: &str, key: &Arc<CertifiedKey>) {
        let name = name.to_ascii_lowercase();
        let (map, name) = match name.strip_prefix("*.") {
            Some(rest) => (&mut self.wildcards, rest),
            None => (&mut self.exact, name.as_str()),
        };
        map.entry(name.into()).or_insert_with(|| key.clone());
    }

    /// Adds a certificate for a name as Gateways mean it: a wildcard is for one label or more.
    pub(crate) fn add_deep(&mut self, name: &str, key: &Arc<CertifiedKey>) {
        match name.strip_prefix("*.") {
            Some(rest) => _ = self.deep.entry(rest.to_ascii_lowercase().into()).or_insert_with(|| key.clone()),
            None => self.add(name, key),
        }
    }

    /// Adds a certificate for all names that have none, unless there is one.
    pub(crate) fn add_default(&mut self, key: &Arc<CertifiedKey>) {
        self.default.get_or_insert_with(|| key.clone());
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let mut suffixes = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let exact = self.exact.get(name).or_else(|| self.wildcards.get(name.split_once('.')?.1));
        exact.or_else(|| suffixes.find_map(|suffix| self.deep.get(suffix)))
    }
}

/// Chooses certificates.
#[derive(Debug)]
pub(crate) struct Certificates {
    table: RwLock<Table>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    /// None but the default one.
    ///
    /// # Errors
    /// If that can't be made.
    pub(crate) fn new(provider: &CryptoProvider) -> Result<Self, CertificateError> {
        Ok(Self { table: RwLock::default(), default: load::self_signed(provider)? })
    }

    /// Has these shown from now on.
    pub(crate) fn set(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let found = name.and_then(|name| table.find(name.trim_end_matches('.')).cloned());
        Some(found.or_else(|| table.default.clone()).unwrap_or_else(|| self.default.clone()))
    }
}

/// TLS towards clients: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// If the provider does not know these versions, which this one does, or has no random numbers.
pub(crate) fn acceptor(
    provider: Arc<CryptoProvider>,
    certificates: Arc<Certificates>,
) -> Result<TlsAcceptor, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Resuming a session costs no memory here.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
