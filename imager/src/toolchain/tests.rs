//! The choice of tools, binaries that are given, and the scripts between cargo and the compilers.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::*;
use crate::packages::Settings;

/// A workspace with nothing to compile, a cache, and settings that make no connection.
struct Bench {
    directory: tempfile::TempDir,
    settings: Settings,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("Cargo.lock", ""), ("runtime/kiln/Cargo.toml", "")] {
            let at = directory.path().join("workspace").join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, text).unwrap();
        }
        let mut settings = Settings::new(None, directory.path().join("cache")).unwrap();
        settings.offline = true;
        Self { directory, settings }
    }

    fn run(&self, choice: Choice, explicit: Option<&Path>) -> Result<RuntimeBinary> {
        let request = RuntimeRequest {
            workspace: &self.directory.path().join("workspace"),
            arch: Arch::Armv7,
            explicit,
            choice,
            cache: &self.settings.cache,
            packages: &self.settings,
            locked: true,
        };
        runtime_binary(&request, &mut Lock::default(), &Progress::hidden())
    }
}

/// The shortest file that passes for a static armv7 executable.
fn armv7_binary() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x01\x01");
    (bytes[16], bytes[18]) = (2, 40);
    bytes
}

#[test]
fn a_given_binary_is_taken_into_the_store_without_compiling() {
    let bench = Bench::new();
    let given = bench.directory.path().join("my-kiln");
    fs::write(&given, armv7_binary()).unwrap();
    let taken = bench.run(Choice::Auto, Some(&given)).unwrap();
    assert_eq!(fs::read(&taken.path).unwrap(), armv7_binary());
    assert_eq!(fs::metadata(&taken.path).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(taken.size, 64);
    assert!(taken.path.starts_with(&bench.settings.cache));
}

#[test]
fn a_given_binary_for_another_architecture_is_refused_and_not_kept() {
    let bench = Bench::new();
    let given = bench.directory.path().join("my-kiln");
    let mut bytes = armv7_binary();
    (bytes[4], bytes[18]) = (2, 183);
    fs::write(&given, bytes).unwrap();
    let error = bench.run(Choice::Auto, Some(&given)).unwrap_err();
    assert!(
        error.to_string().ends_with("my-kiln: it is an executable for another architecture, not for armv7"),
        "{error}"
    );
    assert_eq!(error.class(), Class::BadInput);
    assert_eq!(fs::read_dir(bench.settings.cache.join("runtime")).unwrap().count(), 1, "only the empty stamps");
}

#[test]
fn a_lock_without_the_toolchain_is_refused_when_it_may_not_change() {
    let error = Bench::new().run(Choice::Debian, None).unwrap_err();
    assert!(matches!(&error, Error::NotLocked { section } if section.starts_with("tools-")), "{error}");
}

#[test]
fn every_choice_is_parsed_by_its_name() {
    for choice in Choice::ALL {
        assert_eq!(choice.name().parse(), Ok(choice));
    }
    assert_eq!("gcc".parse::<Choice>().unwrap_err(), "`gcc` is none of auto, host, cross, debian");
}

#[test]
fn a_full_disk_is_told_apart_from_other_failures() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = Error::io("write", "/cache/x")(full);
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
}

