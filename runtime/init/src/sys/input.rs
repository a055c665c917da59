//! The power button: a `KEY_POWER` press on any input device that has that key.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `struct input_event` starts with two longs of time, then type, code and value.
const TIME: usize = 2 * size_of::<libc::c_ulong>();
const EVENT: usize = TIME + 8;

/// An open input device with a power key.
#[derive(Debug)]
pub(crate) struct PowerButton {
    file: File,
    /// The node's name, such as `event0`.
    pub(crate) name: String,
}

impl PowerButton {
    /// Opens the device if it has a power key.
    pub(crate) fn open(name: &str) -> Option<Self> {
        let keys = std::fs::read_to_string(format!("/sys/class/input/{name}/device/capabilities/key")).ok()?;
        if !has_key(&keys, KEY_POWER) {
            return None;
        }
        let path = format!("/dev/input/{name}");
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
        Some(Self { file, name: name.to_owned() })
    }

    /// All devices with a power key.
    pub(crate) fn open_all() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/sys/class/input") else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.retain(|n| n.starts_with("event"));
        names.sort();
        names.iter().filter_map(|n| Self::open(n)).collect()
    }

    /// Reads what is waiting. `Ok(true)`: the button was pressed; an error: the device is gone.
    pub(crate) fn pressed(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0u8; EVENT * 32];
        match self.file.read(&mut buffer) {
            Ok(n) => Ok(has_press(&buffer[..n])),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether the bitmap that sysfs prints (hex words of a long, highest first) has this bit.
fn has_key(bitmap: &str, key: u16) -> bool {
    let bits = libc::c_ulong::BITS as usize;
    let word = bitmap.split_whitespace().rev().nth(usize::from(key) / bits);
    word.and_then(|w| u64::from_str_radix(w, 16).ok()).is_some_and(|w| w >> (usize::from(key) % bits) & 1 == 1)
}

fn has_press(events: &[u8]) -> bool {
    events.chunks_exact(EVENT).any(|event| {
        let body = &event[TIME..];
        let short = |at: usize| u16::from_ne_bytes([body[at], body[at + 1]]);
        short(0) == EV_KEY && short(2) == KEY_POWER && body[4..8] == 1i32.to_ne_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0u8; TIME];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        assert!(has_press(&[event(0, 0, 0), event(EV_KEY, KEY_POWER, 1)].concat()));
        assert!(!has_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!has_press(&event(EV_KEY, 30, 1)));
    }

    #[test]
    fn the_key_bitmap_of_an_acpi_button_has_the_power_key() {
        if cfg!(target_pointer_width = "64") {
            assert!(has_key("10000000000000 0", KEY_POWER));
            assert!(!has_key("1000000000000 0", KEY_POWER));
        }
        assert!(!has_key("0", KEY_POWER));
    }
}
