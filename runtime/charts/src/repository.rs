//! A repository of charts: its index, and where the archive of a version is.

use crate::ChartError;
use crate::semver::{Version, satisfies};
use crate::yaml;

/// Whether a text is a version, not a constraint on one.
pub fn is_version(text: &str) -> bool {
    text.matches('.').count() >= 2 && Version::parse(text).is_some()
}

/// The newest of some versions within a constraint, or the newest that is no prerelease without one. One that is written as the
/// constraint goes before all.
pub fn newest<'a>(versions: impl Iterator<Item = &'a str>, constraint: &str) -> Option<&'a str> {
    let mut all: Vec<(Version, &str)> = versions.filter_map(|text| Some((Version::parse(text)?, text))).collect();
    all.sort_by(|(a, _), (b, _)| b.compare(a));
    let wanted = if constraint.is_empty() { "*" } else { constraint };
    let exact = all.iter().find(|(_, text)| *text == constraint);
    let found = exact.or_else(|| all.iter().find(|(version, _)| satisfies(wanted, version) == Some(true)));
    found.map(|(_, text)| *text)
}

/// The URL of a chart's archive: of the newest version within the constraint, or of the newest that is no prerelease without one.
///
/// # Errors
/// When the index cannot be read or has no such chart.
pub fn find(index: &str, repository: &str, chart: &str, constraint: &str) -> Result<String, ChartError> {
    let index = yaml::parse(index).map_err(|error| ChartError::Chart(format!("the index of {repository}: {error}")))?;
    let entries = index["entries"][chart].as_array().map(Vec::as_slice).unwrap_or_default();
    let versions = entries.iter().filter_map(|entry| entry["version"].as_str());
    let found = newest(versions, constraint);
    let Some(entry) = found.and_then(|found| entries.iter().find(|entry| entry["version"] == found)) else {
        let version = if constraint.is_empty() { String::new() } else { format!(" version {constraint:?}") };
        return Err(ChartError::Chart(format!("chart {chart:?}{version} not found in {repository} repository")));
    };
    let Some(url) = entry["urls"][0].as_str() else {
        return Err(ChartError::Chart(format!("chart {chart:?} has no downloadable URLs")));
    };
    Ok(absolute(repository, url))
}

/// A URL that may be relative to the repository's.
fn absolute(repository: &str, url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    let base = repository.split(['?', '#']).next().unwrap_or(repository).trim_end_matches('/');
    match url.strip_prefix('/') {
        Some(path) => {
            let from = base.find("://").map_or(0, |at| at + 3);
            let end = base[from..].find('/').map_or(base.len(), |at| from + at);
            format!("{}/{path}", &base[..end])
        }
        None => format!("{base}/{url}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;

    #[test]
    fn the_newest_version_within_the_constraint_is_taken() {
        let index = "entries:\n  a:\n  - {version: 1.2.0, urls: [a-1.2.0.tgz]}\n  - {version: 1.10.0, urls: [/x/a.tgz]}\n  \
                     - {version: 2.0.0-rc.1, urls: ['https://other/a.tgz']}\n";
        let at = |constraint| find(index, "https://host/charts/", "a", constraint);
        assert_eq!(at("").unwrap(), "https://host/x/a.tgz");
        assert_eq!(at("~1.2").unwrap(), "https://host/charts/a-1.2.0.tgz");
        assert_eq!(at("2.0.0-rc.1").unwrap(), "https://other/a.tgz");
        assert!(at("3").is_err() && find(index, "", "b", "").is_err());
        let cases = [
            ("1.2.0", true),
            ("v1.2.0+a", true),
            ("1.2.0-rc.1", true),
            ("1.2", false),
            (">=1.2.0", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_version(text), expected, "{text}");
        }
    }
}
