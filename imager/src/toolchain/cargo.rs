//! Runs cargo: in an environment of our own, with its progress shown and the end of its complaints kept.

use std::{
    collections::VecDeque,
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Crate, Error, Result, RuntimeRequest, crates, kit::Kit};
use crate::{
    child,
    profile::Arch,
    progress::{Progress, Step},
};

/// The package that is built, and its program.
pub(super) const PACKAGE: &str = "kiln";
/// The package of what is built beside it for the initramfs, and its program.
pub(super) const INIT: &str = "kiln-init";

/// Lines of the compiler's output that an error carries: enough for rustc's longest messages and the command's summary.
const KEPT_LINES: usize = 60;

/// What of the user's environment cargo sees: where it and its crates are, and how the network is reached. Everything
/// else, `RUSTFLAGS` and `CFLAGS` before all, would make the binary depend on who builds it.
const PASSED_ON: [&str; 21] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "LANG",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "CARGO_BUILD_JOBS",
    "MAKEFLAGS",
];

/// Prefixes of further variables that tell where crates come from.
const PASSED_ON_PREFIXES: [&str; 4] = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];

/// The user's cargo.
pub(super) struct Cargo {
    program: PathBuf,
    /// What `cargo --version` says.
    pub version: String,
}

impl Cargo {
    /// The cargo that runs us, or else the one on `PATH`.
    ///
    /// # Errors
    /// [`Error::NoCargo`].
    pub(super) fn find() -> Result<Self> {
        let program = env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        let missing = |source| Error::NoCargo { program: program.display().to_string(), source };
        let output = Command::new(&program).arg("--version").stdin(Stdio::null()).output().map_err(missing)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(missing(io::Error::other(said)));
        }
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { program, version })
    }

    /// Compiles the runtime and returns the folder in `target_dir` that has the programs.
    pub(super) fn build(
        &self,
        request: &RuntimeRequest<'_>,
        kit: &Kit,
        target_dir: &Path,
        progress: &Progress,
    ) -> Result<PathBuf> {
        let program = kit.program.as_ref().unwrap_or(&self.program);
        let target = request.arch.rust_target();
        let mut command = Command::new(program);
        command
            .args(["build", "--release", "--locked", "--package", PACKAGE, "--package", INIT, "--target", target])
            .args(&kit.args);
        if request.packages.offline {
            command.arg("--offline");
        }
        command.current_dir(request.workspace).env_clear().envs(passed_on());
        command.env("CARGO_TARGET_DIR", target_dir).env("CARGO_INCREMENTAL", "0");
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "120");
        // The answers to cargo's questions depend on the sysroot, which it does not know of.
        command.env("CARGO_CACHE_RUSTC_INFO", "0");
        // What C code would print as the date of its compilation.
        command.env("SOURCE_DATE_EPOCH", "1");
        command.envs(kit.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        child::bind(&mut command);

        let mut child =
            command.spawn().map_err(|source| Error::NoCargo { program: program.display().to_string(), source })?;
        let mut watcher = Watcher::new(progress, format!("Compiling kiln for {}", request.arch));
        if let Some(stderr) = child.stderr.take() {
            watcher.follow(stderr).map_err(Error::io("read the output of", program))?;
        }
        let status = child.wait().map_err(Error::io("wait for", program))?;
        if status.success() {
            watcher.done();
            return Ok(target_dir.join(target).join("release"));
        }
        if watcher.kept.iter().any(|line| line.contains("No space left on device") || line.contains("(os error 28)")) {
            return Err(Error::NoSpace { path: target_dir.into() });
        }
        Err(Error::Compile {
            arch: request.arch,
            status: status.to_string(),
            script: leave_script(&command, request.arch, target_dir)?,
            output: watcher.kept.iter().map(|line| format!("  {line}\n")).collect::<String>().trim_end().to_owned(),
        })
    }
}

