//! What kind of device a path is, and what speaks against writing to it.

use std::{
    fmt, fs,
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::sys::stat::{major, minor};

use super::FlashError;

/// What speaks against writing to a device. `--force` overrides each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It, or something on it, is mounted here.
    Mounted(Vec<String>),
    /// It holds the system that runs now.
    SystemDisk,
    /// It is not removable.
    Fixed,
    /// It is a partition; cards are written as a whole.
    Partition,
    /// It is a plain file.
    PlainFile,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(places) => write!(f, "it is mounted on {}", places.join(", ")),
            Self::SystemDisk => f.write_str("it holds the system that runs now"),
            Self::Fixed => f.write_str("it is not removable"),
            Self::Partition => f.write_str("it is a partition, not a whole device"),
            Self::PlainFile => f.write_str("it is a plain file, not a device"),
        }
    }
}

/// Where facts about devices come from.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/sys`.
    pub sys: PathBuf,
    /// The text of `/proc/self/mountinfo`.
    pub mountinfo: String,
}

impl Host {
    /// This machine.
    ///
    /// # Errors
    /// [`FlashError::Io`] when `/proc` is not there; without it no device is known to be safe.
    pub fn here() -> Result<Self, FlashError> {
        let path = "/proc/self/mountinfo";
        let mountinfo = fs::read_to_string(path).map_err(FlashError::io("read", path))?;
        Ok(Self { sys: "/sys".into(), mountinfo })
    }

    /// What speaks against a block device, by its `major:minor`.
    fn objections(&self, number: &str) -> Vec<Objection> {
        let Some(node) = self.node(number) else { return vec![Objection::Fixed] };
        let mut found = Vec::new();
        if node.join("partition").exists() {
            found.push(Objection::Partition);
        }
        let disks = self.disks(number);
        let mut places = Vec::new();
        for (mounted, place) in self.mounts() {
            if self.disks(mounted).iter().any(|disk| disks.contains(disk)) {
                places.push(place.to_owned());
            }
        }
        if places.iter().any(|place| place == "/") {
            found.push(Objection::SystemDisk);
        }
        if !places.is_empty() {
            places.sort();
            places.dedup();
            found.push(Objection::Mounted(places));
        }
        if !disks.iter().all(|disk| removable(disk)) {
            found.push(Objection::Fixed);
        }
        found
    }

    /// The whole disks that a device lies on, as directories of `/sys`.
    fn disks(&self, number: &str) -> Vec<PathBuf> {
        let Some(node) = self.node(number) else { return Vec::new() };
        if node.join("partition").exists() {
            return node.parent().map(Path::to_owned).into_iter().collect();
        }
        let below: Vec<PathBuf> = fs::read_dir(node.join("slaves"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("dev")).ok())
            .flat_map(|number| self.disks(number.trim()))
            .collect();
        if below.is_empty() { vec![node] } else { below }
    }

    fn node(&self, number: &str) -> Option<PathBuf> {
        self.sys.join("dev/block").join(number).canonicalize().ok()
    }

    /// `major:minor` and mount point of everything mounted.
    fn mounts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.mountinfo.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            Some((fields.next()?, fields.nth(1)?))
        })
    }

    fn model(&self, number: &str) -> Option<String> {
        let device = self.disks(number).first()?.join("device");
        let read = |name: &str| fs::read_to_string(device.join(name)).ok().map(|text| text.trim().to_owned());
        let words: Vec<String> = ["vendor", "model", "name"].into_iter().filter_map(read).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// Whether a disk can be taken out. Card slots on the board (`mmcblk`) do not say so of themselves.
fn removable(disk: &Path) -> bool {
    let card = disk.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mmcblk"));
    card || fs::read_to_string(disk.join("removable")).is_ok_and(|text| text.trim() == "1")
}

/// A device to write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its path as given.
    pub path: PathBuf,
    /// Bytes; absent for a plain file, which takes any size.
    pub size: Option<u64>,
    /// What it calls itself.
    pub model: Option<String>,
    /// What speaks against it.
    pub objections: Vec<Objection>,
}

