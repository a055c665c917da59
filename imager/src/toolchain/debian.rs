//! The private toolchain: Debian's packages of rustc, clang and lld for this machine, musl and an unwinder for the board,
//! and Rust's standard library compiled from Debian's copy of its sources together with the runtime.
//!
//! Debian has no compiled standard library for musl, hence cargo's `build-std`. Of the host's own only cargo, the C
//! library and the linker that made the imager itself are used; the packages' programs see the packages' libraries.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use super::{
    Choice, Error, Result, RuntimeRequest,
    kit::{self, Kit, Programs},
};
use crate::{
    packages::{self, Lock, Pin, Section, Source},
    profile::Arch,
    progress::Progress,
};

/// Suites that have the tools: rustc and its LLVM come with the security updates, since browsers need them.
const SUITES: [&str; 2] = ["bookworm", "bookworm-security"];

/// What runs on this machine. One LLVM serves rustc, clang and lld.
const TOOLS: [&str; 5] = ["rustc-web", "libstd-rust-web-dev", "rust-web-src", "clang-22", "lld-22"];

/// What the tools' packages ask for and this use of them does not: a C library and compiler of the host's architecture,
/// which the host has, and what clang would want for C++ and link-time optimisation.
const NOT_TOOLS: [&str; 12] = [
    "binutils",
    "gcc",
    "gcc-12-base",
    "libc6",
    "libc-dev",
    "libc6-dev",
    "libclang1-22",
    "libgcc-12-dev",
    "libobjc-12-dev",
    "libstdc++-12-dev",
    "llvm-22-linker-tools",
    "tzdata",
];

/// Where clang's own headers are.
const CLANG_HEADERS: &str = "usr/lib/llvm-22/lib/clang/22/include";

/// What the board's binary is linked with.
const TARGET: [&str; 2] = ["musl-dev", "libunwind-14-dev"];

/// What those packages ask for: shared libraries and a compiler, for a static binary made by another one.
const NOT_TARGET: [&str; 6] =
    ["gcc-aarch64-linux-gnu", "gcc-arm-linux-gnueabihf", "gcc-x86-64-linux-gnu", "libc6", "libunwind-14", "musl"];

/// glibc names that libunwind wants, see the file.
const SHIM: &str = include_str!("scripts/shim.c");

/// Flags that are not stable in rustc. All is linked into one program: the linker may have what a crate takes from another
/// called where it is, and not by way of a table that has to be relocated at each start.
const FLAGS: [&str; 1] = ["-Zrelax-elf-relocations=yes"];

/// How cargo compiles the standard library: small, as all that ships.
const STANDARD_LIBRARY: [&str; 2] =
    ["-Zbuild-std=std,panic_unwind", "-Zbuild-std-features=panic-unwind,optimize_for_size"];

/// Objects and libraries of musl that rustc and lld look for beside the standard library.
const CRT: [&str; 7] = ["crt1.o", "rcrt1.o", "crti.o", "crtn.o", "libc.a", "libdl.a", "libpthread.a"];

/// A part of the toolchain that is pinned by itself, since its parts serve more than one board.
pub(super) struct Group {
    /// Name of its section in the lock.
    pub name: String,
    sources: Vec<Source>,
    wanted: Vec<String>,
    exclude: Vec<String>,
}

/// The part that runs here.
///
/// # Errors
/// [`Error::UnsupportedHost`] where Debian's programs cannot run.
pub(super) fn tools() -> Result<Group> {
    let (arch, _) = host()?;
    let sources = SUITES.iter().map(|suite| Source::new(suite, &["main"], arch)).collect();
    Ok(Group { name: format!("tools-{arch}"), sources, wanted: owned(&TOOLS), exclude: owned(&NOT_TOOLS) })
}

/// The part that the board's binary is linked with. Its suite has no security updates of these packages.
pub(super) fn target(arch: Arch) -> Group {
    Group {
        name: format!("target-{}", arch.debian()),
        sources: vec![Source::new(SUITES[0], &["main"], arch.debian())],
        wanted: owned(&TARGET),
        exclude: owned(&NOT_TARGET),
    }
}

impl Group {
    /// Pins the newest packages.
    pub(super) fn resolve(&self, settings: &packages::Settings, progress: &Progress) -> Result<Section> {
        let resolution = packages::resolve(settings, &self.sources, &self.wanted, &self.exclude, progress)?;
        Ok(Section::new(&self.sources, &self.wanted, &self.exclude, &resolution))
    }

    /// The lock's pins, or new ones that enter it.
    fn pins(&self, request: &RuntimeRequest<'_>, lock: &mut Lock, progress: &Progress) -> Result<Vec<Pin>> {
        let digest = Section::request(&self.sources, &self.wanted, &self.exclude);
        if let Some(section) = lock.toolchain(&self.name, &digest) {
            return Ok(section.packages.clone());
        }
        if request.locked {
            return Err(Error::NotLocked { section: self.name.clone() });
        }
        let section = self.resolve(request.packages, progress)?;
        let pins = section.packages.clone();
        lock.toolchain.insert(self.name.clone(), section);
        Ok(pins)
    }
}

