//! A board: one TOML file of `boards/`, with everything that is particular to that hardware.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    Arch, ProfileError,
    source::{SourceFile, nearest},
};

/// The `[qemu]` section: how `imager run` boots the board.
pub type QemuMachine = crate::qemu::machine::Machine;

/// A board file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// The file's name without `.toml`; not written in the file.
    #[serde(skip_deserializing)]
    pub name: String,
    /// One line for listings.
    pub title: String,
    /// The architecture of kernel, packages and runtime.
    pub arch: Arch,
    /// The hardware this image boots on, as its makers name it.
    pub supports: Vec<String>,
    /// What was seen working, one line each.
    #[serde(default)]
    pub tested: Vec<String>,
    /// Whether the board has a hardware watchdog that the runtime shall feed.
    #[serde(default)]
    pub watchdog: bool,
    /// The overlays of a plain build, in order.
    pub overlays: Vec<toml::Spanned<String>>,
    /// Package sources; with several, a package's highest version is taken, whichever source has it.
    pub sources: Vec<Sources>,
    /// Packages only this board needs.
    #[serde(default)]
    pub packages: BoardPackages,
    /// The kernel.
    pub kernel: Kernel,
    /// How the board is started.
    pub boot: Boot,
    /// Partition table and sizes.
    pub partitions: PartitionPlan,
    /// How QEMU plays this board; absent if it cannot.
    #[serde(default)]
    pub qemu: Option<QemuMachine>,
}

/// A Debian suite and what to take from it. A suite named `*-security` is the security archive's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sources {
    /// The suite, such as `trixie`.
    pub suite: String,
    /// Components, such as `main`.
    pub components: Vec<String>,
}

/// Packages of a board.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BoardPackages {
    /// Packages whose files the boot section copies from, and that stay out of the root.
    #[serde(default)]
    pub boot: Vec<String>,
    /// Packages for the root.
    #[serde(default)]
    pub root: Vec<String>,
    /// Packages never taken, though something depends on them (their maintainer scripts are what needs them).
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// The kernel of a board.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernel {
    /// The package, such as `linux-image-arm64`; may be Debian's meta-package.
    pub package: String,
    /// How the kernel file is stored in the slot.
    #[serde(default)]
    pub compression: Compression,
    /// Options of the kernel's configuration the board needs: `NAME` (built in or module), `NAME=y`, or `!NAME`.
    #[serde(default)]
    pub required: Vec<String>,
    /// Modules that the initramfs loads until it has reached the disk, in this order after what they depend on. The root
    /// loads those that `modules` does not name with the last.
    /// A leading `?` marks a module that may be missing; `name key=value` passes parameters.
    #[serde(default)]
    pub initramfs_modules: Vec<String>,
    /// Modules that the root loads before it joins the cluster, same format.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules that are loaded when the cluster service runs already, same format.
    #[serde(default)]
    pub later_modules: Vec<String>,
    /// Modules that are loaded when a part of Kiln asks for them, same format.
    #[serde(default)]
    pub demand_modules: Vec<String>,
}

/// How a kernel file is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As the package has it.
    #[default]
    None,
    /// Compressed by gzip, for firmware that unpacks it (the Raspberry Pi's does for arm64).
    Gzip,
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootKind {
    /// The Raspberry Pi's firmware, from the slot that `autoboot.txt` names.
    Pi,
    /// UEFI firmware through systemd-boot on the first partition.
    Uefi,
    /// QEMU's own loader, which is given kernel, initramfs and command line out of the slot.
    Direct,
}

/// The boot section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Boot {
    /// What starts the kernel.
    pub kind: BootKind,
    /// Kernel arguments of this board, before the ones Kiln adds.
    pub cmdline: String,
    /// Text of the slot's `config.txt` (Raspberry Pi only).
    #[serde(default)]
    pub config_txt: Option<String>,
    /// Device trees and firmware copied from packages into the slots.
    #[serde(default)]
    pub slot_files: Vec<Copy>,
    /// Files copied from packages onto the first partition.
    #[serde(default)]
    pub config_files: Vec<Copy>,
}

/// A file, or with `*` in its last part several, copied out of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Copy {
    /// Absolute path in the unpacked packages; `{kernel}` stands for the kernel's version.
    pub from: String,
    /// Absolute path in the partition; with a trailing slash, the directory.
    pub to: String,
}

/// The kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Master boot record, four primary partitions.
    Mbr,
    /// GUID partition table with an EFI system partition first.
    Gpt,
}

