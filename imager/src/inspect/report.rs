//! Everything that `imager inspect` tells.

use std::path::PathBuf;

use kiln_node_config::NodeConfig;
use serde::Serialize;

use super::{
    About, Card, CardError, about,
    settings::{self, masked},
    slots::active_slot,
};
use crate::{
    image::{partition::DiskId, reader::Part},
    profile::Table,
};

/// What an image or card is and holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// The image or device.
    pub image: PathBuf,
    /// Bytes.
    pub size: u64,
    /// What it is; absent when it does not say.
    pub about: Option<About>,
    /// The kind of partition table.
    pub table: Table,
    /// The MBR's signature or the GPT's GUID.
    pub disk_id: String,
    /// The partitions in their order.
    pub partitions: Vec<PartitionReport>,
    /// The system slots.
    pub slots: Vec<SlotReport>,
    /// What `node.toml` says, the token masked.
    pub settings: SettingsReport,
}

/// A partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// Number, from 1.
    pub number: u32,
    /// Name.
    pub name: &'static str,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes taken by files; absent where there is no FAT.
    pub used: Option<u64>,
}

/// A system slot.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotReport {
    /// `a` or `b`.
    pub name: &'static str,
    /// Whether the board starts this one.
    pub active: bool,
    /// The root hash on its kernel command line; absent when the slot is empty.
    pub root_hash: Option<String>,
    /// Bytes of the root's data, before its hash tree.
    pub hash_offset: Option<u64>,
    /// Its kernel command line.
    pub cmdline: Option<String>,
    /// Its files.
    pub files: Vec<FileReport>,
}

/// A file of a slot.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Path from the partition's root.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// The settings on a card.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum SettingsReport {
    /// There is no `node.toml`.
    Absent,
    /// There is one that a node would take.
    Valid {
        /// What it says. Serialises with its token masked.
        config: Box<NodeConfig>,
    },
    /// There is one that a node would refuse.
    Invalid {
        /// Why, with line and column.
        error: String,
    },
}

/// Reads an image or card.
///
/// # Errors
/// [`CardError`] when a partition cannot be read.
pub fn report(card: &Card) -> Result<ImageReport, CardError> {
    let active = active_slot(card)?;
    let mut partitions = Vec::new();
    for part in Part::ALL {
        let partition = card.partition(part)?;
        let used = match part {
            Part::State => None,
            _ => {
                let space = card.fat(part)?.space();
                space.ok().map(|(size, free)| size.saturating_sub(free))
            }
        };
        partitions.push(PartitionReport {
            number: part.number(),
            name: part.label(),
            start: partition.start,
            size: partition.length,
            used,
        });
    }
    Ok(ImageReport {
        image: card.path().to_owned(),
        size: card.size(),
        about: about::about(card)?,
        table: match card.id() {
            DiskId::Mbr(_) => Table::Mbr,
            DiskId::Gpt(_) => Table::Gpt,
        },
        disk_id: card.id().to_string(),
        partitions,
        slots: vec![slot(card, "a", Part::SlotA, active)?, slot(card, "b", Part::SlotB, active)?],
        settings: read_settings(card)?,
    })
}

fn slot(card: &Card, name: &'static str, part: Part, active: Part) -> Result<SlotReport, CardError> {
    let cmdline = cmdline(card, part)?;
    let argument = |key: &str| cmdline.as_deref().and_then(|line| argument(line, key)).map(str::to_owned);
    Ok(SlotReport {
        name,
        active: part == active,
        root_hash: argument("kiln.roothash"),
        hash_offset: argument("kiln.hashoffset").and_then(|text| text.parse().ok()),
        files: card.list(part)?.into_iter().map(|(path, size)| FileReport { path, size }).collect(),
        cmdline,
    })
}

/// A slot's kernel command line.
///
/// # Errors
/// [`CardError`] when the slot cannot be read.
pub(super) fn cmdline(card: &Card, part: Part) -> Result<Option<String>, CardError> {
    let bytes = card.read_if_there(part, "/cmdline.txt")?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// The value of `key=value` on a kernel command line; the last one counts.
pub(super) fn argument<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    cmdline.split_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn read_settings(card: &Card) -> Result<SettingsReport, CardError> {
    let Some(text) = settings::text(card)? else { return Ok(SettingsReport::Absent) };
    Ok(match NodeConfig::parse(&text, "node.toml") {
        Ok(config) => SettingsReport::Valid { config: Box::new(config) },
        Err(error) => SettingsReport::Invalid { error: masked(&error.to_string()) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_argument_of_a_command_line_counts() {
        let line = "console=tty0 console=ttyS1,115200 kiln.slot=a kiln.slotted=x";
        assert_eq!(argument(line, "console"), Some("ttyS1,115200"));
        assert_eq!(argument(line, "kiln.slot"), Some("a"));
        assert_eq!(argument(line, "kiln"), None);
    }
}
