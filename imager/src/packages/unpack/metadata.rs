//! What a package says about itself.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::{Deb, Error, Result};

/// What a package says about itself, for manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Binary package name.
    pub package: String,
    /// Debian version of the binary package.
    pub version: String,
    /// Architecture, or `all`.
    pub arch: String,
    /// Source package name.
    pub source: String,
    /// Version of the source package.
    pub source_version: String,
    /// `Name <address>`; may be empty.
    pub maintainer: String,
    /// Project's home page.
    pub homepage: Option<String>,
    /// Archive section, e.g. `admin`.
    pub section: Option<String>,
    /// `Depends` and `Pre-Depends`, one clause each, as written.
    pub depends: Vec<String>,
}

impl Metadata {
    pub(super) fn of(deb: &Deb, path: &Path) -> Result<Self> {
        let need = |name: &str| {
            deb.field(name)
                .map(str::to_owned)
                .ok_or_else(|| Error::BadDeb { path: path.into(), reason: format!("control file: it has no {name}") })
        };
        let (package, version) = (need("Package")?, need("Version")?);
        let (source, source_version) = match deb.field("Source").map(|s| s.split_once(" (").unwrap_or((s, ""))) {
            None => (package.clone(), version.clone()),
            Some((name, "")) => (name.into(), version.clone()),
            Some((name, rest)) => (name.into(), rest.trim_end_matches(')').into()),
        };
        let depends = ["Pre-Depends", "Depends"]
            .iter()
            .filter_map(|name| deb.field(name))
            .flat_map(|text| text.split(','))
            .map(|clause| clause.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|clause| !clause.is_empty())
            .collect();
        Ok(Self {
            package,
            version,
            arch: need("Architecture")?,
            source,
            source_version,
            maintainer: deb.field("Maintainer").unwrap_or_default().into(),
            homepage: deb.field("Homepage").map(Into::into),
            section: deb.field("Section").map(Into::into),
            depends,
        })
    }
}
