//! `manifest.json`: what went into an image and what came out, for people and for `imager verify`.

use serde::Serialize;

use super::{
    layout::{FileEntry, Written},
    output::Summary,
    verity::Verity,
};
use crate::{packages::Pin, profile::Profile};

/// The manifest's content; it holds no path, user or time of the machine that built.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<'a> {
    schema: u32,
    board: &'a str,
    version: &'a str,
    /// Seconds since 1970: the time every file carries.
    time: i64,
    kernel: &'a str,
    image: Output,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed: Option<Output>,
    /// Bytes of the image that are not holes.
    written: u64,
    disk: Disk,
    slots: Vec<SlotInfo<'a>>,
    config: &'a [FileEntry],
    runtime: Runtime<'a>,
    packages: &'a [Pin],
    profile: &'a Profile,
}

#[derive(Debug, Serialize)]
struct Output {
    file: String,
    size: u64,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct Disk {
    table: crate::profile::Table,
    id: String,
    partitions: Vec<PartitionInfo>,
}

#[derive(Debug, Serialize)]
struct PartitionInfo {
    number: u32,
    name: String,
    start: u64,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SlotInfo<'a> {
    name: &'a str,
    partition: u32,
    verity: Option<&'a Verity>,
    cmdline: Option<&'a str>,
    files: &'a [FileEntry],
}

/// The runtime in an image.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Runtime<'a> {
    /// SHA-256 of the binary, hexadecimal.
    pub(crate) sha256: &'a str,
    /// Bytes.
    pub(crate) size: u64,
    /// What compiled it.
    pub(crate) toolchain: &'a str,
}

/// What a manifest is made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The resolved profile.
    pub(super) profile: &'a Profile,
    /// Time of every file, seconds since 1970.
    pub(super) time: i64,
    /// The kernel's version.
    pub(super) kernel: &'a str,
    /// Root hash and salt of slot A.
    pub(super) verity: &'a Verity,
    /// The written image.
    pub(super) written: &'a Written,
    /// Packages.
    pub(super) pins: &'a [Pin],
    /// The runtime.
    pub(super) runtime: Runtime<'a>,
    /// The image's file name and summary.
    pub(super) image: (&'a str, &'a Summary),
    /// The compressed image's.
    pub(super) compressed: Option<(&'a str, &'a Summary)>,
}

/// The manifest's text.
pub(super) fn render(facts: &Facts<'_>) -> Vec<u8> {
    let output = |(file, summary): (&str, &Summary)| Output {
        file: file.to_owned(),
        size: summary.size,
        sha256: summary.sha256.clone(),
    };
    let written = facts.written;
    let manifest = Manifest {
        schema: 1,
        board: &facts.profile.board,
        version: &facts.profile.version,
        time: facts.time,
        kernel: facts.kernel,
        image: output(facts.image),
        compressed: facts.compressed.map(output),
        written: written_bytes(written),
        disk: Disk {
            table: facts.profile.partitions.table,
            id: written.id.to_string(),
            partitions: written
                .partitions
                .iter()
                .map(|p| PartitionInfo { number: p.number, name: p.name.clone(), start: p.start, size: p.length })
                .collect(),
        },
        slots: vec![
            SlotInfo {
                name: "a",
                partition: 2,
                verity: Some(facts.verity),
                cmdline: Some(&written.cmdline),
                files: &written.slot,
            },
            SlotInfo { name: "b", partition: 3, verity: None, cmdline: None, files: &[] },
        ],
        config: &written.config,
        runtime: facts.runtime.clone(),
        packages: facts.pins,
        profile: facts.profile,
    };
    let mut text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Bytes of an image that are not holes.
pub(super) fn written_bytes(written: &Written) -> u64 {
    written.file.ranges().iter().map(|(first, last)| (last - first + 1) * super::medium::BLOCK).sum()
}
