//! Debian packages: from a list of names to verified files, without apt, dpkg or root on the host.
//!
//! In: the [`Source`]s and wanted names of a board, and the host's mirror. Out: [`Pin`]s for the [`Lock`], `.deb` files
//! in a content-addressed cache, and [`Unpacked`] packages that enter a [`crate::tree::Tree`] with their owners.
//!
//! Trust flows one way: the shipped [`Keyring`] signs `InRelease`, `InRelease` names the SHA-256 of `Packages.xz`, that
//! names the SHA-256 of each `.deb`, and the lock repeats it. Nothing is parsed before its hash was checked, and no
//! setting turns a check off. Maintainer scripts are never run. This room knows no board and writes only below
//! [`Settings::cache`] (and where [`unpack_to_dir`] is pointed).

mod cache;
mod deb;
mod dependency;
mod download;
mod error;
mod fetch;
mod filter;
mod index;
mod keyring;
mod load;
mod lock;
mod mirror;
mod paragraph;
mod parallel;
mod release;
mod resolver;
mod unpack;
mod version;

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::progress::Progress;

pub use deb::{Deb, Entry, EntryKind};
pub use error::{Class, Error};
pub use fetch::fetch;
pub use filter::{FilterError, PathFilter};
pub use keyring::Keyring;
pub use lock::{Change, Lock, Section};
pub use mirror::Mirrors;
pub use resolver::Unsatisfied;
pub use unpack::{Metadata, Unpacked, unpack_into, unpack_to_dir};
pub use version::compare;

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What every operation here needs to know about the machine it runs on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base URL of the main archive (`http`, `https` or `file`), without a trailing slash; absent: the host's apt
    /// sources say. The security archive is its sibling, `<mirror>-security`.
    pub mirror: Option<String>,
    /// Directory that holds `debs/`, `indices/` and `unpacked/`; made when missing. Safe to delete at any time.
    pub cache: PathBuf,
    /// Keys that may sign an archive's index.
    pub keyring: Keyring,
    /// The moment at which signatures, keys and `Valid-Until` are judged.
    pub now: SystemTime,
    /// Use the cache only: what is not there is an error, and no connection is made.
    pub offline: bool,
}

impl Settings {
    /// Settings with the shipped keys, the present time and the network allowed.
    ///
    /// # Errors
    /// [`Error::Keyring`] when the shipped key file does not parse, which a test excludes.
    pub fn new(mirror: Option<String>, cache: PathBuf) -> Result<Self> {
        Ok(Self { mirror, cache, keyring: Keyring::shipped()?, now: SystemTime::now(), offline: false })
    }

    /// [`Settings::now`] in seconds since 1970.
    fn now_unix(&self) -> i64 {
        match self.now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(_) => 0,
        }
    }
}

/// One suite of one archive for one architecture: what a line of apt's sources says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Suite or codename, e.g. `trixie`, `trixie-security`, `bookworm-backports`.
    pub suite: String,
    /// Components, e.g. `main`, `non-free-firmware`.
    pub components: Vec<String>,
    /// Debian architecture, e.g. `arm64`, `armhf`, `amd64`.
    pub arch: String,
    /// Which archive carries the suite.
    pub archive: Archive,
}

impl Source {
    /// A source of the archive that carries `suite`: the security archive for `*-security`, the main one for the rest.
    #[must_use]
    pub fn new(suite: &str, components: &[&str], arch: &str) -> Self {
        Self {
            suite: suite.into(),
            components: components.iter().map(|&c| c.into()).collect(),
            arch: arch.into(),
            archive: if suite.ends_with("-security") { Archive::DebianSecurity } else { Archive::Debian },
        }
    }
}

/// One of Debian's two archives; a mirror carries each below a base URL of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Archive {
    /// Suites, their updates and backports.
    Debian,
    /// Security updates.
    DebianSecurity,
}

impl Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "debian",
            Self::DebianSecurity => "debian-security",
        })
    }
}

/// One package, pinned to the bytes of one `.deb`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Package name.
    pub name: String,
    /// Debian version, with epoch.
    pub version: String,
    /// Architecture of the package itself; `all` for one without machine code.
    pub arch: String,
    /// Suite and component that offered it, e.g. `trixie/main`.
    pub source: String,
    /// Which archive the file is in.
    pub archive: Archive,
    /// Path below the archive's base URL, `pool/...`.
    pub filename: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`, 64 lower-case hex digits.
    pub sha256: String,
}

/// A source that could not be used, and why; the others were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Suite, architecture and archive, for a person.
    pub source: String,
    /// What was wrong with it.
    pub reason: String,
}

/// What [`resolve`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The packages and all they need, sorted by name.
    pub pins: Vec<Pin>,
    /// Newest `Date` among the indices that were used, seconds since 1970.
    pub index_date: i64,
    /// Sources that were out of sync, missing or unreachable. A forged, expired or mislabelled one is an error instead.
    pub skipped: Vec<Skipped>,
}

/// Resolves `wanted` against the newest indices of `sources`.
///
/// A wanted item is `name`, `name=version` or `name/suite`. Packages named in `exclude` are never chosen, and a
/// dependency that one of them could meet counts as met. The newest version among the sources wins; a suite marked
/// `NotAutomatic` (backports) is used only where `name/suite` asks for it, and for what such a package needs. The result
/// depends only on the indices and the arguments' sets, not on their order.
///
/// # Errors
/// [`Error::Signature`], [`Error::Expired`], [`Error::FromTheFuture`] or [`Error::WrongSuite`] for any source;
/// [`Error::NoIndex`] when no source could be used; [`Error::Unsatisfied`] when something wanted cannot be had.
pub fn resolve(
    settings: &Settings,
    sources: &[Source],
    wanted: &[String],
    exclude: &[String],
    progress: &Progress,
) -> Result<Resolution> {
    let loaded = load::load(settings, sources, progress)?;
    let pins = resolver::resolve(&loaded.indices, wanted, exclude, &loaded.skipped)?;
    Ok(Resolution { pins, index_date: loaded.date, skipped: loaded.skipped })
}
