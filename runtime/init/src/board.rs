//! Which board this is: an id from the board's own serial, that survives flashing.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Where an id that hangs on a network card is kept: a USB adapter that comes late must not change it.
const KEPT: &str = "/state/board-id";
/// What firmware writes where nobody filled in a serial.
const PLACEHOLDERS: [&str; 8] = [
    "",
    "none",
    "unknown",
    "default string",
    "not specified",
    "not applicable",
    "to be filled by o.e.m.",
    "system serial number",
];

/// The board's id: 64 hex digits.
pub(crate) fn id() -> Result<String> {
    id_under(Path::new("/"), Path::new(KEPT))
}

fn id_under(root: &Path, kept: &Path) -> Result<String> {
    if let Some((source, serial)) = firmware_serial(root) {
        return Ok(hash(source, &serial));
    }
    if let Some(id) = fs::read_to_string(kept).ok().map(|t| t.trim().to_owned()).filter(|t| t.len() == 64) {
        return Ok(id);
    }
    let mac = permanent_mac(root).ok_or_else(|| Error::Missing {
        what: "this board has no serial number and no network card yet".into(),
        help: "Plug in the network adapter. A node's name is bound to its board, so the board must be told from others.",
    })?;
    let id = hash("mac", &mac);
    // STATE may not be mounted yet; the card's address gives the same id again.
    let _ = crate::files::replace(kept, format!("{id}\n").as_bytes());
    Ok(id)
}

fn firmware_serial(root: &Path) -> Option<(&'static str, String)> {
    [
        ("device-tree", "proc/device-tree/serial-number"),
        ("dmi-uuid", "sys/class/dmi/id/product_uuid"),
        ("dmi-serial", "sys/class/dmi/id/product_serial"),
    ]
    .into_iter()
    .find_map(|(source, path)| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        let serial = text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_ascii_lowercase();
        is_serial(&serial).then_some((source, serial))
    })
}

fn is_serial(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let uniform = digits.first().is_some_and(|first| matches!(first, '0' | 'f') && digits.iter().all(|c| c == first));
    !uniform && !PLACEHOLDERS.contains(&text)
}

/// The burnt-in address of the first network card by name.
fn permanent_mac(root: &Path) -> Option<String> {
    let directory = root.join("sys/class/net");
    let mut names: Vec<_> = fs::read_dir(&directory).ok()?.flatten().map(|e| e.file_name()).collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let read = |file: &str| fs::read_to_string(directory.join(&name).join(file)).ok().map(|t| t.trim().to_owned());
        let real =
            read("addr_assign_type")? == "0" && read("type")? == "1" && directory.join(&name).join("device").exists();
        read("address").filter(|mac| real && is_serial(&mac.replace(':', "")))
    })
}

fn hash(source: &str, serial: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"kiln-board\0");
    hasher.update(source.as_bytes());
    hasher.update(b"\0");
    hasher.update(serial.as_bytes());
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn the_device_trees_serial_comes_first() {
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), "proc/device-tree/serial-number", "10000000abcdef01\0");
        write(root.path(), "sys/class/dmi/id/product_uuid", "11111111-2222-3333-4444-555555555555\n");
        let kept = root.path().join("kept");
        assert_eq!(id_under(root.path(), &kept).expect("an id"), hash("device-tree", "10000000abcdef01"));
        assert!(!kept.exists(), "a serial needs no memory");
    }

    #[test]
    fn placeholders_are_no_serial_and_the_card_counts() {
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), "sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
        write(root.path(), "sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n");
        write(root.path(), "sys/class/net/eth0/addr_assign_type", "0\n");
        write(root.path(), "sys/class/net/eth0/type", "1\n");
        write(root.path(), "sys/class/net/eth0/address", "52:54:00:12:34:56\n");
        write(root.path(), "sys/class/net/eth0/device/uevent", "");
        let kept = root.path().join("kept");
        let id = id_under(root.path(), &kept).expect("an id");
        assert_eq!(id, hash("mac", "52:54:00:12:34:56"));
        fs::remove_dir_all(root.path().join("sys/class/net")).expect("unplugged");
        assert_eq!(id_under(root.path(), &kept).expect("kept"), id);
    }

    #[test]
    fn a_board_without_anything_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        assert!(id_under(root.path(), &root.path().join("kept")).is_err());
    }
}
