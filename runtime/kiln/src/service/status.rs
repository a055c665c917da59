//! The status file: what `kiln status` shows. It lies in RAM where the system has `/run`, and is written only when it changes.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// What the service knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// `server` or `agent`.
    pub(crate) role: String,
    /// The node's name.
    pub(crate) node: String,
    /// The API's URL, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// Where it is, in words.
    pub(crate) state: String,
    /// What went wrong last, until something succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
    /// When this run of the service became a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) joined_since: Option<Timestamp>,
    /// The certificates in use.
    pub(crate) certificates: Vec<CertificateStatus>,
    /// A server's storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage: Option<StorageStatus>,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateStatus {
    /// `ca`, `server`, `admin`, `client` or `serving`.
    pub(crate) name: String,
    /// Its end.
    pub(crate) not_after: Timestamp,
}

impl CertificateStatus {
    /// Of a certificate.
    pub(crate) fn new(name: &str, certificate: &kiln_pki::Certificate) -> Self {
        let not_after = Timestamp::try_from(certificate.not_after).unwrap_or(Timestamp::MAX);
        CertificateStatus { name: name.to_owned(), not_after }
    }
}

/// What the storage wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StorageStatus {
    /// Bytes since `since`.
    pub(crate) bytes_written: u64,
    /// Commits since `since`.
    pub(crate) commits: u64,
    /// The start of the service.
    pub(crate) since: Timestamp,
}

impl StorageStatus {
    /// The rate so far; `None` in the first minute, which is all start-up.
    pub(crate) fn bytes_per_day(&self, now: Timestamp) -> Option<u64> {
        let seconds = u64::try_from(now.as_second() - self.since.as_second()).ok().filter(|s| *s >= 60)?;
        Some(u64::try_from(u128::from(self.bytes_written) * 86400 / u128::from(seconds)).unwrap_or(u64::MAX))
    }
}

/// Where the status is kept.
#[derive(Debug, Clone)]
pub(crate) struct StatusFile(PathBuf);

impl StatusFile {
    /// For a data folder: `/run/kiln/status.json` for the usual one, `run/status.json` in any other.
    pub(crate) fn of(data_dir: &Path) -> Self {
        let folder =
            if data_dir == Path::new("/var/lib/kiln") { PathBuf::from("/run/kiln") } else { data_dir.join("run") };
        StatusFile(folder.join("status.json"))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What was last noted; `None` if nothing was.
    ///
    /// # Errors
    /// [`Failure::File`] with the path.
    pub(crate) fn read(&self) -> Result<Option<Status>, Failure> {
        let failed = |error: String| Failure::File(format!("{}: {error}", self.0.display()));
        let Some(text) = kiln_pki::files::read(&self.0).map_err(|e| Failure::File(e.to_string()))? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|e| failed(e.to_string()))
    }

    /// Notes it. A service does not fail because its status can't be written.
    pub(crate) fn write(&self, status: &Status) {
        let text = match serde_json::to_string(status) {
            Ok(text) => text,
            Err(error) => return tracing::warn!(%error, "the status can't be written"),
        };
        let beside = self.0.with_extension("json.new");
        let write = || {
            if let Some(folder) = self.0.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // Renamed so that a reader sees it whole; not synced, since it tells of this run only.
            std::fs::write(&beside, text)?;
            std::fs::rename(&beside, &self.0)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %self.0.display(), %error, "the status can't be written");
        }
    }
}
