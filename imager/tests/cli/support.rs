//! Running the binary, and images small enough for tests.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use imager::image::{
    fat::{self, Fat},
    medium::Window,
    partition::{self, DiskId, Partition, Role},
    reader::{Image, Part},
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Asserts the exit code, showing what was said if it is another.
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The JSON on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("stdout is JSON")
    }
}

/// A place of its own for a test, and the binary run in it.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the binary here, with a closed stdin and no mirror, cache or token of the user's.
    pub(crate) fn imager(&self, args: &[&str]) -> Outcome {
        self.imager_with(args, &[])
    }

    pub(crate) fn imager_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imager"));
        for name in ["KILN_MIRROR", "KILN_TOKEN", "KILN_CACHE", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        let output = command
            .args(args)
            .args(["--workspace", concat!(env!("CARGO_MANIFEST_DIR"), "/..")])
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .envs(environment.iter().copied())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// An image `name` with these files on CONFIG and slot A.
    pub(crate) fn image(&self, name: &str, config: &[(&str, &[u8])], slot: &[(&str, &[u8])]) -> PathBuf {
        let path = self.path(name);
        make_image(&path, config, slot);
        path
    }
}

fn make_image(path: &Path, config: &[(&str, &[u8])], slot: &[(&str, &[u8])]) {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path).expect("an image");
    let fat = |number: u32, start: u64, length: u64| Partition {
        number,
        name: String::new(),
        start: start * MIB,
        length: length * MIB,
        role: Role::Fat { fat32: false, efi: false },
    };
    let state = Partition { role: Role::State, ..fat(4, 37, 1) };
    let partitions = [fat(1, 1, 12), fat(2, 13, 12), fat(3, 25, 12), state];
    file.set_len(38 * MIB).expect("room");
    partition::write(&mut file, 38 * MIB, DiskId::Mbr(0x1234_abcd), &partitions).expect("a table");
    for (part, files) in [(Part::Config, config), (Part::SlotA, slot), (Part::SlotB, &[])] {
        let partition = &partitions[part.number() as usize - 1];
        let window = || Window::new(&file, partition.start, partition.length);
        fat::format(window(), partition.length, part.label(), part.number()).expect("a file system");
        let fs = Fat::open(window(), part.label()).expect("mounted");
        for (name, bytes) in files {
            fs.write(name, bytes, 1_760_000_000).expect("a file");
        }
        fs.close().expect("closed");
    }
}

/// The files of CONFIG.
pub(crate) fn config_files(image: &Path) -> BTreeMap<String, u64> {
    let image = Image::open(image).expect("an image");
    image.fat(Part::Config).expect("CONFIG").list().expect("listed")
}

/// A file of CONFIG.
pub(crate) fn config_file(image: &Path, name: &str) -> String {
    let image = Image::open(image).expect("an image");
    let bytes = image.fat(Part::Config).expect("CONFIG").read(name).expect("a file");
    String::from_utf8(bytes).expect("text")
}

/// All of a file.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).expect("there").read_to_end(&mut bytes).expect("readable");
    bytes
}

/// A join token whose secret is [`SECRET`].
pub(crate) fn token() -> String {
    format!("K10{}::abcdef:{SECRET}", "ab".repeat(32))
}

pub(crate) const SECRET: &str = "0123456789abcdef";

/// A valid node.toml with comments.
pub(crate) fn node_toml() -> String {
    format!(
        "version = 1\n# in the shop window\n[node]\nname = \"pi-1\"   # left\nrole = \"agent\"\n[cluster]\n\
         server = \"https://10.0.2.2:6443\"\ntoken = \"{}\"\n",
        token()
    )
}
