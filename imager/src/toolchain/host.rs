//! Tools that the user already has: a rustc with the target's standard library and a C compiler for musl, or `cross`.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use super::{
    Result,
    kit::{self, Kit, Programs},
};
use crate::profile::Arch;

/// A C program that compiles against musl's headers and no others; SQLite and ring need these.
const PROBE: &str = "#include <stdio.h>\n#include <sys/types.h>\n#ifdef __GLIBC__\n#error these are glibc's headers\n#endif\n\
                     int main(void) { return sizeof(off_t) == 8 ? 0 : printf(\"\"); }\n";

/// The user's own compilers.
pub(super) struct Tools {
    /// Digest of their versions.
    pub id: String,
    /// Their versions, for the manifest.
    pub description: String,
    arch: Arch,
    rustc: PathBuf,
    ld: PathBuf,
    cc: Compiler,
}

/// A C compiler and the arguments that make it one for the target.
#[derive(Clone, Debug)]
struct Compiler {
    program: PathBuf,
    args: Vec<String>,
}

impl Tools {
    /// Looks for them.
    ///
    /// # Errors
    /// What is missing and how to get it, for a person.
    pub(super) fn find(arch: Arch) -> Result<Self, String> {
        let target = arch.rust_target();
        let rustc = env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from);
        let ask =
            |args: &[&str]| output(Command::new(&rustc).args(args)).map_err(|e| format!("`{}`: {e}", rustc.display()));
        let libdir = PathBuf::from(ask(&["--print", "target-libdir", "--target", target])?);
        if !has_std(&libdir) {
            return Err(format!(
                "rustc has no standard library for {target}; `rustup target add {target}` installs it"
            ));
        }
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
        let own_lld = sysroot.join(format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-lld", env::consts::ARCH));
        let ld = [Some(own_lld), which("ld.lld")]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
            .ok_or("rustc brings no rust-lld and PATH has no ld.lld; install lld")?;
        let cc = candidates(arch).into_iter().find(compiles).ok_or_else(|| {
            format!("no C compiler with musl's headers for {arch} on PATH: zig, {}-gcc or clang", kit::musl(arch))
        })?;
        let rust_version = ask(&["-vV"])?;
        let cc_version = output(Command::new(&cc.program).arg(match cc.is_zig() {
            true => "version",
            false => "--version",
        }))?;
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let name = cc.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let description = format!("{}, {name} ({})", first(&rust_version), first(&cc_version));
        let parts = [&rust_version, &cc_version, &cc.args.join(" "), &kit::recipe()];
        let id = hex::encode(Sha256::digest(parts.map(String::as_str).join("\0")));
        // The scripts are run in cargo's environment, where a relative name could mean another program.
        let rustc = which(&rustc).ok_or("rustc is not on PATH")?;
        Ok(Self { id, description, arch, rustc, ld, cc })
    }

    /// Says how to use them.
    pub(super) fn prepare(&self, cache: &Path) -> Result<Kit> {
        let mut kit = Kit::new(
            cache,
            self.arch,
            &Programs {
                rustc: &self.rustc,
                ld: &self.ld,
                cc: &self.cc.program,
                cc_args: &self.cc.args,
                libs: None,
                sysroot: None,
                flags: &[],
            },
        )?;
        if self.cc.is_zig() {
            kit.set("KILN_CC_ZIG", "1");
        }
        Ok(kit)
    }
}

impl Compiler {
    fn is_zig(&self) -> bool {
        self.program.file_name().is_some_and(|name| name == "zig")
    }
}

/// `cross`, which brings compilers in a container.
pub(super) struct Cross {
    /// Digest of its version.
    pub id: String,
    /// Its version, for the manifest.
    pub description: String,
    program: PathBuf,
}

