//! Where the packages come from: the mirror that was given, or the one the host's apt uses.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Archive, Error, Result, Settings, paragraph::Paragraph};

/// Base URLs of the two archives, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    /// The main archive: suites, their updates and backports.
    pub debian: String,
    /// The security archive.
    pub security: String,
}

impl Mirrors {
    /// The mirror of the settings, else the host's.
    ///
    /// # Errors
    /// [`Error::BadMirror`], [`Error::NoMirror`], [`Error::Io`] when apt's files cannot be read.
    pub fn discover(settings: &Settings) -> Result<Self> {
        match &settings.mirror {
            Some(url) => Self::from_url(url),
            None => Self::from_apt(Path::new("/etc/apt")),
        }
    }

    /// A mirror and its sibling with the security archive, `<url>-security`.
    fn from_url(url: &str) -> Result<Self> {
        let debian = url.trim_end_matches('/').to_owned();
        if !usable(&debian) {
            return Err(Error::BadMirror { url: url.into() });
        }
        Ok(Self { security: format!("{debian}-security"), debian })
    }

    /// The first URIs of apt's sources below `directory` whose paths end in `/debian` and `/debian-security`. A missing
    /// security archive is taken to be the main one's sibling.
    fn from_apt(directory: &Path) -> Result<Self> {
        let uris = apt_uris(directory)?;
        let first = |ending: &str| uris.iter().find(|uri| uri.ends_with(ending)).cloned();
        let debian = first("/debian").ok_or_else(|| Error::NoMirror {
            looked_at: format!("{}/sources.list and sources.list.d", directory.display()),
        })?;
        let security = first("/debian-security").unwrap_or_else(|| format!("{debian}-security"));
        Ok(Self { debian, security })
    }

    /// The base URL of an archive.
    #[must_use]
    pub fn base(&self, archive: Archive) -> &str {
        match archive {
            Archive::Debian => &self.debian,
            Archive::DebianSecurity => &self.security,
        }
    }
}

fn usable(url: &str) -> bool {
    ["http://", "https://", "file:/"].iter().any(|scheme| url.starts_with(scheme))
}

/// All usable URIs that apt would fetch binaries from, in apt's order, without trailing slashes.
fn apt_uris(directory: &Path) -> Result<Vec<String>> {
    let mut files = vec![directory.join("sources.list")];
    files.extend(listing(&directory.join("sources.list.d"))?);
    let mut uris = Vec::new();
    for file in files {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", file)(e)),
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => uris.extend(text.lines().filter_map(one_line)),
            Some("sources") => {
                let malformed = |reason| Error::Malformed { what: file.display().to_string(), reason };
                uris.extend(Paragraph::parse_all(&text).map_err(malformed)?.iter().flat_map(deb822));
            }
            _ => {}
        }
    }
    uris.retain(|uri| usable(uri));
    Ok(uris)
}

fn listing(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", directory)(e)),
    };
    let mut files = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::io("read", directory))?;
    files.sort();
    Ok(files)
}

/// The URI of `deb [options] uri suite component...`.
fn one_line(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    rest.split_whitespace().next().map(|uri| uri.trim_end_matches('/').to_owned())
}

/// The URIs of a deb822 paragraph that is enabled and for binaries.
fn deb822(paragraph: &Paragraph) -> Vec<String> {
    let words = |field| paragraph.get(field).unwrap_or_default().split_whitespace();
    let enabled = !matches!(paragraph.get("Enabled"), Some("no" | "false" | "off" | "0"));
    if !enabled || !words("Types").any(|kind| kind == "deb") {
        return Vec::new();
    }
    words("URIs").map(|uri| uri.trim_end_matches('/').to_owned()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    fn apt(files: &[(&str, &str)]) -> Result<Mirrors> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Mirrors::from_apt(directory.path())
    }

    #[test]
    fn one_line_sources_are_read_with_their_options() {
        let text = "# deb http://a.example/debian x main\ndeb-src http://b.example/debian x main\n\
                    deb [arch=amd64 signed-by=/k] http://c.example/debian/ trixie main\n\
                    deb http://d.example/debian-security trixie-security main\n";
        let mirrors = apt(&[("sources.list", text)]).unwrap();
        assert_eq!(mirrors.debian, "http://c.example/debian");
        assert_eq!(mirrors.security, "http://d.example/debian-security");
    }

    #[test]
    fn deb822_sources_are_read_and_disabled_ones_passed_over() {
        let text = "Types: deb\nEnabled: no\nURIs: https://off.example/debian\n\n\
                    Types: deb-src\nURIs: https://src.example/debian\n\n\
                    Types: deb deb-src\nURIs: https://other.example/apt\n https://on.example/pub/debian/\nSuites: x\n";
        let mirrors = apt(&[("sources.list.d/debian.sources", text)]).unwrap();
        assert_eq!(mirrors.debian, "https://on.example/pub/debian");
        assert_eq!(mirrors.security, "https://on.example/pub/debian-security");
    }

    #[test]
    fn a_host_without_a_debian_mirror_is_told_to_give_one() {
        let error = apt(&[("sources.list", "deb http://a.example/ubuntu noble main\n")]).unwrap_err();
        assert!(error.to_string().contains("--mirror"), "{error}");
    }

    #[test]
    fn a_given_mirror_must_be_a_url() {
        assert!(matches!(Mirrors::from_url("ftp://x/debian"), Err(Error::BadMirror { .. })));
        assert_eq!(Mirrors::from_url("file:///m/debian/").unwrap().security, "file:///m/debian-security");
    }
}