impl Cargo {
    /// The crates that the runtime is compiled of for the request's architecture.
    ///
    /// # Errors
    /// What cargo says.
    pub(super) fn crates(&self, request: &RuntimeRequest<'_>) -> Result<Vec<Crate>, String> {
        let mut command = Command::new(&self.program);
        command.args(["tree", "--locked", "--package", PACKAGE, "--target", request.arch.rust_target()]);
        command.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", crates::FORMAT]);
        if request.packages.offline {
            command.arg("--offline");
        }
        command.current_dir(request.workspace).env_clear().envs(passed_on()).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let lock = fs::read_to_string(request.workspace.join("Cargo.lock")).map_err(|error| error.to_string())?;
        Ok(crates::parse(&String::from_utf8_lossy(&output.stdout), &lock))
    }
}

/// Leaves a script beside cargo's files that repeats the command by hand.
fn leave_script(command: &Command, arch: Arch, target_dir: &Path) -> Result<PathBuf> {
    let path = target_dir.join(format!("repeat-{arch}.sh"));
    // The user's environment may hold a registry's token.
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(script(command).as_bytes())).map_err(Error::io("write", &path))?;
    Ok(path)
}

/// Whether the binary was made of nothing in the workspace but what [`super::store::fingerprint`] looks at. Cargo lists
/// the sources beside the binary; a crate that includes a file from elsewhere has cargo asked each time.
pub(super) fn reads_only_the_runtime(binary: &Path, workspace: &Path) -> bool {
    let Ok(list) = fs::read_to_string(binary.with_extension("d")) else { return false };
    let runtime = workspace.join("runtime");
    let (_, sources) = list.split_once(": ").unwrap_or_default();
    sources
        .replace("\\ ", "\0")
        .split_whitespace()
        .map(|path| PathBuf::from(path.replace('\0', " ")))
        .all(|path| path.starts_with(&runtime) || !path.starts_with(workspace))
}

/// Follows cargo's stderr: its progress line (`Building [==> ] 12/200: names`) drives a step, the rest is kept.
struct Watcher<'a> {
    progress: &'a Progress,
    name: String,
    step: Option<Step>,
    seen: u64,
    kept: VecDeque<String>,
}

impl<'a> Watcher<'a> {
    fn new(progress: &'a Progress, name: String) -> Self {
        Self { progress, name, step: None, seen: 0, kept: VecDeque::new() }
    }

    /// Reads to the end; lines end at a line feed or, where cargo redraws, at a carriage return.
    fn follow(&mut self, stderr: impl Read) -> io::Result<()> {
        let mut line = Vec::new();
        for byte in BufReader::new(stderr).bytes() {
            match byte? {
                b'\n' | b'\r' => self.line(&String::from_utf8_lossy(&std::mem::take(&mut line))),
                byte => line.push(byte),
            }
        }
        self.line(&String::from_utf8_lossy(&line));
        Ok(())
    }

    fn line(&mut self, raw: &str) {
        let line = without_escapes(raw);
        let text = line.trim();
        if let Some((done, total, names)) = building(text) {
            let step = self.step.get_or_insert_with(|| self.progress.step(&self.name, Some(total)));
            step.inc(done.saturating_sub(self.seen));
            step.message(names);
            self.seen = self.seen.max(done);
        } else if !text.is_empty() && !is_routine(text) {
            self.kept.push_back(line.trim_end().to_owned());
            if self.kept.len() > KEPT_LINES {
                self.kept.pop_front();
            }
        }
    }

    fn done(&self) {
        if let Some(step) = &self.step {
            step.done(&format!("{} crates", self.seen));
        }
    }
}

/// Units done, units in all and what is being compiled, if this is cargo's progress line.
fn building(text: &str) -> Option<(u64, u64, &str)> {
    let rest = text.strip_prefix("Building [")?.split_once(']')?.1.trim_start();
    let (numbers, names) = rest.split_once(':').unwrap_or((rest, ""));
    let (done, total) = numbers.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?, names.trim()))
}

