//! The root file system's tree: unpacked packages, overlays, the `kiln` binary and the files the runtime expects.
//!
//! In flow a [`Profile`] and two trees of unpacked packages (the root's, and the boot packages' with the kernel); out
//! flows the root's final tree and the kernel with its module lists. The kernel's configuration is checked here, so that
//! a kernel that lacks something fails the build and not the board. Nothing here compresses or lays out partitions.

pub mod config;
mod modinfo;
pub mod modules;

use std::{collections::BTreeSet, io};

use serde::Serialize;

use crate::{
    packages::PathFilter,
    profile::{Concatenate, Profile, ProfileError},
    tree::{Content, Kind, Tree},
};
use modules::{Load, Modules};

/// Why a root could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// An overlay's own files could not be read.
    #[error(transparent)]
    Overlay(#[from] ProfileError),
    /// A file of an unpacked package could not be read.
    #[error("cannot read {path} of the unpacked packages: {source}")]
    Read {
        /// The path in the image.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel package has no kernel.
    #[error("package `{package}` brought no /boot/vmlinuz-*; check `kernel.package` in the board file")]
    NoKernel {
        /// The board's kernel package.
        package: String,
    },
    /// The kernel lacks options that the profile needs.
    #[error("kernel {version} cannot run this image: {}", unmet.join("; "))]
    KernelOptions {
        /// The kernel's version.
        version: String,
        /// Each option, what it is and what it must be.
        unmet: Vec<String>,
    },
    /// A module is neither in the kernel package nor built in.
    #[error("kernel {version} has no module `{name}`{}", needed_by.as_ref().map(|n| format!(", which `{n}` depends on")).unwrap_or_default())]
    NoModule {
        /// The module.
        name: String,
        /// The kernel's version.
        version: String,
        /// The module that depends on it; none if a board or overlay asks for it.
        needed_by: Option<String>,
    },
    /// A module file could not be understood.
    #[error("kernel module {path}: {message}")]
    BadModule {
        /// Path in the package.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A rule of a board or overlay found no file.
    #[error("no file matches `{from}` in the unpacked packages; check the rule and the package list")]
    NothingToCopy {
        /// The rule's pattern.
        from: String,
    },
    /// A pattern in a rule is not a path.
    #[error("`{pattern}` is not a usable path pattern: {message}")]
    Pattern {
        /// As written.
        pattern: String,
        /// Why.
        message: String,
    },
}

/// What the image says of itself, `/etc/kiln/image.json` in root and initramfs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// Version of this format.
    pub schema: u32,
    /// The board's name.
    pub board: String,
    /// The architecture, as `uname -m` would say.
    pub arch: String,
    /// Kiln's version.
    pub version: String,
    /// Seconds since 1970; the floor of the node's clock.
    pub build_time: i64,
    /// The kernel's version.
    pub kernel: String,
    /// The Debian suite of the root.
    pub suite: String,
    /// Name and version of the container runtime, as Kubernetes writes it.
    pub container_runtime: Option<String>,
    /// Whether to feed a hardware watchdog.
    pub watchdog: bool,
}

/// What is known of an image before its tree is put together.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Seconds since 1970 that every file of the image carries.
    pub build_time: i64,
    /// The container runtime's package version, if the image has one.
    pub runtime_version: Option<String>,
}

/// An assembled root and its kernel.
#[derive(Clone, Debug)]
pub struct Root {
    /// The root's tree, complete with parents.
    pub tree: Tree,
    /// The kernel's version, as `uname -r` says.
    pub kernel_version: String,
    /// The kernel as the package has it.
    pub kernel: Content,
    /// Modules for the initramfs, in order, each with its file.
    pub initramfs_modules: Vec<(Load, Content)>,
    /// `/etc/kiln/image.json`.
    pub info: ImageInfo,
}

