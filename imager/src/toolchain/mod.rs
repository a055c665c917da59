//! The runtime, cross-compiled: from the workspace's sources to one static `kiln` for a board's architecture.
//!
//! In: the workspace, the architecture, the caches and the lock's pins. Out: a [`RuntimeBinary`] in a content-addressed
//! store. The tools are, in this order (see [`Choice`]): a binary that the user gives; the user's own `rustc` when it has
//! the target's standard library and a C compiler for musl is there; `cross`; and else a private toolchain made of
//! Debian packages, which needs nothing on the host but cargo and a linker, and no root.
//!
//! The same sources and the same toolchain give the same bytes in any folder, for any user and any version of cargo;
//! `scripts/rustc.sh` says how. Nothing outside of [`RuntimeRequest::cache`] is written, and what a killed build leaves
//! behind is never taken for a result.
//!
//! ```text
//! <cache>/toolchain/tools-<digest>/      rustc, clang, lld and their libraries, as unpacked
//!                   <arch>-<digest>/     musl and the sysroot for one architecture
//!                   scripts-<digest>/    what cargo calls in the place of rustc, cc and ld
//!         target/<digest>/               cargo's target directory, one for each set of tools
//!         runtime/<arch>-<sha256>/kiln   results, with a list of their crates; `kiln-init` too
//!         runtime/stamps/<fingerprint>   which results belong to which sources and toolchain
//! ```

mod cargo;
mod crates;
mod debian;
mod elf;
mod error;
mod host;
mod kit;
mod store;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use sha2::{Digest, Sha256};

use crate::{
    packages::{self, Lock, Section},
    profile::Arch,
    progress::Progress,
};

pub use crates::Crate;
pub use error::{Class, Error};

use kit::Kit;

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which tools compile the runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first of the others that is there.
    #[default]
    Auto,
    /// The user's `rustc` with the target's standard library, and a C compiler for musl: zig, a musl gcc, or clang.
    Host,
    /// The program `cross`, with its container engine.
    Cross,
    /// The private toolchain made of Debian packages. Two machines that choose it make the same bytes.
    Debian,
}

impl Choice {
    /// Every choice, for a command line's help.
    pub const ALL: [Choice; 4] = [Choice::Auto, Choice::Host, Choice::Cross, Choice::Debian];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Host => "host",
            Choice::Cross => "cross",
            Choice::Debian => "debian",
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or_else(|| format!("`{text}` is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What to compile, and with what.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeRequest<'a> {
    /// Root of the Kiln workspace, which holds `Cargo.lock` and `runtime/kiln`.
    pub workspace: &'a Path,
    /// Architecture of the board.
    pub arch: Arch,
    /// A binary to take as it is (`--runtime-binary`); nothing is compiled then.
    pub explicit: Option<&'a Path>,
    /// Which tools.
    pub choice: Choice,
    /// Directory of all that can be made again.
    pub cache: &'a Path,
    /// How packages are found and fetched, should the private toolchain be needed.
    pub packages: &'a packages::Settings,
    /// Refuse to pin packages that the lock does not pin (`--locked`).
    pub locked: bool,
}

/// A static executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is, read-only for the caller.
    pub path: PathBuf,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
}

/// A static `kiln`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeBinary {
    /// Where it is, read-only for the caller.
    pub path: PathBuf,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// What starts in the initramfs, a part of it: a program of its own, or `kiln` itself when that was given.
    pub init: Program,
    /// What made it, for the manifest: names and versions of the compilers, or that it was given.
    pub toolchain: String,
    /// The crates in it; none for one that was given.
    pub crates: Vec<Crate>,
}

/// Gives the runtime for `request.arch`, compiling it if its sources or the toolchain changed.
///
/// When packages of the private toolchain were not pinned yet, their pins are added to `lock`; the caller saves it.
///
/// # Errors
/// [`Error::Compile`] with the end of the compiler's output; [`Error::NoCargo`]; [`Error::Unavailable`] when the chosen
/// tools are not there; [`Error::BadBinary`] when the given or made binary is not a static one for the architecture;
/// [`Error::NoSpace`]; those of [`packages`].
pub fn runtime_binary(request: &RuntimeRequest<'_>, lock: &mut Lock, progress: &Progress) -> Result<RuntimeBinary> {
    let store = store::Store::open(request.cache)?;
    if let Some(given) = request.explicit {
        elf::check(given, request.arch)?;
        let kiln = store.keep(request.arch, cargo::PACKAGE, given)?;
        // Where it came from is this machine's business.
        return Ok(store::Pair { init: kiln.clone(), kiln }.made_by("given by the user".into(), Vec::new()));
    }
    let cargo = cargo::Cargo::find()?;
    let chosen = choose(request, lock, progress)?;
    let fingerprint = || store::fingerprint(request.workspace, request.arch, &[chosen.id(), &cargo.version]);
    let before = fingerprint()?;
    let finish = |pair: store::Pair| {
        let crates = store.crates(&pair.kiln, || cargo.crates(request), progress);
        pair.made_by(chosen.description().into(), crates)
    };
    if let Some(found) = store.find(request.arch, &before) {
        return Ok(finish(found));
    }
    let _alone = store.lock(progress)?;
    // Another process may have made it while this one waited.
    if let Some(found) = store.find(request.arch, &before) {
        return Ok(finish(found));
    }
    let kit = chosen.prepare(request, progress)?;
    let target_dir = request.cache.join("target").join(target_name(chosen.target_dir(), request.workspace));
    fs::create_dir_all(&target_dir).map_err(Error::io("create", &target_dir))?;
    crate::cache::touch(&target_dir);
    let built = cargo.build(request, &kit, &target_dir, progress)?;
    let keep = |name: &str| {
        let program = built.join(name);
        elf::check(&program, request.arch)?;
        store.keep(request.arch, name, &program)
    };
    let pair = store::Pair { kiln: keep(cargo::PACKAGE)?, init: keep(cargo::INIT)? };
    let known = [cargo::PACKAGE, cargo::INIT]
        .iter()
        .all(|name| cargo::reads_only_the_runtime(&built.join(name), request.workspace));
    // Someone may have edited the sources while they were compiled.
    if known && fingerprint()? == before {
        store.stamp(&before, &pair)?;
    }
    Ok(finish(pair))
}

