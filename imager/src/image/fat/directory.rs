//! Directory entries, with the long names that every system since 1995 reads.

use std::io;

use jiff::{Timestamp, tz::TimeZone};

use super::table::{Place, Volume};
use crate::image::medium::Medium;

const ENTRY: usize = 32;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;
const FREE: u8 = 0xe5;
/// Where the thirteen UTF-16 units of a piece of a long name lie.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_directory: bool,
    /// First cluster; 0 of an empty file, and of the root.
    pub(super) cluster: u32,
    /// Bytes; 0 of a directory.
    pub(super) size: u32,
}

/// An entry and where it stands: the first of its slots, and how many it has.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: Entry,
    at: usize,
    slots: usize,
    short: [u8; 11],
}

/// A date and a time of day as FAT has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    date: u16,
    time: u16,
}

/// Seconds since 1970 as a stamp in UTC, in steps of two seconds, within FAT's years 1980 to 2107.
pub(super) fn stamp(seconds: i64) -> Stamp {
    let stamp = Timestamp::from_second(seconds.clamp(315_532_800, 4_354_819_198)).unwrap_or_default();
    let civil = stamp.to_zoned(TimeZone::UTC).datetime();
    let bits = |value: i8| u16::from(value.unsigned_abs());
    Stamp {
        date: (civil.year().unsigned_abs().saturating_sub(1980) << 9) | (bits(civil.month()) << 5) | bits(civil.day()),
        time: (bits(civil.hour()) << 11) | (bits(civil.minute()) << 5) | (bits(civil.second()) / 2),
    }
}

/// The files and directories of a directory, without `.`, `..` and the label.
pub(super) fn entries<M: Medium>(volume: &Volume<M>, place: Place) -> io::Result<Vec<Entry>> {
    Ok(scan(&volume.directory(place)?).into_iter().map(|found| found.entry).collect())
}

/// The entry of that name; case does not matter.
pub(super) fn find<M: Medium>(volume: &Volume<M>, place: Place, name: &str) -> io::Result<Option<Found>> {
    let wanted = name.to_lowercase();
    let same =
        |found: &Found| found.entry.name.to_lowercase() == wanted || short_text(&found.short).to_lowercase() == wanted;
    Ok(scan(&volume.directory(place)?).into_iter().find(same))
}

/// The label in the root directory.
pub(super) fn label<M: Medium>(volume: &Volume<M>) -> Option<String> {
    let bytes = volume.directory(volume.root()).ok()?;
    let slot = bytes
        .chunks_exact(ENTRY)
        .take_while(|slot| slot[0] != 0)
        .find(|slot| slot[0] != FREE && slot[11] & 0x3f == LABEL)?;
    Some(String::from_utf8_lossy(&slot[..11]).trim_end().to_owned())
}

