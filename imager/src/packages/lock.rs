//! `imager.lock`: the exact packages of every board, so that two builds take the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    fs, io,
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::profile::Arch;

use super::{Error, Pin, Resolution, Result, Source, cache};

/// Version of the file's format that this program writes and reads.
const VERSION: u32 = 1;

const HEAD: &str =
    "# Made by `imager update-lock`: every package of every image, by version and SHA-256. Commit this file.\n\n";

/// The lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format; 1.
    pub version: u32,
    /// What each board's root is made of, by board name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boards: BTreeMap<String, Section>,
    /// What the private cross toolchain is made of, by a name that the toolchain chooses, e.g. an architecture.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub toolchain: BTreeMap<String, Section>,
    /// Digests of container images' manifests, by name and architecture.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, BTreeMap<Arch, String>>,
}

/// The pins for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Newest `Date` of the indices at the time of locking, seconds since 1970: the timestamp of what is built from it.
    pub timestamp: i64,
    /// Digest of what was asked for (see [`Section::request`]): a section with another one is stale.
    pub request: String,
    /// The packages, sorted by name.
    pub packages: Vec<Pin>,
}

impl Section {
    /// The section that locks what `resolve` answered to these arguments.
    #[must_use]
    pub fn new(sources: &[Source], wanted: &[String], exclude: &[String], resolution: &Resolution) -> Self {
        let mut packages = resolution.pins.clone();
        packages.sort();
        Self { timestamp: resolution.index_date, request: Self::request(sources, wanted, exclude), packages }
    }

    /// Digest of the arguments of `resolve`, independent of their order: SHA-256, lower-case hex.
    #[must_use]
    pub fn request(sources: &[Source], wanted: &[String], exclude: &[String]) -> String {
        let mut hash = Sha256::new();
        let mut lines: BTreeSet<String> = BTreeSet::new();
        for source in sources {
            let mut components = source.components.clone();
            components.sort();
            let Source { suite, arch, archive, .. } = source;
            lines.insert(format!("source {archive} {suite} {arch} {}", components.join(" ")));
        }
        lines.extend(wanted.iter().map(|item| format!("wanted {item}")));
        lines.extend(exclude.iter().map(|item| format!("exclude {item}")));
        for line in lines {
            hash.update(line);
            hash.update("\n");
        }
        hex::encode(hash.finalize())
    }

    /// What would change if `now` replaced this section, by package name; empty when the pins are the same.
    #[must_use]
    pub fn changes(&self, now: &[Pin]) -> Vec<Change> {
        let old: BTreeMap<_, _> = self.packages.iter().map(|pin| (pin.name.as_str(), pin)).collect();
        let new: BTreeMap<_, _> = now.iter().map(|pin| (pin.name.as_str(), pin)).collect();
        let names: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
        names
            .into_iter()
            .filter_map(|name| {
                let (old, new) = (old.get(name).copied(), new.get(name).copied());
                (old != new).then(|| Change { name: name.into(), old: old.cloned(), new: new.cloned() })
            })
            .collect()
    }
}

/// One package that a lock and the indices disagree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Package name.
    pub name: String,
    /// The locked pin; absent when the package is new.
    pub old: Option<Pin>,
    /// The pin that the indices give; absent when the package is no longer needed.
    pub new: Option<Pin>,
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old.version != new.version => {
                write!(f, "package {name}: {} -> {}", old.version, new.version)
            }
            (Some(old), Some(new)) if old.sha256 != new.sha256 => {
                write!(f, "package {name} {}: same version, sha256 {} -> {}", old.version, old.sha256, new.sha256)
            }
            (Some(old), Some(new)) => {
                write!(f, "package {name} {}: from {} -> {}", old.version, old.source, new.source)
            }
            (None, Some(new)) => write!(f, "package {name}: added, {}", new.version),
            (Some(old), None) => write!(f, "package {name}: removed, was {}", old.version),
            (None, None) => write!(f, "package {name}: unchanged"),
        }
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, boards: BTreeMap::new(), toolchain: BTreeMap::new(), images: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock; `None` when there is no file.
    ///
    /// # Errors
    /// [`Error::BadLock`] with line and column; [`Error::Io`].
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let bad = |reason: String| Error::BadLock { path: path.into(), reason };
        let lock: Self = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if lock.version != VERSION {
            return Err(bad(format!(
                "version {} is not {VERSION}, the one this imager knows; use the imager that wrote it, or `imager update-lock`",
                lock.version
            )));
        }
        for pin in lock.boards.values().chain(lock.toolchain.values()).flat_map(|section| &section.packages) {
            check(&pin.sha256, &pin.filename).map_err(|reason| bad(format!("package {}: {reason}", pin.name)))?;
        }
        for (name, digest) in lock.images.iter().flat_map(|(name, digests)| digests.values().map(move |d| (name, d))) {
            let digits = digest.strip_prefix("sha256:").unwrap_or_default();
            check(digits, "").map_err(|reason| bad(format!("image {name}: {reason}")))?;
        }
        Ok(Some(lock))
    }

    /// Writes the lock whole or not at all: a temporary file beside it, synced and renamed. The same content is not
    /// written again, so that the file's time tells when it last changed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let body = toml::to_string(self).map_err(|e| Error::BadLock { path: path.into(), reason: e.to_string() })?;
        let text = format!("{HEAD}{body}");
        if fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        cache::write(path, text.as_bytes())
    }

    /// The board's section if it locks exactly this request.
    #[must_use]
    pub fn board(&self, name: &str, request: &str) -> Option<&Section> {
        self.boards.get(name).filter(|section| section.request == request)
    }

    /// The digest of an image's manifest, if it is locked.
    #[must_use]
    pub fn image(&self, name: &str, arch: Arch) -> Option<&str> {
        self.images.get(name)?.get(&arch).map(String::as_str)
    }

    /// Locks an image by the digest of its manifest. Answers the one before.
    pub fn pin_image(&mut self, name: &str, arch: Arch, digest: &str) -> Option<String> {
        self.images.entry(name.to_owned()).or_default().insert(arch, digest.to_owned())
    }

    /// The toolchain's section of that name if it locks exactly this request.
    #[must_use]
    pub fn toolchain(&self, name: &str, request: &str) -> Option<&Section> {
        self.toolchain.get(name).filter(|section| section.request == request)
    }

    /// `--locked`: whether the indices still give what the lock has for a board.
    ///
    /// # Errors
    /// [`Error::Drift`] naming each package that would change; all of them when the board is not locked at all.
    pub fn check_board(&self, name: &str, now: &[Pin]) -> Result<()> {
        let empty = Section { timestamp: 0, request: String::new(), packages: Vec::new() };
        let changes = self.boards.get(name).unwrap_or(&empty).changes(now);
        if changes.is_empty() {
            return Ok(());
        }
        Err(Error::Drift { section: format!("board {name}"), changes })
    }
}

/// A pin's hash and path become file names and URLs, so neither an index nor a lock may smuggle other things in.
pub(super) fn check(sha256: &str, filename: &str) -> Result<(), String> {
    if sha256.len() != 64 || !sha256.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("sha256 `{sha256}` is not 64 lower-case hex digits"));
    }
    if filename.starts_with('/') || filename.split('/').any(|part| part == "..") {
        return Err(format!("filename `{filename}` leaves the archive"));
    }
    Ok(())
}
