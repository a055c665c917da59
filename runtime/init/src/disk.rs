//! Finding the boot disk: by the MBR signature or GPT GUID on the command line, never by a device name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::cmdline::DiskId;
use crate::sys::uevent::Uevent;

/// The first sectors hold an MBR and, at 512 or 4096, a GPT header.
const HEAD: usize = 8192;
/// Devices that never are the boot disk.
const VIRTUAL: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "nbd"];

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Kernel name, such as `mmcblk0`.
    pub(crate) name: String,
}

impl Disk {
    /// Its node under `/dev`.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The node of a partition, if the kernel knows it.
    pub(crate) fn partition(&self, number: u32) -> Option<PathBuf> {
        let entries = std::fs::read_dir(format!("/sys/block/{}", self.name)).ok()?;
        entries.flatten().find_map(|entry| {
            let found = number_in(&entry.path().join("partition"))?;
            (found == u64::from(number)).then(|| Path::new("/dev").join(entry.file_name()))
        })
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        size(&self.name)
    }

    /// Logical sector size in bytes.
    pub(crate) fn sector_size(&self) -> u64 {
        number_in(Path::new(&format!("/sys/block/{}/queue/logical_block_size", self.name))).unwrap_or(512)
    }
}

/// Looks at every disk. Also returns what was seen, for the console: `vda (MBR 1234abcd), sda (no partition table)`.
pub(crate) fn find(wanted: &DiskId) -> (Option<Disk>, String) {
    let mut found = None;
    let mut seen = Vec::new();
    for name in names() {
        let identity = head(&name).as_deref().and_then(identity);
        seen.push(match &identity {
            Some(DiskId::Mbr(_)) => {
                format!("{name} (MBR {})", identity.as_ref().map(ToString::to_string).unwrap_or_default())
            }
            Some(DiskId::Gpt(guid)) => format!("{name} (GPT {guid})"),
            None => format!("{name} (no partition table)"),
        });
        if found.is_none() && identity.as_ref() == Some(wanted) {
            found = Some(Disk { name });
        }
    }
    let seen = if seen.is_empty() { "no disks".to_owned() } else { seen.join(", ") };
    (found, seen)
}

/// Whether a device event means that a search may find more than before.
pub(crate) fn is_news(event: &Uevent) -> bool {
    let name = event.devname.as_deref().unwrap_or_default();
    let disk = event.subsystem == "block" && matches!(event.action.as_str(), "add" | "change");
    event.action == "lost" || (disk && !is_virtual(name))
}

fn is_virtual(name: &str) -> bool {
    VIRTUAL.iter().any(|prefix| name.starts_with(prefix))
}

fn names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|name| !is_virtual(name) && size(name) > 0);
    names.sort();
    names
}

fn size(name: &str) -> u64 {
    // sysfs counts in units of 512 bytes whatever the sector size.
    number_in(Path::new(&format!("/sys/block/{name}/size"))).unwrap_or(0) * 512
}

fn number_in(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn head(name: &str) -> Option<Vec<u8>> {
    let file = File::open(Path::new("/dev").join(name)).ok()?;
    let mut buffer = vec![0; HEAD];
    file.read_exact_at(&mut buffer, 0).ok()?;
    Some(buffer)
}

/// The identity that a disk's first sectors give it. A GPT counts more than the protective MBR before it.
pub(crate) fn identity(head: &[u8]) -> Option<DiskId> {
    for sector in [512, 4096] {
        if head.get(sector..sector + 8) == Some(b"EFI PART") {
            return Some(DiskId::Gpt(guid(head.get(sector + 56..sector + 72)?)));
        }
    }
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let signature: [u8; 4] = head.get(440..444)?.try_into().ok()?;
    Some(DiskId::Mbr(u32::from_le_bytes(signature)))
}

/// A GUID's text form: the first three fields are little-endian on disk.
fn guid(bytes: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (at, index) in ORDER.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", bytes.get(index).copied().unwrap_or(0)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbr_disk_is_known_by_its_signature() {
        let mut head = vec![0u8; HEAD];
        head[440..444].copy_from_slice(&0x1234_abcdu32.to_le_bytes());
        assert_eq!(identity(&head), None, "no boot signature yet");
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(identity(&head), Some(DiskId::Mbr(0x1234_abcd)));
    }

    #[test]
    fn a_gpt_disk_is_known_by_its_guid_in_text_order() {
        let mut head = vec![0u8; HEAD];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head[512..520].copy_from_slice(b"EFI PART");
        let bytes: Vec<u8> = (0..16).collect();
        head[568..584].copy_from_slice(&bytes);
        assert_eq!(identity(&head), Some(DiskId::Gpt("03020100-0504-0706-0809-0a0b0c0d0e0f".into())));
    }

    #[test]
    fn our_own_loop_and_mapped_devices_are_no_news() {
        let event = |action: &str, name: &str| Uevent {
            action: action.into(),
            subsystem: "block".into(),
            devname: Some(name.into()),
            ..Uevent::default()
        };
        assert!(is_news(&event("add", "mmcblk0")));
        assert!(is_news(&event("change", "sda")));
        assert!(!is_news(&event("change", "loop0")));
        assert!(!is_news(&event("add", "dm-0")));
        assert!(!is_news(&event("remove", "sda")));
    }
}