/// Cargo's report of what goes well, which an error need not repeat.
fn is_routine(text: &str) -> bool {
    ["Compiling ", "Downloaded ", "Downloading ", "Blocking ", "Updating ", "Finished ", "Fresh ", "Locking "]
        .iter()
        .any(|word| text.starts_with(word))
}

/// The line without terminal control sequences (`ESC [ ... letter`).
fn without_escapes(raw: &str) -> String {
    let mut parts = raw.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        text.push_str(&part[end..]);
        text
    })
}

/// The variables of our environment that cargo may see.
fn passed_on() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        PASSED_ON.contains(&&*name) || PASSED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// A script that runs the command as it was run.
fn script(command: &Command) -> String {
    let quote = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', "'\\''"));
    let folder = command.get_current_dir().map_or("'.'".into(), |folder| quote(folder.as_os_str()));
    let variables: String = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("    {}={} \\\n", name.to_string_lossy(), quote(value?))))
        .collect();
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
    format!(
        "#!/bin/sh\n# The compile that failed.\ncd {folder} && exec env -i \\\n{variables}    {} \"$@\"\n",
        words.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_progress_line_is_read() {
        let line = "Building [====>        ] 45/210: ring, serde_derive(build)...";
        assert_eq!(building(line), Some((45, 210, "ring, serde_derive(build)...")));
        assert_eq!(building("Compiling ring v0.17.14"), None);
    }

    #[test]
    fn what_goes_wrong_is_kept_and_what_goes_well_is_not() {
        let mut watcher = Watcher::new(&Progress::hidden(), String::new()).kept;
        assert!(watcher.is_empty());
        let progress = Progress::hidden();
        let mut follower = Watcher::new(&progress, "x".into());
        let text =
            "   Compiling a v1\n    Building [> ] 1/2: a\r\x1b[Kerror[E0308]: mismatched types\n  --> src/a.rs:1:1\n";
        follower.follow(text.as_bytes()).unwrap();
        watcher.extend(follower.kept);
        assert_eq!(watcher, ["error[E0308]: mismatched types", "  --> src/a.rs:1:1"]);
    }

    #[test]
    fn the_script_repeats_the_command_with_its_environment_only() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "printf '%s|' \"$PWD\" \"$WORD\" \"$HOME\""]).current_dir(directory.path());
        command.env_clear().env("WORD", "it's two\nlines").env("PATH", env::var_os("PATH").unwrap());
        let path = leave_script(&command, Arch::Armv7, directory.path()).unwrap();
        let output = Command::new("sh").arg(path).output().unwrap();
        let folder = directory.path().canonicalize().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}|it's two\nlines||", folder.display()));
    }

    #[test]
    fn only_the_end_of_long_output_is_kept() {
        let progress = Progress::hidden();
        let mut follower = Watcher::new(&progress, "x".into());
        let text: String = (0..500).map(|number| format!("line {number}\n")).collect();
        follower.follow(text.as_bytes()).unwrap();
        assert_eq!(follower.kept.len(), KEPT_LINES);
        assert_eq!(follower.kept.back().map(String::as_str), Some("line 499"));
    }

    #[test]
    fn a_binary_that_includes_a_file_from_outside_the_runtime_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("kiln");
        for (sources, expected) in [
            ("/w/runtime/kiln/src/main.rs /home/me/.cargo/a.rs", true),
            ("/w/runtime/kiln/src/main.rs /w/configs/node.toml", false),
            ("/w/runtime/a\\ b.rs", true),
        ] {
            fs::write(binary.with_extension("d"), format!("/t/kiln: {sources}\n")).unwrap();
            assert_eq!(reads_only_the_runtime(&binary, Path::new("/w")), expected, "{sources}");
        }
        fs::remove_file(binary.with_extension("d")).unwrap();
        assert!(!reads_only_the_runtime(&binary, Path::new("/w")), "no list, no shortcut");
    }
}
