//! The `[qemu]` table of a board file: how QEMU imitates the board.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How QEMU imitates a board. Everything that differs between boards is here, so that the code which runs QEMU names
/// none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// The emulator's program: `qemu-system-aarch64`.
    pub system: String,
    /// The Debian package that has it, named to a person who lacks it: `qemu-system-arm`.
    pub package: String,
    /// The first QEMU version (`9.0`) that has the machine; absent when any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    /// The `-machine` argument, options included: `raspi4b`, `virt,gic-version=3`.
    pub machine: String,
    /// The `-cpu` argument; absent when the machine brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The `-smp` argument; absent when the machine has a fixed number of cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u8>,
    /// Memory when `--memory` is not given, as QEMU writes it: `1G`, `512M`.
    pub memory: String,
    /// The machine's memory cannot be chosen (Raspberry Pi machines), so `--memory` is refused unless it says the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed_memory: bool,
    /// Which of the machine's serial ports the kernel's console is on, from 0.
    #[serde(default)]
    pub console_serial: u8,
    /// How the image is attached.
    pub disk: Disk,
    /// How network cards are attached.
    pub nic: Nic,
    /// Further `-device` arguments: `virtio-rng-pci`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// The machine has a power button that a guest hears (ACPI, or gpio-keys), so that Ctrl-C can ask it to shut down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub power_button: bool,
    /// How the machine starts.
    pub boot: Boot,
    /// `direct` only: the device tree's file name in the slot; absent when the machine makes its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtb: Option<String>,
    /// `direct` only: appended to the image's kernel command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub append: String,
    /// `uefi` only: firmware to look for on the host, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<Firmware>,
    /// The Debian package that has the firmware: `ovmf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_package: Option<String>,
    /// Edits to the device tree, in order. They make up for devices that QEMU lacks, are made to a copy, and never ship.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dtb_edits: Vec<DtbEdit>,
}

/// How the image is attached to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// virtio on PCI.
    VirtioBlkPci,
    /// virtio on the machine's memory bus.
    VirtioBlkDevice,
    /// The SD card slot. QEMU wants a card whose size is a power of two.
    Sd,
}

/// How network cards are attached to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// virtio on PCI.
    VirtioNetPci,
    /// virtio on the machine's memory bus.
    VirtioNetDevice,
    /// A USB CDC Ethernet adapter, for boards whose own network card QEMU lacks.
    UsbNet,
}

/// How the machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// QEMU loads the kernel, initramfs and device tree that are in the image's slot.
    Direct,
    /// Firmware finds the boot loader in the image by itself.
    Uefi,
}

/// A pair of UEFI firmware files on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The code, mapped read-only: `/usr/share/OVMF/OVMF_CODE_4M.fd`.
    pub code: PathBuf,
    /// The template of the variables; each run has its own copy.
    pub vars: PathBuf,
}

/// Edits to one node of a device tree. A node that is absent makes them do nothing, so that one list serves several
/// kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DtbEdit {
    /// The node's full path: `/soc/mmc@7e300000`.
    pub node: String,
    /// Set its `status` to `disabled`, so that the kernel does not look for the device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable: bool,
    /// Take it away with all below it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove: bool,
    /// Take these properties away: `vmmc-supply`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Add these properties, without a value: `broken-cd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}