/// The toolchain for one architecture, decided to the byte; nothing of it need be fetched yet.
pub(super) struct Pinned {
    /// Digest of all that can change what it makes: 64 hex digits.
    pub id: String,
    /// Digest of the part of it that is the same for every architecture: 64 hex digits.
    pub tools_id: String,
    /// Names and versions, for the manifest.
    pub description: String,
    arch: Arch,
    tools: Vec<Pin>,
    target: Vec<Pin>,
}

impl Pinned {
    /// Takes the pins from the lock, or resolves them.
    pub(super) fn new(request: &RuntimeRequest<'_>, lock: &mut Lock, progress: &Progress) -> Result<Self> {
        let tools = tools()?.pins(request, lock, progress)?;
        let target = target(request.arch).pins(request, lock, progress)?;
        let join = |parts: &[&str]| hex::encode(Sha256::digest(parts.join("\n")));
        let tools_id = join(&[&digest(&tools), &kit::recipe(), &FLAGS.concat(), &STANDARD_LIBRARY.concat()]);
        let id = join(&[&tools_id, &digest(&target), SHIM]);
        let named = ["rustc-web", "clang-22", "musl-dev"];
        let versions: Vec<_> = named
            .iter()
            .filter_map(|name| tools.iter().chain(&target).find(|pin| pin.name == *name))
            .map(|pin| format!("{} {}", pin.name, pin.version))
            .collect();
        let description = format!("Debian {}", versions.join(", "));
        Ok(Self { id, tools_id, description, arch: request.arch, tools, target })
    }

    /// Fetches and unpacks what the cache lacks, and says how to use it.
    pub(super) fn prepare(&self, cache: &Path, settings: &packages::Settings, progress: &Progress) -> Result<Kit> {
        let (_, triple) = host()?;
        let room = cache.join("toolchain");
        let tools = room.join(format!("tools-{}", &digest(&self.tools)[..16]));
        let sysroot = room.join(format!("{}-{}", self.arch, &self.id[..16]));
        if !tools.is_dir() {
            let debs = packages::fetch(settings, &self.tools, progress)?;
            unpack(&debs, &tools, progress)?;
        }
        let libs = tools.join("usr/lib").join(triple);
        let (rustc, clang) = (tools.join("usr/bin/rustc"), tools.join("usr/lib/llvm-22/bin/clang"));
        starts(&rustc, &libs)?;
        let cc_args = self.cc_args(&tools, &sysroot);
        if !sysroot.is_dir() {
            let debs = packages::fetch(settings, &self.target, progress)?;
            kit::install_directory(&sysroot, |fresh| {
                for deb in &debs {
                    packages::unpack_to_dir(deb, fresh, &is_needed)?;
                }
                self.make_sysroot(fresh, &tools, triple)?;
                let compile = |source: &Path, object: &Path| {
                    // The headers are still in the directory that is being filled.
                    let args = self.cc_args(&tools, fresh);
                    run(Command::new(&clang)
                        .env("LD_LIBRARY_PATH", &libs)
                        .args(args)
                        .args(["-Os", "-ffunction-sections", "-c"])
                        .arg(source)
                        .arg("-o")
                        .arg(object))
                };
                self.make_crt(fresh, compile)
            })?;
        }
        [&tools, &sysroot].into_iter().for_each(|directory| crate::cache::touch(directory));
        let mut kit = Kit::new(
            cache,
            self.arch,
            &Programs {
                rustc: &rustc,
                ld: &tools.join("usr/lib/llvm-22/bin/ld.lld"),
                cc: &clang,
                cc_args: &cc_args,
                libs: Some(&libs),
                sysroot: Some(&sysroot),
                flags: &FLAGS,
            },
        )?;
        // Cargo's build-std is not stable; the versions are pinned, so it cannot change under us.
        kit.set("RUSTC_BOOTSTRAP", "1");
        kit.args = owned(&STANDARD_LIBRARY);
        Ok(kit)
    }

    /// Arguments that make clang a cross compiler that sees musl's headers only.
    fn cc_args(&self, tools: &Path, sysroot: &Path) -> Vec<String> {
        let triple = kit::musl(self.arch);
        let mut args = vec![format!("--target={triple}"), "-nostdinc".into()];
        for headers in [sysroot.join("usr/include").join(triple), tools.join(CLANG_HEADERS)] {
            args.extend(["-isystem".into(), headers.display().to_string()]);
        }
        if self.arch == Arch::Armv7 {
            args.extend(owned(&["-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"]));
        }
        args
    }

    /// Directory of rustc's own C runtime objects for the target.
    fn self_contained(&self, sysroot: &Path) -> PathBuf {
        sysroot.join("lib/rustlib").join(self.arch.rust_target()).join("lib/self-contained")
    }

