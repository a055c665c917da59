//! The kernel command line: which disk, slot and root hash the boot loader chose.

use crate::error::{Error, Result};

/// How the boot disk is told from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DiskId {
    /// The 32-bit signature at byte 440 of an MBR.
    Mbr(u32),
    /// The GUID in a GPT header, lower case with hyphens.
    Gpt(String),
}

impl std::fmt::Display for DiskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mbr(signature) => write!(f, "{signature:08x}"),
            Self::Gpt(guid) => f.write_str(guid),
        }
    }
}

/// One of the two system slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Partition 2.
    A,
    /// Partition 3.
    B,
}

impl Slot {
    /// The slot's partition number.
    pub(crate) fn partition(self) -> u32 {
        match self {
            Self::A => 2,
            Self::B => 3,
        }
    }
}

/// The `kiln.*` parameters of the boot contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BootParams {
    /// `kiln.disk`.
    pub(crate) disk: DiskId,
    /// `kiln.slot`.
    pub(crate) slot: Slot,
    /// `kiln.roothash`: 64 lower-case hex digits.
    pub(crate) root_hash: String,
    /// `kiln.hashoffset`: where the verity superblock starts in root.squashfs, in bytes.
    pub(crate) hash_offset: u64,
}

impl BootParams {
    /// Reads `/proc/cmdline`.
    pub(crate) fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/cmdline").map_err(|e| Error::io("read", "/proc/cmdline", e))?;
        Self::parse(&text)
    }

    /// Parses a command line; a missing or wrong parameter is named.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let disk = value(text, "kiln.disk")?;
        let slot = match value(text, "kiln.slot")? {
            "a" => Slot::A,
            "b" => Slot::B,
            other => return Err(wrong("kiln.slot", other, "must be a or b")),
        };
        let root_hash = value(text, "kiln.roothash")?;
        if root_hash.len() != 64 || !root_hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("kiln.roothash", root_hash, "must be 64 hex digits"));
        }
        let offset = value(text, "kiln.hashoffset")?;
        let hash_offset = offset.parse().map_err(|_| wrong("kiln.hashoffset", offset, "must be a number of bytes"))?;
        Ok(Self { disk: disk_id(disk)?, slot, root_hash: root_hash.to_ascii_lowercase(), hash_offset })
    }
}

fn disk_id(text: &str) -> Result<DiskId> {
    if text.len() == 8
        && let Ok(signature) = u32::from_str_radix(text, 16)
    {
        return Ok(DiskId::Mbr(signature));
    }
    if text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
        return Ok(DiskId::Gpt(text.to_ascii_lowercase()));
    }
    Err(wrong("kiln.disk", text, "must be an MBR signature (8 hex digits) or a GPT disk GUID"))
}

/// The value of `key=`; the last one wins, as in the kernel.
fn value<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    text.split_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).ok_or_else(|| {
        Error::Missing {
            what: format!("the kernel command line has no {key}="),
            help: "cmdline.txt in the slot (or the boot loader's entry) was changed. Flash the card anew.",
        }
    })
}

fn wrong(key: &str, value: &str, why: &str) -> Error {
    Error::malformed(format!("kernel command line {key}={value}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_full_command_line_names_disk_slot_and_hash() {
        let text = format!(
            "console=ttyS0 panic=10 ro kiln.disk=1A2b3c4d kiln.slot=b kiln.roothash={HASH} kiln.hashoffset=4096\n"
        );
        let params = BootParams::parse(&text).expect("valid");
        assert_eq!(params.disk, DiskId::Mbr(0x1a2b_3c4d));
        assert_eq!(params.slot.partition(), 3);
        assert_eq!(params.hash_offset, 4096);
        assert_eq!(params.root_hash, HASH);
    }

    #[test]
    fn a_guid_is_compared_in_lower_case() {
        let text = format!(
            "kiln.disk=ABCDEF00-1111-2222-3333-444455556666 kiln.slot=a kiln.roothash={HASH} kiln.hashoffset=1"
        );
        assert_eq!(BootParams::parse(&text).expect("valid").disk.to_string(), "abcdef00-1111-2222-3333-444455556666");
    }

    #[test]
    fn a_missing_or_wrong_parameter_is_named() {
        let missing = BootParams::parse("kiln.slot=a").expect_err("no disk");
        assert!(missing.to_string().contains("kiln.disk"));
        let text = format!("kiln.disk=00000001 kiln.slot=c kiln.roothash={HASH} kiln.hashoffset=1");
        assert!(BootParams::parse(&text).expect_err("slot").to_string().contains("must be a or b"));
    }
}
