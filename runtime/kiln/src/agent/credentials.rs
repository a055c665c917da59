//! What an agent shows to its peers, as it is now: certificates are renewed and servers move while it runs.

use std::sync::Arc;
use std::time::SystemTime;

use kiln_join::tls::certified_key;
use kiln_join::{Credentials, JoinError, Progress, Step};
use kiln_tunnel::Identity;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::service::Report;

/// Passes reports on, and keeps the credentials among them.
pub(super) struct Kept {
    report: Arc<Report>,
    identity: watch::Sender<Identity>,
    serving: watch::Sender<Option<Arc<CertifiedKey>>>,
}

impl Kept {
    /// Begins with those of the join.
    pub(super) fn new(report: Arc<Report>, first: &Credentials) -> Self {
        let identity = watch::Sender::new(identity(first));
        let serving = watch::Sender::new(serving(first));
        Self { report, identity, serving }
    }

    /// Who the node is.
    pub(super) fn identity(&self) -> watch::Receiver<Identity> {
        self.identity.subscribe()
    }

    /// What it serves with; nothing before it is registered.
    pub(super) fn serving(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Serving(self.serving.subscribe()))
    }
}

fn identity(credentials: &Credentials) -> Identity {
    Identity {
        server: credentials.server.clone(),
        ca_pem: credentials.ca_pem.clone(),
        certificate_pem: credentials.client.certificate_pem.clone(),
        key_pem: credentials.client.key_pem.clone(),
    }
}

fn serving(credentials: &Credentials) -> Option<Arc<CertifiedKey>> {
    let pair = credentials.serving.as_ref()?;
    match certified_key(&pair.certificate_pem, &pair.key_pem) {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            tracing::warn!(%error, "the serving certificate can't be used");
            None
        }
    }
}

impl Progress for Kept {
    fn step(&self, step: Step, detail: &str) {
        self.report.step(step, detail);
    }

    fn failed(&self, error: JoinError) {
        self.report.failed(error);
    }

    fn server_time(&self, time: SystemTime) {
        self.report.server_time(time);
    }

    fn credentials(&self, credentials: &Credentials) {
        let new = identity(credentials);
        self.identity.send_if_modified(|known| {
            let changed = *known != new;
            *known = new;
            changed
        });
        self.serving.send_replace(serving(credentials));
        self.report.credentials(credentials);
    }

    fn token_spent(&self) {
        self.report.token_spent();
    }
}

/// The certificate of the moment.
#[derive(Debug)]
struct Serving(watch::Receiver<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}
