//! The boot report: what each phase took and how it ended, on the console and as JSON on STATE.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const STAGE1: &str = "/run/kiln/stage1.json";
/// Where the report is kept.
pub(crate) const BOOT_REPORT: &str = "/state/boot-report.json";

/// One phase's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PhaseReport {
    /// The phase.
    pub(crate) name: String,
    /// Duration of its last attempt, ms.
    pub(crate) ms: u64,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// Why it failed; absent when it is done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) error: Option<String>,
}

impl PhaseReport {
    /// A phase that was done at the first attempt.
    pub(crate) fn ok(name: &str, took: Duration) -> Self {
        Self { name: name.into(), ms: took.as_millis() as u64, attempts: 1, error: None }
    }
}

/// The console's line after `kiln: `; tests rely on it.
impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            None => write!(f, "phase {} ok {} ms", self.name, self.ms),
            Some(why) => write!(f, "phase {} failed: {why}", self.name),
        }
    }
}

/// What stage 1 hands to stage 2, in RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stage1Report {
    /// Kernel name of the boot disk.
    pub(crate) disk: String,
    /// Its phases.
    pub(crate) phases: Vec<PhaseReport>,
}

impl Stage1Report {
    /// Leaves the report in `/run`.
    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::malformed(STAGE1, e.to_string()))?;
        fs::write(STAGE1, text).map_err(|e| Error::io("write", STAGE1, e))
    }

    /// Reads stage 1's report; a system booted some other way has none.
    pub(crate) fn read() -> Option<Self> {
        serde_json::from_slice(&fs::read(STAGE1).ok()?).ok()
    }
}

/// The whole boot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BootReport<'a> {
    /// Format; 1.
    pub(crate) schema: u32,
    /// The image's board.
    pub(crate) board: &'a str,
    /// Kiln's version.
    pub(crate) version: &'a str,
    /// The node's name, once known.
    pub(crate) node: Option<String>,
    /// All phases of both stages in order.
    pub(crate) phases: Vec<PhaseReport>,
    /// Uptime in seconds when the node had joined.
    pub(crate) joined_at: Option<f64>,
}

impl BootReport<'_> {
    /// Writes the report to STATE.
    pub(crate) fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::malformed(BOOT_REPORT, e.to_string()))?;
        fs::write(BOOT_REPORT, text).map_err(|e| Error::io("write", BOOT_REPORT, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_lines_have_the_agreed_form() {
        let mut phase = PhaseReport::ok("state", Duration::from_millis(1234));
        assert_eq!(phase.to_string(), "phase state ok 1234 ms");
        phase.error = Some("no disk".into());
        assert_eq!(phase.to_string(), "phase state failed: no disk");
    }
}
