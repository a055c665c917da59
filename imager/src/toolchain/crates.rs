//! The crates that are compiled into the runtime, for the bill of materials.
//!
//! `cargo tree` knows which of the lock's crates a target's binary is made of, and their licences; `Cargo.lock` has their
//! hashes. The list lies beside the binary that it belongs to, so that a binary from the cache has it too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A crate of the runtime.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence as an SPDX expression, if its manifest has one.
    pub licence: Option<String>,
    /// SHA-256 of its package, lower-case hex.
    pub sha256: Option<String>,
}

/// What `cargo tree` is asked to print of each crate.
pub(super) const FORMAT: &str = "{p}|{l}";

/// The crates of `cargo tree`'s output with the hashes of `lock`; those of the workspace itself are left out.
pub(super) fn parse(tree: &str, lock: &str) -> Vec<Crate> {
    let hashes = hashes(lock);
    let crates: BTreeSet<Crate> = tree.lines().filter_map(|line| parse_line(line, &hashes)).collect();
    crates.into_iter().collect()
}

fn parse_line(line: &str, hashes: &BTreeMap<(String, String), String>) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let (name, version) = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
    // A path in parentheses follows what is no package of a registry.
    if words.next().is_some() {
        return None;
    }
    let licence = licence.trim_end().trim_end_matches("(*)").trim_end();
    // The older way of writing a choice.
    let licence = (!licence.is_empty()).then(|| licence.replace('/', " OR "));
    let sha256 = hashes.get(&(name.clone(), version.clone())).cloned();
    Some(Crate { name, version, licence, sha256 })
}

fn hashes(lock: &str) -> BTreeMap<(String, String), String> {
    #[derive(Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let packages = toml::from_str::<Lock>(lock).map(|lock| lock.package).unwrap_or_default();
    packages.into_iter().filter_map(|p| Some(((p.name, p.version), p.checksum?))).collect()
}

/// The list beside a binary.
pub(super) fn read(binary: &Path) -> Option<Vec<Crate>> {
    serde_json::from_slice(&fs::read(file(binary)).ok()?).ok()
}

/// The list's file and its content.
pub(super) fn written(binary: &Path, crates: &[Crate]) -> (PathBuf, Vec<u8>) {
    (file(binary), serde_json::to_vec(crates).unwrap_or_default())
}

fn file(binary: &Path) -> PathBuf {
    binary.with_file_name("crates.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_registries_are_listed_once_with_licence_and_hash() {
        let tree = "kiln v0.1.0 (/w/runtime/kiln)|MIT OR Apache-2.0\nring v0.17.14|Apache-2.0 AND ISC\n\
                    log v0.4.29|MIT/Apache-2.0\nlog v0.4.29|MIT/Apache-2.0 (*)\nodd v1.0.0+x|\n";
        let lock = "version = 4\n[[package]]\nname = \"log\"\nversion = \"0.4.29\"\nchecksum = \"ab\"\n\
                    [[package]]\nname = \"kiln\"\nversion = \"0.1.0\"\n";
        let item = |name: &str, version: &str, licence: Option<&str>, sha256: Option<&str>| Crate {
            name: name.into(),
            version: version.into(),
            licence: licence.map(Into::into),
            sha256: sha256.map(Into::into),
        };
        let expected = [
            item("log", "0.4.29", Some("MIT OR Apache-2.0"), Some("ab")),
            item("odd", "1.0.0+x", None, None),
            item("ring", "0.17.14", Some("Apache-2.0 AND ISC"), None),
        ];
        assert_eq!(parse(tree, lock), expected);
    }
}
