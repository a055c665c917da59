//! One place that is told what happens, and tells the log, PID 1 and the status file.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use kiln_join::{Credentials, JoinError, Progress, Step};

use super::notify;
use super::status::{CertificateStatus, Status, StatusFile};

/// The report of one run of the service.
pub(crate) struct Report {
    file: StatusFile,
    /// The status, and what of it is on file.
    status: Mutex<(Status, Option<Status>)>,
}

impl Report {
    /// Begins a report for a node.
    pub(crate) fn new(data_dir: &Path, role: &str, node: &str) -> Self {
        let status =
            Status { role: role.to_owned(), node: node.to_owned(), state: "starting".to_owned(), ..Status::default() };
        let report = Report { file: StatusFile::of(data_dir), status: Mutex::new((status, None)) };
        report.change(|_| {});
        report
    }

    /// Changes the status, and the file if anything is different.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Status)) {
        // The lock guards plain data, which is whole even if a writer panicked.
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut status.0);
        if status.1.as_ref() != Some(&status.0) {
            self.file.write(&status.0);
            status.1 = Some(status.0.clone());
        }
    }

    /// The node is registered.
    pub(crate) fn joined(&self, server: &str) {
        let name = self.node();
        tracing::info!(node = name, server, "joined");
        notify::send(&[("READY", "1"), ("X_KILN_STEP", "ready"), ("STATUS", &format!("joined {server} as {name}"))]);
        self.change(|status| {
            status.state = "joined".to_owned();
            status.server = Some(server.to_owned());
            status.error = None;
            status.help = None;
            status.joined_since = Some(Timestamp::now());
        });
    }

    /// What the node is doing that isn't a step of a join.
    pub(crate) fn working(&self, what: &str) {
        tracing::info!("{what}");
        notify::send(&[("STATUS", what)]);
        self.change(|status| status.state = what.to_owned());
    }

    /// Something fails and is tried again.
    pub(crate) fn failing(&self, why: &str) {
        tracing::warn!("{why}");
        notify::send(&[("X_KILN_ERROR", why)]);
        self.change(|status| status.error = Some(why.to_owned()));
    }

    fn node(&self) -> String {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).0.node.clone()
    }
}

impl Progress for Report {
    fn step(&self, step: Step, detail: &str) {
        tracing::info!(%step, "{detail}");
        notify::send(&[("X_KILN_STEP", &step.to_string()), ("STATUS", detail)]);
        self.change(|status| status.state = detail.to_owned());
    }

    fn failed(&self, error: JoinError) {
        let (text, help) = (error.to_string(), error.help());
        tracing::error!("join failed: {text}; {help}");
        notify::send(&[("X_KILN_ERROR", &text), ("X_KILN_HELP", help)]);
        self.change(|status| {
            status.error = Some(text);
            status.help = Some(help.to_owned());
        });
    }

    fn server_time(&self, time: SystemTime) {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        notify::send(&[("X_KILN_TIME", &seconds.to_string())]);
    }

    fn credentials(&self, credentials: &Credentials) {
        let mut certificates = vec![CertificateStatus::new("client", &credentials.client.certificate)];
        certificates.extend(credentials.serving.iter().map(|s| CertificateStatus::new("serving", &s.certificate)));
        self.change(|status| {
            status.server = Some(credentials.server.clone());
            status.certificates = certificates;
        });
    }

    fn token_spent(&self) {
        tracing::info!("the single-use token has been used; it can be removed from node.toml");
        notify::send(&[("X_KILN_SCRUB_TOKEN", "1")]);
    }
}