/// Runs one of the scripts with a compiler that prints its arguments, one a line.
fn script(name: &str, env: &[(&str, &str)], args: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let spy = directory.path().join("spy");
    fs::write(&spy, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&spy, fs::Permissions::from_mode(0o755)).unwrap();
    let scripts = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/toolchain/scripts"));
    let output = Command::new("sh")
        .arg(scripts.join(name))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(["KILN_RUSTC", "KILN_CC", "KILN_LD"].map(|name| (name, &spy)))
        .envs(env.iter().copied().collect::<BTreeMap<_, _>>())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn rustc(home: &str, extra: &[&str]) -> Vec<String> {
    let manifest = format!("{home}/registry/src/index/log-0.4.1");
    let env = [("CARGO_MANIFEST_DIR", &*manifest), ("CARGO_PKG_NAME", "log"), ("CARGO_PKG_VERSION", "0.4.1")];
    let mut args =
        vec!["--crate-name", "log", "-C", "metadata=0123", "-C", "extra-filename=-0123", "--cfg", "feature=\"a b\""];
    args.extend(extra);
    script("rustc.sh", &env, &args)
}

fn metadata(args: &[String]) -> &str {
    args.iter().find(|arg| arg.starts_with("metadata=")).unwrap()
}

#[test]
fn a_crate_has_one_identity_in_every_folder() {
    let (mine, yours) = (rustc("/home/me/.cargo", &[]), rustc("/home/you/cargo", &[]));
    assert_eq!(metadata(&mine), metadata(&yours));
    assert_ne!(metadata(&mine), "metadata=0123");
    assert!(mine.contains(&"feature=\"a b\"".into()), "arguments pass whole: {mine:?}");
    assert!(mine.contains(&"extra-filename=-0123".into()), "cargo finds its files: {mine:?}");
    assert!(mine.contains(&"/home/me/.cargo/registry/src/index/log-0.4.1=/crate/log-0.4.1".into()), "{mine:?}");
}

#[test]
fn features_and_targets_tell_crates_apart() {
    let base = rustc("/c", &[]);
    for extra in [["--cfg", "feature=\"std\""], ["--target", "aarch64-unknown-linux-musl"]] {
        assert_ne!(metadata(&base), metadata(&rustc("/c", &extra)), "{extra:?}");
    }
}

#[test]
fn a_question_to_rustc_passes_as_it_is() {
    let asked = script("rustc.sh", &[("KILN_SYSROOT", "/s")], &["--print", "sysroot"]);
    assert_eq!(asked, ["--print", "sysroot", "--sysroot", "/s"]);
}

#[test]
fn zig_is_not_told_a_target_in_words_that_it_does_not_know() {
    let env = [("KILN_CC_ZIG", "1"), ("KILN_CC_ARGS", "cc\n-target\narm-linux-musleabihf")];
    let args = script("cc.sh", &env, &["--target=armv7-unknown-linux-musleabihf", "-march=armv7-a", "-c", "a b.c"]);
    assert_eq!(args, ["cc", "-target", "arm-linux-musleabihf", "-c", "a b.c"]);
}

#[test]
fn c_code_does_not_learn_where_it_lies() {
    let env = [("CARGO_MANIFEST_DIR", "/home/me/ring-1"), ("CARGO_PKG_NAME", "ring"), ("CARGO_PKG_VERSION", "1")];
    assert_eq!(script("cc.sh", &env, &["-c", "x.c"]), ["-c", "x.c", "-ffile-prefix-map=/home/me/ring-1=/crate/ring-1"]);
}

#[test]
fn cross_is_called_as_cargo_is_and_its_binary_is_taken() {
    let bench = Bench::new();
    let directory = bench.directory.path();
    let (record, made, program) = (directory.join("record"), directory.join("made"), directory.join("cross"));
    fs::write(&made, armv7_binary()).unwrap();
    // As the real one: its version, else cargo's arguments, with the result in cargo's target directory.
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo cross 0.2.5; echo cargo 1.95.0; exit; fi\n\
         {{ pwd; printf '%s ' \"$@\"; echo; env; }} > {record}\n\
         out=$CARGO_TARGET_DIR/armv7-unknown-linux-musleabihf/release\nmkdir -p $out && cp {made} $out/kiln && cp {made} $out/kiln-init\n",
        record = record.display(),
        made = made.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let cross = host::Cross::at(program, Arch::Armv7).unwrap();
    assert_eq!(cross.description, "cross 0.2.5");
    let request = RuntimeRequest {
        workspace: &directory.join("workspace"),
        arch: Arch::Armv7,
        explicit: None,
        choice: Choice::Cross,
        cache: &bench.settings.cache,
        packages: &bench.settings,
        locked: true,
    };
    let target_dir = directory.join("target");
    let cargo = cargo::Cargo::find().unwrap();
    let built = cargo.build(&request, &cross.prepare(), &target_dir, &Progress::hidden()).unwrap();
    assert_eq!(fs::read(built.join("kiln")).unwrap(), armv7_binary());

    let record = fs::read_to_string(record).unwrap();
    let mut lines = record.lines();
    assert_eq!(lines.next(), request.workspace.canonicalize().unwrap().to_str());
    let arguments = "build --release --locked --package kiln --package kiln-init --target armv7-unknown-linux-musleabihf --offline ";
    assert_eq!(lines.next(), Some(arguments));
    let environment: Vec<&str> = lines.collect();
    assert!(environment.contains(&format!("CARGO_TARGET_DIR={}", target_dir.display()).as_str()), "{environment:?}");
    // What would point the container's cargo at this machine's tools.
    assert!(!environment.iter().any(|line| line.starts_with("RUSTC=") || line.contains("LINKER=")), "{environment:?}");
}

#[test]
fn checkouts_do_not_share_what_was_compiled() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    for workspace in [&one, &two] {
        fs::create_dir(workspace).unwrap();
    }
    assert_ne!(target_name("t", &one), target_name("t", &two));
    assert_eq!(target_name("t", &one), target_name("t", &two.join("../one")));
    assert_ne!(target_name("t", &one), target_name("u", &one));
}

#[test]
fn a_compiler_does_not_outlive_the_program_that_started_it() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::Stdio,
        time::{Duration, Instant},
    };
    const LIFE: u64 = 60;
    // This test as another process: it starts a child as cargo is started, and is killed.
    if std::env::var_os("KILN_TEST_PARENT").is_some() {
        let mut command = Command::new("sh");
        crate::child::bind(command.args(["-c", &format!("echo started; exec sleep {LIFE}")]));
        command.status().unwrap();
        return;
    }
    let name = "toolchain::tests::a_compiler_does_not_outlive_the_program_that_started_it";
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", name]).env("KILN_TEST_PARENT", "1").stdout(Stdio::piped());
    let mut program = program.spawn().unwrap();
    let mut output = BufReader::new(program.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("started") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended early");
    }
    let killed = Instant::now();
    program.kill().unwrap();
    program.wait().unwrap();
    // The end of the output: both have closed it.
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(killed.elapsed() < Duration::from_secs(LIFE / 2), "the child lived on");
}
