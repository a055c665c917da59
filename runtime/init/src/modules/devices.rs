//! What devices the kernel has found: the `MODALIAS` of everything on a bus.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

/// Reads the devices below `sys` (that is `/sys`) that are not in `seen`, and adds them to it.
///
/// The `uevent` file is what a program gets that was not there when the device came; a `modalias` file beside it is missing
/// for memory cards and inputs. A device that goes away meanwhile has none to read.
pub(super) fn scan(sys: &Path, seen: &mut HashSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let buses = fs::read_dir(sys.join("bus")).into_iter().flatten().flatten().map(|bus| bus.path().join("devices"));
    // Inputs are a class and not a bus, but have aliases.
    for directory in buses.chain([sys.join("class/input")]) {
        for device in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = device.path();
            let key = path.to_string_lossy().into_owned();
            if seen.contains(&key) {
                continue;
            }
            if let Ok(text) = fs::read_to_string(path.join("uevent")) {
                found.extend(text.lines().filter_map(|line| line.strip_prefix("MODALIAS=")).map(str::to_owned));
                seen.insert(key);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(sys: &Path, path: &str, uevent: &str) {
        fs::create_dir_all(sys.join(path)).expect("a directory");
        fs::write(sys.join(path).join("uevent"), uevent).expect("a file");
    }

    #[test]
    fn each_device_is_told_once_with_all_its_aliases() {
        let sys = tempfile::tempdir().expect("a directory");
        let mut seen = HashSet::new();
        device(sys.path(), "bus/mmc/devices/mmc0:1234", "MMC_TYPE=SD\nMODALIAS=mmc:block\n");
        device(sys.path(), "bus/platform/devices/gpio", "MODALIAS=of:NgpioTxCa\nMODALIAS=acpi:X:\n");
        device(sys.path(), "bus/cpu/devices/cpu0", "");
        device(sys.path(), "class/input/input0", "PRODUCT=19/0/1/0\nMODALIAS=input:b0019v0000\n");
        let first: Vec<_> = scan(sys.path(), &mut seen).into_iter().collect();
        assert_eq!(first, ["acpi:X:", "input:b0019v0000", "mmc:block", "of:NgpioTxCa"]);
        device(sys.path(), "bus/usb/devices/1-1", "MODALIAS=usb:v0525pA4A2\n");
        assert_eq!(scan(sys.path(), &mut seen).into_iter().collect::<Vec<_>>(), ["usb:v0525pA4A2"]);
        assert!(scan(sys.path(), &mut seen).is_empty());
    }

    #[test]
    fn a_kernel_without_sysfs_has_no_devices() {
        assert!(scan(Path::new("/nonexistent"), &mut HashSet::new()).is_empty());
    }
}
