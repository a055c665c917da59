//! The architectures Kiln runs on, and each one's names in the worlds it appears in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An architecture, by the name the kernel's `uname -m` and our files use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with hardware floating point (Debian's `armhf`).
    Armv7,
    /// 64-bit PC.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Arch; 3] = [Arch::Aarch64, Arch::Armv7, Arch::X86_64];

    /// The name used in our own files and listings.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64",
            Arch::Armv7 => "armv7",
            Arch::X86_64 => "x86_64",
        }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::Aarch64 => "arm64",
            Arch::Armv7 => "armhf",
            Arch::X86_64 => "amd64",
        }
    }

    /// The Rust target of the static runtime.
    pub fn rust_target(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64-unknown-linux-musl",
            Arch::Armv7 => "armv7-unknown-linux-musleabihf",
            Arch::X86_64 => "x86_64-unknown-linux-musl",
        }
    }

    /// The suffix of QEMU's system emulator (`qemu-system-…`).
    pub fn qemu(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64",
            Arch::Armv7 => "arm",
            Arch::X86_64 => "x86_64",
        }
    }

    /// Kubernetes' and Go's name, as in the label `kubernetes.io/arch`.
    pub fn kubernetes(self) -> &'static str {
        match self {
            Arch::Aarch64 => "arm64",
            Arch::Armv7 => "arm",
            Arch::X86_64 => "amd64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