/// Directories the runtime mounts on or writes below (`/var` and `/tmp` are mounts by then).
const DIRECTORIES: &[(&str, u32)] = &[
    ("/config", 0o755),
    ("/dev", 0o755),
    ("/etc/kiln", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/state", 0o755),
    ("/sys", 0o555),
    ("/sysroot", 0o755),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/sbin", 0o755),
    ("/var", 0o755),
];

/// Links of the merged `/usr`, and files of the machine that live in `/run` because the root is read-only.
const LINKS: &[(&str, &str)] = &[
    ("/bin", "usr/bin"),
    ("/etc/machine-id", "/run/machine-id"),
    ("/etc/mtab", "../proc/self/mounts"),
    ("/etc/resolv.conf", "/run/resolv.conf"),
    ("/lib", "usr/lib"),
    ("/sbin", "usr/sbin"),
    ("/usr/sbin/init", "../bin/kiln"),
];

/// Puts the root together from the unpacked packages `root`, the unpacked boot packages and kernel `boot`, the
/// profile's overlays, and the static `kiln` binary.
///
/// # Errors
/// A kernel option or module that the profile needs is missing, or a file cannot be read.
pub fn assemble(
    profile: &Profile,
    mut root: Tree,
    boot: &Tree,
    kiln: Content,
    facts: &Facts,
) -> Result<Root, RootfsError> {
    let (kernel_version, kernel) = kernel(profile, boot)?;
    let config_path = format!("/boot/config-{kernel_version}");
    let config = text(boot, &config_path)?;
    config::lint(&kernel_version, &config, &profile.kernel.required)?;

    let modules = Modules::index(boot, &kernel_version)?;
    let early = modules.order(&profile.kernel.initramfs_modules, &[])?;
    let soon = modules.order(&profile.kernel.modules, &[])?;
    let mut later = modules.order(&profile.kernel.later_modules, &soon)?;
    // Those of the initramfs too: it is gone by then, and a disk may be plugged in later. The boot's own has its drivers.
    let known: BTreeSet<&str> = soon.iter().chain(&later).map(|load| load.name.as_str()).collect();
    let disks: Vec<Load> = early.iter().filter(|load| !known.contains(load.name.as_str())).cloned().collect();
    later.extend(disks);

    for overlay in &profile.overlays {
        root.overlay(overlay.tree()?);
        for rule in &overlay.concatenate {
            concatenate(&mut root, rule)?;
        }
    }
    let mut all: Vec<Load> = soon.into_iter().chain(later.iter().cloned()).collect();
    let demand = modules.order(&profile.kernel.demand_modules, &all)?;
    let first = all.len() - later.len();
    let list = modules::parts([&all[..first], &later, &demand]);
    all.extend(demand);
    for load in &all {
        if let Some(content) = boot.content(&load.path) {
            root.file(&load.path, 0o644, content.clone());
        }
    }
    for (path, mode) in DIRECTORIES {
        root.directory(path, *mode);
    }
    for (path, target) in LINKS {
        root.symlink(path, target);
    }
    if root.below("/usr/lib64/").next().is_some() {
        root.symlink("/lib64", "usr/lib64");
    }
    root.file("/usr/bin/kiln", 0o755, kiln);
    for image in &profile.container_images {
        root.file(&image.path, 0o644, Content::File(image.source.clone()));
    }
    for manifest in &profile.manifests {
        root.file(&manifest.path, 0o644, Content::File(manifest.source.clone()));
    }
    root.file("/etc/kiln/modules.load", 0o644, list.into_bytes());
    root.file("/etc/kiln/modules.alias", 0o644, modules::aliases(&all).into_bytes());
    root.file("/etc/kiln/modules.dep", 0o644, modules::dependencies(&all).into_bytes());
    let info = ImageInfo {
        schema: 1,
        board: profile.board.clone(),
        arch: profile.arch.name().to_owned(),
        version: profile.version.clone(),
        build_time: facts.build_time,
        kernel: kernel_version.clone(),
        suite: profile.sources.first().map(|s| s.suite.clone()).unwrap_or_default(),
        container_runtime: profile
            .container_runtime
            .as_ref()
            .zip(facts.runtime_version.as_ref())
            .map(|(name, version)| format!("{name}://{}", upstream(version))),
        watchdog: profile.watchdog,
    };
    root.file("/etc/kiln/image.json", 0o644, info.to_json());
    root.add_parents();

    let initramfs_modules =
        early.into_iter().filter_map(|load| boot.content(&load.path).cloned().map(|c| (load, c))).collect();
    Ok(Root { tree: root, kernel_version, kernel, initramfs_modules, info })
}

impl ImageInfo {
    /// The file's text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// The kernel's version and file. With several in the package, the last by name.
fn kernel(profile: &Profile, boot: &Tree) -> Result<(String, Content), RootfsError> {
    let prefix = "/boot/vmlinuz-";
    boot.below(prefix)
        .filter_map(|(path, node)| match &node.kind {
            Kind::File(content) => Some((path[prefix.len()..].to_owned(), content.clone())),
            _ => None,
        })
        .last()
        .ok_or_else(|| RootfsError::NoKernel { package: profile.kernel.package.clone() })
}

fn text(tree: &Tree, path: &str) -> Result<String, RootfsError> {
    let content = tree.content(path).ok_or_else(|| RootfsError::NothingToCopy { from: path.to_owned() })?;
    let bytes = content.read().map_err(|source| RootfsError::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The upstream part of a Debian version: without epoch, Debian revision and repacking suffix.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(rest, _)| rest);
    version.split(['~', '+']).next().unwrap_or(version)
}

/// Joins files that maintainer scripts would have joined, and removes the parts.
fn concatenate(root: &mut Tree, rule: &Concatenate) -> Result<(), RootfsError> {
    let parts: Vec<String> = matching(root, &rule.from)?;
    let mut joined = Vec::new();
    for path in &parts {
        if let Some(content) = root.content(path) {
            let bytes = content.read().map_err(|source| RootfsError::Read { path: path.clone(), source })?;
            joined.extend_from_slice(&bytes);
            if joined.last() != Some(&b'\n') {
                joined.push(b'\n');
            }
        }
    }
    for path in &parts {
        root.nodes.remove(path);
    }
    root.file(&rule.to, 0o644, joined);
    Ok(())
}

/// The regular files that match `pattern`, sorted.
///
/// # Errors
/// [`RootfsError::NothingToCopy`] if there is none.
pub fn matching(tree: &Tree, pattern: &str) -> Result<Vec<String>, RootfsError> {
    let filter = PathFilter::new(&[pattern], &[])
        .map_err(|error| RootfsError::Pattern { pattern: pattern.to_owned(), message: error.to_string() })?;
    let found: Vec<String> = tree
        .nodes
        .iter()
        .filter(|(path, node)| matches!(node.kind, Kind::File(_)) && !filter.keeps(path))
        .map(|(path, _)| path.clone())
        .collect();
    if found.is_empty() {
        return Err(RootfsError::NothingToCopy { from: pattern.to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debian_version_is_reported_as_upstream_numbers_it() {
        for (debian, upstream_version) in [
            ("1.7.24~ds1-6+deb13u1", "1.7.24"),
            ("2:2.10-24", "2.10"),
            ("1.6.20", "1.6.20"),
            ("1.1.15+ds1-2+b4", "1.1.15"),
        ] {
            assert_eq!(upstream(debian), upstream_version);
        }
    }

    #[test]
    fn parts_are_joined_in_order_and_removed() {
        let mut tree = Tree::default();
        tree.file("/c/b.crt", 0o644, "two\n");
        tree.file("/c/a.crt", 0o644, "one");
        let rule = Concatenate { from: "/c/*.crt".into(), to: "/etc/all.crt".into() };
        concatenate(&mut tree, &rule).expect("two parts");
        assert_eq!(tree.content("/etc/all.crt").expect("made").read().expect("in memory").as_ref(), b"one\ntwo\n");
        assert!(tree.content("/c/a.crt").is_none());
        assert!(matches!(concatenate(&mut tree, &rule), Err(RootfsError::NothingToCopy { .. })));
    }
}