/// Name of cargo's target directory: of the tools, and of the checkout. Cargo takes the crates of two checkouts for the same ones and
/// goes by the files' times, so that one of them would be given what the other's sources were compiled to.
fn target_name(tools: &str, workspace: &Path) -> String {
    let workspace = workspace.canonicalize().unwrap_or_else(|_| workspace.into());
    let place = hex::encode(Sha256::digest(workspace.as_os_str().as_encoded_bytes()));
    format!("{tools}-{}", &place[..8])
}

/// The lock's sections for the private toolchain on this host, newly resolved: one for the tools and one for each of
/// `archs`. For `imager update-lock`.
///
/// # Errors
/// Those of [`packages::resolve`]; [`Error::Unavailable`] on a host for which Debian has no such tools.
pub fn lock_sections(
    settings: &packages::Settings,
    archs: &[Arch],
    progress: &Progress,
) -> Result<Vec<(String, Section)>> {
    let mut sections = vec![debian::tools()?];
    sections.extend(archs.iter().map(|&arch| debian::target(arch)));
    sections.iter().map(|group| Ok((group.name.clone(), group.resolve(settings, progress)?))).collect()
}

/// Tools that were decided on, before anything is fetched or unpacked.
enum Chosen {
    /// The user's rustc and a C compiler.
    Host(host::Tools),
    /// `cross`.
    Cross(host::Cross),
    /// The private toolchain.
    Debian(debian::Pinned),
}

impl Chosen {
    fn id(&self) -> &str {
        match self {
            Chosen::Host(tools) => &tools.id,
            Chosen::Cross(cross) => &cross.id,
            Chosen::Debian(pinned) => &pinned.id,
        }
    }

    /// The tools' part in the name of cargo's target directory. What runs on this machine while compiling, a third of the work, is the same for
    /// every board, so the private toolchain has one for all architectures.
    fn target_dir(&self) -> &str {
        match self {
            Chosen::Host(_) | Chosen::Cross(_) => &self.id()[..16],
            Chosen::Debian(pinned) => &pinned.tools_id[..16],
        }
    }

    fn description(&self) -> &str {
        match self {
            Chosen::Host(tools) => &tools.description,
            Chosen::Cross(cross) => &cross.description,
            Chosen::Debian(pinned) => &pinned.description,
        }
    }

    fn prepare(&self, request: &RuntimeRequest<'_>, progress: &Progress) -> Result<Kit> {
        match self {
            Chosen::Host(tools) => tools.prepare(request.cache),
            Chosen::Cross(cross) => Ok(cross.prepare()),
            Chosen::Debian(pinned) => pinned.prepare(request.cache, request.packages, progress),
        }
    }
}

fn choose(request: &RuntimeRequest<'_>, lock: &mut Lock, progress: &Progress) -> Result<Chosen> {
    let (choice, arch) = (request.choice, request.arch);
    let mut missing = None;
    if matches!(choice, Choice::Auto | Choice::Host) {
        match host::Tools::find(arch) {
            Ok(tools) => return Ok(Chosen::Host(tools)),
            Err(reason) => missing = Some(reason),
        }
    }
    if matches!(choice, Choice::Auto | Choice::Cross) {
        match host::Cross::find(arch) {
            Ok(cross) => return Ok(Chosen::Cross(cross)),
            Err(reason) => missing = Some(reason),
        }
    }
    match missing {
        Some(reason) if choice != Choice::Auto => Err(Error::Unavailable { choice, arch, reason }),
        _ => Ok(Chosen::Debian(debian::Pinned::new(request, lock, progress)?)),
    }
}

#[cfg(test)]
mod tests;