impl Target {
    /// Looks at a path.
    ///
    /// # Errors
    /// [`FlashError::Io`] when it is neither a block device nor a plain file, or cannot be opened. A plain file need not
    /// exist yet.
    pub fn look(host: &Host, path: &Path) -> Result<Self, FlashError> {
        let plain = |path: &Path| Self {
            path: path.to_owned(),
            size: None,
            model: None,
            objections: vec![Objection::PlainFile],
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // Below /dev a name that is not there is a slip, and a file of that name would fill the memory.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.starts_with("/dev") => {
                return Ok(plain(path));
            }
            Err(error) => return Err(FlashError::io("open", path)(error)),
        };
        if metadata.is_file() {
            return Ok(plain(path));
        }
        if !metadata.file_type().is_block_device() {
            let kind = io::Error::new(io::ErrorKind::InvalidInput, "it is neither a block device nor a file");
            return Err(FlashError::io("write", path)(kind));
        }
        let number = format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev()));
        let size = fs::File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
        Ok(Self {
            path: path.to_owned(),
            size: Some(size.map_err(FlashError::io("open", path))?),
            model: host.model(&number),
            objections: host.objections(&number),
        })
    }

    /// One line for a person: path, model, size.
    pub fn describe(&self) -> String {
        let mut line = self.path.display().to_string();
        if let Some(model) = &self.model {
            line.push_str(&format!(", {model}"));
        }
        if let Some(size) = self.size {
            line.push_str(&format!(", {:.1} GB", size as f64 / 1e9));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A `/sys` with a card (179:0, partition 179:1), a system disk (8:0, partition 8:1), and an encrypted volume (253:0)
    /// on a second partition of the system disk (8:2).
    fn host(mountinfo: &str) -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().expect("a directory");
        let sys = directory.path();
        let node = |number: &str, path: &str, files: &[(&str, &str)]| {
            let node = sys.join("devices").join(path);
            fs::create_dir_all(&node).expect("a directory");
            fs::write(node.join("dev"), number).expect("a file");
            for (name, text) in files {
                fs::write(node.join(name), text).expect("a file");
            }
            symlink(&node, sys.join("dev/block").join(number)).expect("a link");
        };
        fs::create_dir_all(sys.join("dev/block")).expect("a directory");
        node("179:0", "mmcblk0", &[("removable", "0\n")]);
        node("179:1", "mmcblk0/mmcblk0p1", &[("partition", "1\n")]);
        node("8:0", "sda", &[("removable", "0\n")]);
        node("8:1", "sda/sda1", &[("partition", "1\n")]);
        node("8:2", "sda/sda2", &[("partition", "2\n")]);
        node("8:16", "sdb", &[("removable", "1\n")]);
        node("253:0", "dm-0", &[]);
        let slaves = sys.join("devices/dm-0/slaves");
        fs::create_dir_all(&slaves).expect("a directory");
        symlink(sys.join("devices/sda/sda2"), slaves.join("sda2")).expect("a link");
        let host = Host { sys: sys.to_owned(), mountinfo: mountinfo.to_owned() };
        (directory, host)
    }

    #[test]
    fn an_unmounted_card_or_stick_is_welcome() {
        let (_directory, host) = host("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        assert_eq!(host.objections("179:0"), []);
        assert_eq!(host.objections("8:16"), []);
    }

    #[test]
    fn a_card_with_a_mounted_partition_is_refused() {
        let (_directory, host) = host("30 22 179:1 / /media/card rw - vfat /dev/mmcblk0p1 rw\n");
        assert_eq!(host.objections("179:0"), [Objection::Mounted(vec!["/media/card".to_owned()])]);
        assert_eq!(
            host.objections("179:1"),
            [Objection::Partition, Objection::Mounted(vec!["/media/card".to_owned()])]
        );
    }

    #[test]
    fn the_disk_under_an_encrypted_root_is_the_system_disk() {
        let (_directory, host) = host("22 1 253:0 / / rw - ext4 /dev/mapper/root rw\n");
        let objections = host.objections("8:0");
        assert!(objections.contains(&Objection::SystemDisk), "{objections:?}");
        assert!(objections.contains(&Objection::Fixed), "{objections:?}");
    }

    #[test]
    fn a_device_that_the_system_does_not_know_is_refused() {
        let (_directory, host) = host("");
        assert_eq!(host.objections("9:9"), [Objection::Fixed]);
    }

    #[test]
    fn a_name_below_dev_that_is_not_there_is_an_error() {
        let (_directory, host) = host("");
        assert!(Target::look(&host, Path::new("/dev/no-such-card")).is_err());
    }
}