    /// A sysroot that is the tools' one, with the target's C runtime beside it.
    fn make_sysroot(&self, sysroot: &Path, tools: &Path, triple: &str) -> Result<()> {
        let rustlib = sysroot.join("lib/rustlib");
        let own = self.self_contained(sysroot);
        fs::create_dir_all(&own).map_err(Error::io("create", &own))?;
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let name = tools.file_name().unwrap_or_default();
        for part in ["src", &host] {
            let target = Path::new("../../..").join(name).join("usr/lib/rustlib").join(part);
            let at = rustlib.join(part);
            symlink(target, &at).map_err(Error::io("create", &at))?;
        }
        // rustc finds its code generator's libraries by the loader, but looks for the directory.
        let at = sysroot.join("lib").join(triple);
        fs::create_dir_all(&at).map_err(Error::io("create", &at))?;
        let musl = sysroot.join("usr/lib").join(kit::musl(self.arch));
        let unwind = sysroot.join("usr/lib/llvm-14/lib/libunwind.a");
        for from in CRT.iter().map(|name| musl.join(name)).chain([unwind]) {
            let at = own.join(from.file_name().unwrap_or_default());
            fs::copy(&from, &at).map_err(Error::io("copy", &from))?;
        }
        Ok(())
    }

    /// The objects that a gcc would bring: rustc puts them first and last. Nothing is needed of them for a static
    /// binary without C++ constructors, so the first carries the shim and the last is empty.
    fn make_crt(&self, sysroot: &Path, compile: impl Fn(&Path, &Path) -> Result<()>) -> Result<()> {
        let own = self.self_contained(sysroot);
        for (name, text) in [("crtbegin", SHIM), ("crtend", "")] {
            let source = own.join(format!("{name}.c"));
            fs::write(&source, text).map_err(Error::io("write", &source))?;
            let object = own.join(format!("{name}.o"));
            compile(&source, &object)?;
            let shared = own.join(format!("{name}S.o"));
            fs::copy(&object, &shared).map_err(Error::io("write", &shared))?;
        }
        Ok(())
    }
}

/// Unpacks the tools.
fn unpack(debs: &[PathBuf], tools: &Path, progress: &Progress) -> Result<()> {
    let step = progress.step("Unpacking the toolchain", Some(debs.len() as u64));
    kit::install_directory(tools, |fresh| {
        for deb in debs {
            packages::unpack_to_dir(deb, fresh, &is_needed)?;
            step.inc(1);
        }
        Ok(())
    })?;
    step.done(&format!("{} packages", debs.len()));
    Ok(())
}

/// Whether a package's file serves a compile: no documents, and of Rust's sources, most of the files, the standard library.
fn is_needed(path: &str) -> bool {
    let below = |folder: &str| path.strip_prefix(folder);
    if let Some(rest) = below("/usr/src/rustc-") {
        return !rest.split('/').nth(1).is_some_and(|part| ["compiler", "debian", "src", "tests"].contains(&part));
    }
    below("/usr/share/").is_none_or(|rest| !["doc/", "man/", "locale/", "lintian/"].iter().any(|f| rest.starts_with(f)))
}

/// Whether the private rustc runs here at all: an old C library would not let it.
fn starts(rustc: &Path, libs: &Path) -> Result<()> {
    run(Command::new(rustc).env("LD_LIBRARY_PATH", libs).arg("-vV"))
}

fn run(command: &mut Command) -> Result<()> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(Error::io("run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::UnsupportedHost { reason: format!("{}: {}", program.display(), said.trim()) })
}

/// Debian's name and library directory of this machine.
fn host() -> Result<(&'static str, &'static str)> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Err(Error::UnsupportedHost { reason: "it is made of programs for Linux with glibc".into() });
    }
    match std::env::consts::ARCH {
        "x86_64" => Ok(("amd64", "x86_64-linux-gnu")),
        "aarch64" => Ok(("arm64", "aarch64-linux-gnu")),
        other => Err(Error::UnsupportedHost {
            reason: format!(
                "`{}`: Debian's compilers are taken for x86_64 and aarch64 only, not {other}",
                Choice::Debian
            ),
        }),
    }
}

/// Digest of the packages' bytes.
fn digest(pins: &[Pin]) -> String {
    let mut sums: Vec<&str> = pins.iter().map(|pin| pin.sha256.as_str()).collect();
    sums.sort_unstable();
    hex::encode(Sha256::digest(sums.join("\n")))
}

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rusts_sources_the_standard_library_and_what_it_is_made_of_are_unpacked() {
        let kept = [
            "/usr/src/rustc-web-1.95/library/std/src/lib.rs",
            "/usr/src/rustc-web-1.95/vendor/x/lib.rs",
            "/usr/bin/rustc",
        ];
        let left = [
            "/usr/src/rustc-web-1.95/compiler/rustc/src/main.rs",
            "/usr/src/rustc-web-1.95/src/doc/a.md",
            "/usr/share/doc/x/copyright",
        ];
        assert!(kept.into_iter().all(is_needed) && !left.into_iter().any(is_needed));
    }
}
