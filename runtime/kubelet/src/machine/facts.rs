//! What a machine is: read once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::MachineError;

/// What does not change while the machine runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Identifies the installation; empty if unknown.
    pub machine_id: String,
    /// Identifies the hardware; the machine id if the hardware does not say.
    pub system_uuid: String,
    /// Identifies the boot.
    pub boot_id: String,
    /// As `uname -r` says.
    pub kernel_version: String,
    /// The operating system's name for people.
    pub os_image: String,
    /// CPUs that are online.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of the disk that pods use.
    pub disk: u64,
    /// Bytes of memory reserved for huge pages, by the size of the page in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
}

impl Facts {
    /// The architecture's name in Go, which Kubernetes uses.
    pub const ARCHITECTURE: &str = go_architecture(std::env::consts::ARCH);

    /// Reads a machine whose file system is at `root` and whose pods' disk is that of the folder `data`.
    pub fn read(root: &Path, data: &Path) -> Result<Self, MachineError> {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| clean(&text));
        let needed = |path: &str| {
            text(path).ok_or_else(|| MachineError::Read { path: root.join(path), why: "cannot be read".to_owned() })
        };
        let machine_id = text("etc/machine-id").unwrap_or_default();
        let hardware = ["sys/class/dmi/id/product_uuid", "proc/device-tree/serial-number"];
        let system_uuid = hardware.into_iter().filter_map(text).find(|id| !id.is_empty());
        let disk = statvfs(data)
            .map_err(|error| MachineError::Read { path: data.to_owned(), why: error.desc().to_owned() })?;
        Ok(Self {
            system_uuid: system_uuid.unwrap_or_else(|| machine_id.clone()).to_lowercase(),
            machine_id,
            boot_id: needed("proc/sys/kernel/random/boot_id")?,
            kernel_version: needed("proc/sys/kernel/osrelease")?,
            os_image: os_image(&text("etc/os-release").unwrap_or_default()),
            cpus: cpus(&text("sys/devices/system/cpu/online").unwrap_or_default()),
            memory: meminfo(root, "MemTotal")?,
            disk: widen(disk.blocks()) * widen(disk.fragment_size()),
            huge_pages: huge_pages(&root.join("sys/kernel/mm/hugepages")),
        })
    }
}

const fn go_architecture(rust: &'static str) -> &'static str {
    match rust.as_bytes() {
        b"x86_64" => "amd64",
        b"aarch64" => "arm64",
        b"x86" => "386",
        b"powerpc64" => "ppc64le",
        // arm, riscv64, s390x and others have the same name.
        _ => rust,
    }
}

/// Block counts are 32 bits wide on some machines and 64 on others.
pub(super) fn widen(count: impl Into<u64>) -> u64 {
    count.into()
}

/// Device-tree texts end with a zero byte.
fn clean(text: &str) -> String {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
}

/// A line of `/proc/meminfo`, in bytes.
pub(super) fn meminfo(root: &Path, name: &str) -> Result<u64, MachineError> {
    let path = root.join("proc/meminfo");
    let text =
        fs::read_to_string(&path).map_err(|error| MachineError::Read { path: path.clone(), why: error.to_string() })?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| MachineError::Read { path, why: format!("there is no {name} in it") })
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches(['"', '\''])).to_owned()
}

/// How many CPUs a list such as `0-3,5` names; those that this process may use if it cannot be read.
fn cpus(online: &str) -> u32 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    let counted: Option<u32> = online.split(',').map(count).sum();
    counted.unwrap_or_else(|| {
        std::thread::available_parallelism().ok().and_then(|count| count.get().try_into().ok()).unwrap_or(1)
    })
}

fn huge_pages(folder: &Path) -> BTreeMap<u64, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let kib: u64 = entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages: u64 = clean(&fs::read_to_string(entry.path().join("nr_hugepages")).ok()?).parse().ok()?;
        Some((kib << 10, pages * (kib << 10)))
    };
    entries.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    const PI: [(&str, &str); 7] = [
        ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
        ("proc/device-tree/serial-number", "10000000ABCDEF01\0"),
        ("proc/sys/kernel/random/boot_id", "7289771d-90ef-4d8f-b388-db5068569be8\n"),
        ("proc/sys/kernel/osrelease", "6.12.41+deb13-arm64\n"),
        ("etc/os-release", "NAME=x\nPRETTY_NAME=\"Kiln 0.1 (Debian trixie)\"\n"),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("proc/meminfo", "MemTotal:        3881036 kB\nMemFree:  1 kB\nMemAvailable:    3000000 kB\n"),
    ];

    #[test]
    fn a_boards_facts_are_read_from_its_files() {
        let root = root(&PI);
        let facts = Facts::read(root.path(), root.path()).expect("all is there");
        assert_eq!(facts.system_uuid, "10000000abcdef01");
        assert_eq!(facts.kernel_version, "6.12.41+deb13-arm64");
        assert_eq!(facts.os_image, "Kiln 0.1 (Debian trixie)");
        assert_eq!((facts.cpus, facts.memory), (4, 3_881_036 << 10));
        assert!(facts.disk > 0 && facts.huge_pages.is_empty());
        assert_eq!(meminfo(root.path(), "MemAvailable").expect("a number"), 3_000_000 << 10);
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = root(&PI[..6]);
        let error = Facts::read(root.path(), root.path()).expect_err("there is no memory").to_string();
        assert!(error.contains("proc/meminfo"), "{error}");
        let error = Facts::read(root.path(), Path::new("/does/not/exist")).expect_err("no folder").to_string();
        assert!(error.starts_with("/does/not/exist: "), "{error}");
    }

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!((cpus("0"), cpus("0-3,5"), cpus("0,2-3")), (1, 5, 3));
        assert!(cpus("nonsense") >= 1 && cpus("3-0") >= 1);
    }
}