/// Opens a directory of `place`, made if it is not there.
pub(super) fn enter<M: Medium>(volume: &mut Volume<M>, place: Place, name: &str, stamp: Stamp) -> io::Result<Place> {
    match find(volume, place, name)? {
        Some(found) if found.entry.is_directory => return Ok(volume.place(found.entry.cluster)),
        Some(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{name} is a file"))),
        None => {}
    }
    let mut bytes = vec![0; volume.cluster_size() as usize];
    let first = volume.store(&bytes)?;
    let parent = match place {
        Place::Chain(cluster) if place != volume.root() => cluster,
        _ => 0,
    };
    for (slot, (dots, cluster)) in bytes.chunks_exact_mut(ENTRY).zip([(".", first), ("..", parent)]) {
        let mut short = [b' '; 11];
        short[..dots.len()].copy_from_slice(dots.as_bytes());
        slot.copy_from_slice(&record(&short, DIRECTORY, cluster, 0, stamp));
    }
    volume.store_directory(Place::Chain(first), &bytes)?;
    let entry = Entry { name: name.to_owned(), is_directory: true, cluster: first, size: 0 };
    put(volume, place, &entry, stamp)?;
    Ok(Place::Chain(first))
}

/// Writes an entry over the one of its name, or into free slots.
pub(super) fn put<M: Medium>(volume: &mut Volume<M>, place: Place, entry: &Entry, stamp: Stamp) -> io::Result<()> {
    let attributes = if entry.is_directory { DIRECTORY } else { ARCHIVE };
    let mut bytes = volume.directory(place)?;
    if let Some(old) = find(volume, place, &entry.name)? {
        let at = (old.at + old.slots - 1) * ENTRY;
        bytes[at..at + ENTRY].copy_from_slice(&record(&old.short, attributes, entry.cluster, entry.size, stamp));
        return volume.store_directory(place, &bytes);
    }
    let taken: Vec<[u8; 11]> = scan(&bytes).into_iter().map(|found| found.short).collect();
    let (short, exact) = short_name(&entry.name, &taken)?;
    let mut slots = if exact { Vec::new() } else { long_name(&entry.name, &short)? };
    slots.push(record(&short, attributes, entry.cluster, entry.size, stamp));
    let at = room(&bytes, slots.len()) * ENTRY;
    let end = at + slots.len() * ENTRY;
    if end > bytes.len() {
        bytes.resize((end as u64).next_multiple_of(volume.cluster_size()) as usize, 0);
    }
    for (to, slot) in bytes[at..end].chunks_exact_mut(ENTRY).zip(slots) {
        to.copy_from_slice(&slot);
    }
    volume.store_directory(place, &bytes)
}

/// Frees an entry's slots.
pub(super) fn erase<M: Medium>(volume: &mut Volume<M>, place: Place, found: &Found) -> io::Result<()> {
    let mut bytes = volume.directory(place)?;
    for slot in bytes.chunks_exact_mut(ENTRY).skip(found.at).take(found.slots) {
        slot[0] = FREE;
    }
    volume.store_directory(place, &bytes)
}

/// The number of the first slot of `count` free ones in a row; beyond the end if there are none.
fn room(bytes: &[u8], count: usize) -> usize {
    let mut start = 0;
    for (index, slot) in bytes.chunks_exact(ENTRY).enumerate() {
        if slot[0] == 0 {
            return start;
        }
        if slot[0] != FREE {
            start = index + 1;
        } else if index + 1 - start == count {
            return start;
        }
    }
    start
}

fn scan(bytes: &[u8]) -> Vec<Found> {
    let mut all = Vec::new();
    // The pieces of a long name precede its entry, the last piece first.
    let mut long: Vec<u16> = Vec::new();
    let mut pieces = 0;
    let mut checksum = 0;
    for (index, slot) in bytes.chunks_exact(ENTRY).enumerate() {
        if slot[0] == 0 {
            break;
        }
        if slot[0] == FREE {
            pieces = 0;
            continue;
        }
        if slot[11] & 0x3f == LONG_NAME {
            if slot[0] & 0x40 != 0 {
                long.clear();
                pieces = 0;
                checksum = slot[13];
            }
            let units = UNITS.iter().map(|at| u16::from_le_bytes([slot[*at], slot[*at + 1]]));
            long.splice(..0, units);
            pieces += 1;
            continue;
        }
        let slots = std::mem::take(&mut pieces) + 1;
        let mut short = [0; 11];
        short.copy_from_slice(&slot[..11]);
        if slot[11] & LABEL != 0 || slot[0] == b'.' {
            continue;
        }
        let is_long = slots > 1 && checksum == short_checksum(&short);
        let name = if is_long {
            let end = long.iter().position(|unit| *unit == 0).unwrap_or(long.len());
            String::from_utf16_lossy(&long[..end])
        } else {
            short_text(&short)
        };
        let two = |at: usize| u32::from(u16::from_le_bytes([slot[at], slot[at + 1]]));
        let entry = Entry {
            name,
            is_directory: slot[11] & DIRECTORY != 0,
            cluster: (two(20) << 16) | two(26),
            size: two(28) | (two(30) << 16),
        };
        // Pieces that belong to no entry stay where they are.
        let slots = if is_long { slots } else { 1 };
        all.push(Found { entry, at: index + 1 - slots, slots, short });
    }
    all
}

fn record(short: &[u8; 11], attributes: u8, cluster: u32, size: u32, stamp: Stamp) -> [u8; ENTRY] {
    let mut slot = [0; ENTRY];
    slot[..11].copy_from_slice(short);
    slot[11] = attributes;
    let (high, low) = ((cluster >> 16) as u16, cluster as u16);
    for (at, value) in [
        (14, stamp.time),
        (16, stamp.date),
        (18, stamp.date),
        (20, high),
        (22, stamp.time),
        (24, stamp.date),
        (26, low),
    ] {
        slot[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    slot[28..].copy_from_slice(&size.to_le_bytes());
    slot
}

fn short_text(short: &[u8; 11]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (base, extension) = (part(&short[..8]), part(&short[8..]));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

fn short_checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// A short name for `name` that is not among `taken`, and whether it says the same as `name`.
fn short_name(name: &str, taken: &[[u8; 11]]) -> io::Result<([u8; 11], bool)> {
    let bad = |c: char| c < ' ' || "\"*/:<>?\\|".contains(c);
    if name.is_empty() || name == "." || name == ".." || name.contains(bad) || name.ends_with([' ', '.']) {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, format!("`{name}` cannot be a name in FAT")));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(c);
    let clean = |text: &str| -> String {
        text.chars()
            .filter(|c| *c != ' ' && *c != '.')
            .map(|c| if legal(c) { c.to_ascii_uppercase() } else { '_' })
            .collect()
    };
    let (base, extension) = match name.rsplit_once('.') {
        Some((base, extension)) if !base.is_empty() => (base, extension),
        _ => (name, ""),
    };
    let (short_base, short_extension) = (clean(base), clean(extension));
    let build = |base: &str| {
        let mut short = [b' '; 11];
        for (to, from) in short[..8].iter_mut().zip(base.bytes()) {
            *to = from;
        }
        for (to, from) in short[8..].iter_mut().zip(short_extension.bytes()) {
            *to = from;
        }
        short
    };
    let plain = build(&short_base);
    // Lower case is kept in the long name, so a name like `config.txt` has both.
    let fits = short_text(&plain) == name.to_ascii_uppercase();
    if fits && !taken.contains(&plain) {
        return Ok((plain, short_text(&plain) == name));
    }
    for number in 1..1_000_000u32 {
        let tail = format!("~{number}");
        let kept: String = short_base.chars().take(8 - tail.len()).collect();
        let short = build(&format!("{kept}{tail}"));
        if !taken.contains(&short) {
            return Ok((short, false));
        }
    }
    Err(io::Error::new(io::ErrorKind::StorageFull, "no short name is left"))
}

/// The slots of a long name, in the order they stand in: the last piece first.
fn long_name(name: &str, short: &[u8; 11]) -> io::Result<Vec<[u8; ENTRY]>> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if units.len() > 255 {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "a name has at most 255 characters"));
    }
    if !units.len().is_multiple_of(UNITS.len()) {
        units.push(0);
        units.resize(units.len().next_multiple_of(UNITS.len()), 0xffff);
    }
    let count = units.len() / UNITS.len();
    let checksum = short_checksum(short);
    let piece = |(index, part): (usize, &[u16])| {
        let mut slot = [0; ENTRY];
        slot[0] = (index as u8 + 1) | if index + 1 == count { 0x40 } else { 0 };
        slot[11] = LONG_NAME;
        slot[13] = checksum;
        for (at, unit) in UNITS.iter().zip(part) {
            slot[*at..*at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        slot
    };
    Ok(units.chunks_exact(UNITS.len()).enumerate().map(piece).rev().collect())
}