/// Partition table and sizes. All sizes are in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartitionPlan {
    /// The kind of table.
    pub table: Table,
    /// The CONFIG partition, MiB.
    pub config_mib: u32,
    /// Each of the two slots, MiB.
    pub slot_mib: u32,
    /// STATE in the image, MiB; the board grows it to the end of its disk.
    pub state_mib: u32,
}

/// What a listing of boards shows.
#[derive(Clone, Debug, Serialize)]
pub struct BoardSummary {
    /// Name to give to `--board`.
    pub name: String,
    /// One line.
    pub title: String,
    /// Architecture.
    pub arch: Arch,
    /// Kernel package.
    pub kernel: String,
    /// The suite of the first source.
    pub suite: String,
    /// Hardware.
    pub supports: Vec<String>,
    /// What was seen working.
    pub tested: Vec<String>,
}

impl Board {
    /// Reads one board file.
    ///
    /// # Errors
    /// The file cannot be read, or [`ProfileError::Invalid`] with the place of the mistake.
    pub fn read(path: &Path) -> Result<Board, ProfileError> {
        Board::parse(&SourceFile::read(path)?, file_stem(path))
    }

    /// Parses a board file's text; `file` is the name errors give it.
    ///
    /// # Errors
    /// [`ProfileError::Invalid`] with the place of the mistake.
    pub fn parse_str(name: &str, file: &str, text: &str) -> Result<Board, ProfileError> {
        Board::parse(&SourceFile { name: file.to_owned(), text: text.to_owned() }, name.to_owned())
    }

    fn parse(source: &SourceFile, name: String) -> Result<Board, ProfileError> {
        let mut board: Board = source.parse()?;
        board.name = name;
        board.check(source)?;
        Ok(board)
    }

    /// Finds a board by name in `dir`.
    ///
    /// # Errors
    /// [`ProfileError::UnknownBoard`] with the nearest name, or what [`Board::read`] says.
    pub fn find(dir: &Path, name: &str) -> Result<Board, ProfileError> {
        let known = names(dir, ".toml")?;
        if !known.iter().any(|k| k == name) {
            let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            return Err(ProfileError::UnknownBoard { name: name.to_owned(), nearest: near, known });
        }
        Board::read(&dir.join(format!("{name}.toml")))
    }

    /// The line a listing shows.
    pub fn summary(&self) -> BoardSummary {
        BoardSummary {
            name: self.name.clone(),
            title: self.title.clone(),
            arch: self.arch,
            kernel: self.kernel.package.clone(),
            suite: self.sources.first().map(|s| s.suite.clone()).unwrap_or_default(),
            supports: self.supports.clone(),
            tested: self.tested.clone(),
        }
    }

    /// What the types alone cannot say.
    fn check(&self, source: &SourceFile) -> Result<(), ProfileError> {
        let at = |key: &str| source.text.find(key).unwrap_or(0);
        if self.sources.is_empty() {
            return Err(source.invalid(at("sources"), "`sources` names no suite".into()));
        }
        if (self.boot.kind == BootKind::Uefi) != (self.partitions.table == Table::Gpt) {
            let message = "`boot.kind = \"uefi\"` goes with `partitions.table = \"gpt\"`, the other kinds with \"mbr\"";
            return Err(source.invalid(at("table"), message.into()));
        }
        if self.boot.config_txt.is_some() != (self.boot.kind == BootKind::Pi) {
            let message = "`boot.config-txt` is what `boot.kind = \"pi\"` needs, and no other kind reads it";
            return Err(source.invalid(at("kind"), message.into()));
        }
        let plan = self.partitions;
        for (key, size) in [("config-mib", plan.config_mib), ("slot-mib", plan.slot_mib), ("state-mib", plan.state_mib)]
        {
            if size < 4 {
                return Err(source.invalid(at(key), format!("`{key}` is {size} MiB; at least 4 are needed")));
            }
        }
        Ok(())
    }
}

/// Every board of `dir`, by name.
///
/// # Errors
/// The first file that cannot be read or is wrong.
pub fn boards(dir: &Path) -> Result<Vec<Board>, ProfileError> {
    names(dir, ".toml")?.iter().map(|name| Board::find(dir, name)).collect()
}

/// The sorted names in a directory that end in `suffix`, without it.
pub(super) fn names(dir: &Path, suffix: &str) -> Result<Vec<String>, ProfileError> {
    let read = |source| ProfileError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        if let Some(stem) = name.to_str().and_then(|n| n.strip_suffix(suffix)) {
            found.push(stem.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn file_stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}
