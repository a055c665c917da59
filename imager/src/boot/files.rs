//! The small files around a kernel: what the firmware, the boot loader and the kernel read as text.

use std::collections::BTreeMap;

use crate::{
    profile::{Boot, BootKind, Copy},
    rootfs::{RootfsError, matching},
    tree::{Content, Tree},
};

/// Files of a partition, by absolute path.
type Files = BTreeMap<String, Content>;

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The letter in names and on the command line.
    pub fn letter(self) -> char {
        match self {
            Slot::A => 'a',
            Slot::B => 'b',
        }
    }

    /// The number of its partition, from 1.
    pub fn partition(self) -> u32 {
        match self {
            Slot::A => 2,
            Slot::B => 3,
        }
    }
}

/// The kernel command line of a slot.
///
/// `disk` is the MBR signature in eight hexadecimal digits, or the GPT's disk GUID.
pub fn cmdline(boot: &Boot, disk: &str, slot: Slot, root_hash: &str, hash_offset: u64) -> String {
    format!(
        "{} panic=10 ro kiln.disk={disk} kiln.slot={} kiln.roothash={root_hash} kiln.hashoffset={hash_offset} cgroup_enable=memory",
        boot.cmdline.split_whitespace().collect::<Vec<_>>().join(" "),
        slot.letter(),
    )
}

/// What the boot kind itself needs in a slot, beside kernel, initramfs and root.
pub fn slot_files(boot: &Boot, cmdline: &str) -> Files {
    let mut files = Files::new();
    files.insert("/cmdline.txt".to_owned(), line(cmdline));
    if let Some(text) = &boot.config_txt {
        files.insert("/config.txt".to_owned(), Content::from(text.as_str()));
    }
    files
}

/// What the boot kind itself needs on the first partition. The kernel and initramfs go there too for UEFI, since its
/// loader reads only the partition it was started from.
pub fn config_files(boot: &Boot, slot: Slot, cmdline: &str, kernel: &Content, initramfs: &Content) -> Files {
    let mut files = Files::new();
    match boot.kind {
        BootKind::Pi => {
            let text = format!(
                "[all]\ntryboot_a_b=1\nboot_partition={}\n[tryboot]\nboot_partition={}\n",
                Slot::A.partition(),
                Slot::B.partition()
            );
            files.insert("/autoboot.txt".to_owned(), Content::from(text.as_str()));
        }
        BootKind::Uefi => {
            let letter = slot.letter();
            files.insert(
                "/loader/loader.conf".to_owned(),
                Content::from(format!("default kiln-{letter}.conf\ntimeout 0\neditor no\n").as_str()),
            );
            let entry = format!(
                "title Kiln, slot {letter}\nlinux /kiln/{letter}/vmlinuz\ninitrd /kiln/{letter}/initramfs.zst\noptions {cmdline}\n"
            );
            files.insert(format!("/loader/entries/kiln-{letter}.conf"), Content::from(entry.as_str()));
            files.insert(format!("/kiln/{letter}/vmlinuz"), kernel.clone());
            files.insert(format!("/kiln/{letter}/initramfs.zst"), initramfs.clone());
        }
        BootKind::Direct => {}
    }
    files
}

/// The files that copy rules take from the unpacked boot packages.
///
/// # Errors
/// [`RootfsError::NothingToCopy`] for a rule that matches nothing.
pub fn copied(rules: &[Copy], packages: &Tree, kernel_version: &str) -> Result<Files, RootfsError> {
    let mut files = Files::new();
    for rule in rules {
        for path in matching(packages, &rule.from.replace("{kernel}", kernel_version))? {
            let to = match (rule.to.ends_with('/'), path.rsplit('/').next()) {
                (true, Some(name)) => format!("{}{name}", rule.to),
                _ => rule.to.clone(),
            };
            if let Some(content) = packages.content(&path) {
                files.insert(to, content.clone());
            }
        }
    }
    Ok(files)
}

fn line(text: &str) -> Content {
    Content::from(format!("{text}\n").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(kind: BootKind) -> Boot {
        Boot {
            kind,
            cmdline: "console=ttyS0  quiet\n".into(),
            config_txt: None,
            slot_files: Vec::new(),
            config_files: Vec::new(),
        }
    }

    #[test]
    fn the_command_line_pins_disk_slot_and_root() {
        assert_eq!(
            cmdline(&boot(BootKind::Direct), "1a2b3c4d", Slot::A, "ff00", 8192),
            "console=ttyS0 quiet panic=10 ro kiln.disk=1a2b3c4d kiln.slot=a kiln.roothash=ff00 kiln.hashoffset=8192 cgroup_enable=memory"
        );
    }

    #[test]
    fn a_uefi_slot_is_an_entry_of_the_loader_with_its_own_kernel() {
        let (kernel, initramfs) = (Content::from("k"), Content::from("i"));
        let files = config_files(&boot(BootKind::Uefi), Slot::A, "quiet", &kernel, &initramfs);
        let entry = files["/loader/entries/kiln-a.conf"].read().expect("in memory").into_owned();
        assert!(String::from_utf8_lossy(&entry).contains("options quiet\n"));
        assert!(files.contains_key("/kiln/a/vmlinuz"));
    }

    #[test]
    fn copy_rules_expand_patterns_and_the_kernels_version() {
        let mut tree = Tree::default();
        tree.file("/usr/lib/linux-image-6.1/broadcom/bcm2711-rpi-4-b.dtb", 0o644, "4b");
        tree.file("/usr/lib/linux-image-6.1/broadcom/bcm2711-rpi-400.dtb", 0o644, "400");
        let rule =
            |to: &str| Copy { from: "/usr/lib/linux-image-{kernel}/broadcom/bcm2711-*.dtb".into(), to: to.into() };
        let files = copied(&[rule("/")], &tree, "6.1").expect("two match");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["/bcm2711-rpi-4-b.dtb", "/bcm2711-rpi-400.dtb"]);
        assert!(copied(&[rule("/")], &tree, "6.2").is_err());
    }
}
