//! What a build needs of its tools: the environment and arguments that make cargo use them, and the scripts between.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Error, Result};
use crate::profile::Arch;

/// Changes whenever the way of building changes in a manner that the scripts and arguments below do not show.
const RECIPE: &str = "1";

/// The scripts, by the name that cargo calls.
const SCRIPTS: [(&str, &str); 4] = [
    ("rustc", include_str!("scripts/rustc.sh")),
    ("cc", include_str!("scripts/cc.sh")),
    ("ld", include_str!("scripts/ld.sh")),
    ("host-cc", include_str!("scripts/host-cc.sh")),
];

/// Flags of rustc for the target. The linker is lld itself, and the C runtime's objects and libraries are those beside
/// the target's standard library, so that no C compiler is asked to link. Functions that came out the same in several
/// crates are linked once; nothing here compares the addresses of functions.
const RUSTFLAGS: [&str; 4] =
    ["-Clinker-flavor=ld.lld", "-Clink-self-contained=yes", "-Ctarget-feature=+crt-static", "-Clink-arg=--icf=all"];

/// How to call cargo.
#[derive(Clone, Debug, Default)]
pub(super) struct Kit {
    /// The program that takes cargo's arguments, when it is not cargo itself.
    pub program: Option<PathBuf>,
    /// Arguments after those that every build has.
    pub args: Vec<String>,
    /// Environment variables, on top of the few that are passed on.
    pub env: Vec<(OsString, OsString)>,
}

/// Tools that the scripts run.
#[derive(Clone, Debug)]
pub(super) struct Programs<'a> {
    /// rustc.
    pub rustc: &'a Path,
    /// lld in its ELF form.
    pub ld: &'a Path,
    /// C compiler.
    pub cc: &'a Path,
    /// Its arguments before all others.
    pub cc_args: &'a [String],
    /// Where their shared libraries are, unless the system's are theirs.
    pub libs: Option<&'a Path>,
    /// Sysroot to compile against, unless rustc's own.
    pub sysroot: Option<&'a Path>,
    /// Flags of this rustc beside those that every one takes.
    pub flags: &'a [&'a str],
}

/// Digest over everything in this module that can change what a build makes.
pub(super) fn recipe() -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    for (name, text) in SCRIPTS {
        hash.update(format!("\0{name}\0{text}"));
    }
    for flag in RUSTFLAGS {
        hash.update(format!("\0{flag}"));
    }
    hex::encode(hash.finalize())
}

impl Kit {
    /// A kit that lets cargo run `programs` through the scripts, which are written to the cache when they are not there.
    pub(super) fn new(cache: &Path, arch: Arch, programs: &Programs<'_>) -> Result<Self> {
        let scripts = scripts(cache)?;
        let target = arch.rust_target();
        let mut kit = Self::default();
        kit.set("RUSTC", scripts.join("rustc"));
        kit.set("RUSTC_WRAPPER", "");
        kit.set("RUSTC_WORKSPACE_WRAPPER", "");
        kit.set(&variable(target, "LINKER"), scripts.join("ld"));
        kit.set(&variable(&host_target(), "LINKER"), scripts.join("host-cc"));
        kit.set(&format!("CC_{}", target.replace('-', "_")), scripts.join("cc"));
        kit.set(&format!("AR_{}", target.replace('-', "_")), "ar");
        let flags = RUSTFLAGS.iter().chain(programs.flags).copied().collect::<Vec<_>>();
        kit.set("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        kit.set("KILN_RUSTC", programs.rustc);
        kit.set("KILN_LD", programs.ld);
        kit.set("KILN_CC", programs.cc);
        kit.set("KILN_CC_ARGS", programs.cc_args.join("\n"));
        if let Some(libs) = programs.libs {
            kit.set("KILN_LIBS", libs);
        }
        if let Some(sysroot) = programs.sysroot {
            kit.set("KILN_SYSROOT", sysroot);
        }
        // musl since 1.2 has a 64-bit time_t on 32-bit machines; without this the libc crate uses its older interface,
        // and an armv7 node would stop at 2038.
        kit.set("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1");
        Ok(kit)
    }

    /// Sets an environment variable.
    pub(super) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.into(), value.into()));
    }
}

/// musl's name of an architecture: of its directories in Debian, of a gcc for it, and of zig's and clang's target.
pub(super) fn musl(arch: Arch) -> &'static str {
    match arch {
        Arch::Aarch64 => "aarch64-linux-musl",
        Arch::Armv7 => "arm-linux-musleabihf",
        Arch::X86_64 => "x86_64-linux-musl",
    }
}

/// `CARGO_TARGET_<TRIPLE>_<KEY>`.
fn variable(target: &str, key: &str) -> String {
    format!("CARGO_TARGET_{}_{key}", target.replace('-', "_").to_uppercase())
}

/// The triple that build scripts and procedural macros are compiled for.
fn host_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Writes the scripts into the cache, or finds them there.
fn scripts(cache: &Path) -> Result<PathBuf> {
    let directory = cache.join("toolchain").join(format!("scripts-{}", &recipe()[..16]));
    if SCRIPTS.iter().all(|(name, text)| fs::read(directory.join(name)).is_ok_and(|held| held == text.as_bytes())) {
        return Ok(directory);
    }
    install_directory(&directory, |fresh| {
        for (name, text) in SCRIPTS {
            let at = fresh.join(name);
            fs::write(&at, text).map_err(Error::io("write", &at))?;
            fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).map_err(Error::io("write", &at))?;
        }
        Ok(())
    })?;
    Ok(directory)
}

/// Makes a directory appear at `path` whole or not at all: `fill` works on a hidden sibling, which then takes the name;
/// what had it goes. What a killed build left beside it goes too: callers hold the store's lock.
pub(super) fn install_directory(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    const UNFINISHED: &str = ".unfinished-";
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let leftovers = fs::read_dir(parent).map_err(Error::io("list", parent))?.flatten();
    for entry in leftovers.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
        // One that cannot be removed harms nobody.
        let _ = fs::remove_dir_all(entry.path());
    }
    let fresh = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(parent)
        .map_err(Error::io("create a directory in", parent))?;
    fill(fresh.path())?;
    if path.exists() {
        fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
    }
    fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).map_err(Error::io("write", path))?;
    // The name tells that everything is there, so everything must be on the disk before it.
    File::open(parent).and_then(|parent| Ok(nix::unistd::syncfs(&parent)?)).map_err(Error::io("write", path))?;
    fs::rename(fresh.path(), path).map_err(Error::io("create", path))?;
    let _moved = fresh.keep();
    Ok(())
}