impl Cross {
    /// Looks for it and for a container engine that answers.
    ///
    /// # Errors
    /// What is missing, for a person.
    pub(super) fn find(arch: Arch) -> Result<Self, String> {
        let program = which("cross").ok_or("`cross` is not on PATH")?;
        let engine = env::var_os("CROSS_CONTAINER_ENGINE").map(PathBuf::from);
        let engines = engine.into_iter().chain(["docker".into(), "podman".into()]);
        let mut alive = engines.filter(|engine| output(Command::new(engine).arg("info")).is_ok());
        if alive.next().is_none() {
            return Err("`cross` is there, but neither docker nor podman answers".into());
        }
        Self::at(program, arch)
    }

    /// The one at this path.
    pub(super) fn at(program: PathBuf, arch: Arch) -> Result<Self, String> {
        // It tells its own version first, and then cargo's.
        let version = output(Command::new(&program).arg("--version"))?;
        let description = version.lines().next().unwrap_or("cross").to_owned();
        let id = hex::encode(Sha256::digest(format!("{version}\0{arch}")));
        Ok(Self { id, description, program })
    }

    /// Says how to use it.
    pub(super) fn prepare(&self) -> Kit {
        let mut kit = Kit { program: Some(self.program.clone()), ..Kit::default() };
        for (name, value) in env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("CROSS_") || name.starts_with("DOCKER_") || name == "XDG_RUNTIME_DIR"
        }) {
            kit.env.push((name, value));
        }
        kit
    }
}

/// Compilers to try, best first. Only zig brings musl's headers along for sure.
fn candidates(arch: Arch) -> Vec<Compiler> {
    let triple = kit::musl(arch);
    let mut list = Vec::new();
    if let Some(program) = which("zig") {
        let mut args = vec!["cc".into(), "-target".into(), triple.into()];
        if arch == Arch::Armv7 {
            // The floating point unit that rustc's target assumes; zig's own baseline has twice the registers, and NEON.
            args.push("-mcpu=generic+v7a-neon-vfp3-d32+vfp3d16".into());
        }
        list.push(Compiler { program, args });
    }
    let mut gcc = vec![format!("{triple}-gcc")];
    if env::consts::ARCH == arch.name() {
        gcc.push("musl-gcc".into());
    }
    list.extend(gcc.iter().filter_map(which).map(|program| Compiler { program, args: Vec::new() }));
    if let Some(program) = which("clang") {
        list.push(Compiler { program, args: vec![format!("--target={triple}")] });
    }
    list
}

/// Whether the compiler turns [`PROBE`] into an object.
fn compiles(compiler: &Compiler) -> bool {
    let mut command = Command::new(&compiler.program);
    command.args(&compiler.args).args(["-x", "c", "-c", "-o", "/dev/null", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut attempt = || -> io::Result<bool> {
        let mut child = command.spawn()?;
        // A compiler that ends early says so by its status.
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(PROBE.as_bytes()));
        Ok(child.wait()?.success())
    };
    attempt().unwrap_or(false)
}

/// Whether a target's library directory holds a standard library.
fn has_std(libdir: &Path) -> bool {
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    fs::read_dir(libdir).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| is_std(&entry.file_name().to_string_lossy())))
    })
}

/// The program's path, looked up like a shell does.
fn which(name: impl AsRef<Path>) -> Option<PathBuf> {
    let name = name.as_ref();
    if name.components().count() > 1 {
        return fs::canonicalize(name).ok();
    }
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Standard output of a command that succeeds, trimmed.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_finds_glibc_is_not_one_for_musl() {
        let compiler = |program: &str| Compiler { program: program.into(), args: Vec::new() };
        assert!(!compiles(&compiler("cc")), "the host's compiler has glibc's headers");
        assert!(!compiles(&compiler("/nonexistent/cc")));
    }

    #[test]
    fn a_directory_without_libstd_is_no_standard_library() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!has_std(directory.path()));
        fs::write(directory.path().join("libstd-0123.rlib"), "").unwrap();
        assert!(has_std(directory.path()));
        assert!(!has_std(&directory.path().join("absent")));
    }
}
