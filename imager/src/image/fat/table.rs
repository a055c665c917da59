//! The volume: its geometry, its allocation table, and chains of clusters.

use std::io::{self, Write};

use super::format::info_sector;
use crate::image::medium::{Medium, Window};

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;

/// Where a directory's entries lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// FAT16's root, which has a fixed size.
    FixedRoot,
    /// A chain that starts at this cluster.
    Chain(u32),
}

/// A file system with its allocation table in memory.
pub(super) struct Volume<M> {
    window: Window<M>,
    wide: bool,
    cluster: u64,
    fat_start: u64,
    fat_length: u64,
    fats: u64,
    root_start: u64,
    root_length: u64,
    data_start: u64,
    root_cluster: u32,
    info_sector: u64,
    /// The next cluster of each; 0 is free, and the first two are not clusters.
    next: Vec<u32>,
    free: u32,
    changed: bool,
}

fn damaged(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl<M: Medium> Volume<M> {
    pub(super) fn open(window: Window<M>) -> io::Result<Self> {
        let mut boot = [0u8; SECTOR as usize];
        window.get(0, &mut boot)?;
        let two = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let four = |at: usize| two(at) | two(at + 2) << 16;
        if boot[510..] != [0x55, 0xaa]
            || two(11) != SECTOR
            || !boot[13].is_power_of_two()
            || !(1..=2).contains(&boot[16])
        {
            return Err(damaged("its first sector describes none"));
        }
        let cluster = u64::from(boot[13]) * SECTOR;
        let pick = |small: u64, large: u64| if small == 0 { large } else { small };
        let fat_length = pick(two(22), four(36)) * SECTOR;
        let sectors = pick(two(19), four(32));
        let (fat_start, fats) = (two(14) * SECTOR, u64::from(boot[16]));
        let root_start = fat_start + fats * fat_length;
        let root_length = (two(17) * 32).next_multiple_of(SECTOR);
        let data_start = root_start + root_length;
        let clusters =
            (sectors * SECTOR).checked_sub(data_start).ok_or_else(|| damaged("its sizes contradict"))? / cluster;
        if clusters < 4085 {
            return Err(damaged("FAT12 is not supported"));
        }
        let wide = clusters >= 65_525;
        let entry = if wide { 4 } else { 2 };
        if sectors * SECTOR > window.length() || (clusters + 2) * entry > fat_length || fat_start == 0 {
            return Err(damaged("it is larger than its partition"));
        }
        let mut raw = vec![0; ((clusters + 2) * entry) as usize];
        window.get(fat_start, &mut raw)?;
        let next: Vec<u32> = if wide {
            raw.chunks_exact(4).map(|e| u32::from_le_bytes([e[0], e[1], e[2], e[3]]) & 0x0fff_ffff).collect()
        } else {
            // The two highest values mean the same in both widths.
            raw.chunks_exact(2)
                .map(|e| u32::from(u16::from_le_bytes([e[0], e[1]])))
                .map(|n| if n >= 0xfff7 { n | 0x0fff_0000 } else { n })
                .collect()
        };
        let free = next.iter().skip(2).filter(|n| **n == 0).count() as u32;
        let (root_cluster, info) = if wide { (four(44) as u32, two(48)) } else { (0, 0) };
        let info_sector = if info == 0xffff { 0 } else { info };
        Ok(Volume {
            window,
            wide,
            cluster,
            fat_start,
            fat_length,
            fats,
            root_start,
            root_length,
            data_start,
            root_cluster,
            info_sector,
            next,
            free,
            changed: false,
        })
    }

    pub(super) fn root(&self) -> Place {
        if self.wide { Place::Chain(self.root_cluster) } else { Place::FixedRoot }
    }

    /// The directory whose entry names `cluster`; zero means the root.
    pub(super) fn place(&self, cluster: u32) -> Place {
        if cluster == 0 { self.root() } else { Place::Chain(cluster) }
    }

    pub(super) fn cluster_size(&self) -> u64 {
        self.cluster
    }

    pub(super) fn clusters(&self) -> u32 {
        self.next.len() as u32 - 2
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// The clusters of a chain in order. A damaged chain ends where the damage is, or is an error if it has a loop.
    fn chain(&self, first: u32) -> io::Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut at = first;
        while at >= 2 && (at as usize) < self.next.len() {
            if chain.len() > self.next.len() {
                return Err(damaged("a chain of clusters runs in a circle"));
            }
            chain.push(at);
            at = self.next[at as usize];
        }
        Ok(chain)
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data_start + u64::from(cluster - 2) * self.cluster
    }

    /// A chain as runs of neighbouring clusters: byte offset and length.
    fn runs(&self, chain: &[u32]) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for cluster in chain {
            let at = self.offset(*cluster);
            match runs.last_mut() {
                Some((start, length)) if *start + *length == at => *length += self.cluster,
                _ => runs.push((at, self.cluster)),
            }
        }
        runs
    }

    /// Copies `size` bytes of the chain at `first` to `out`.
    pub(super) fn copy_out(&self, first: u32, size: u64, out: &mut dyn Write) -> io::Result<()> {
        let mut left = size;
        let mut buffer = vec![0; 256 * 1024];
        for (start, length) in self.runs(&self.chain(first)?) {
            let mut at = start;
            while at < start + length && left > 0 {
                let count = (buffer.len() as u64).min(start + length - at).min(left);
                let part = &mut buffer[..count as usize];
                self.window.get(at, part)?;
                out.write_all(part)?;
                at += count;
                left -= count;
            }
        }
        if left > 0 {
            return Err(damaged("a file is shorter than its entry says"));
        }
        Ok(())
    }

    /// The bytes of a directory.
    pub(super) fn directory(&self, place: Place) -> io::Result<Vec<u8>> {
        match place {
            Place::FixedRoot => {
                let mut bytes = vec![0; self.root_length as usize];
                self.window.get(self.root_start, &mut bytes)?;
                Ok(bytes)
            }
            Place::Chain(first) => {
                let chain = self.chain(first)?;
                if chain.len() as u64 * self.cluster > 16 << 20 {
                    return Err(damaged("a directory is larger than any should be"));
                }
                let mut bytes = Vec::new();
                self.copy_out(first, chain.len() as u64 * self.cluster, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Writes a directory's bytes back; they may be more than they were.
    pub(super) fn store_directory(&mut self, place: Place, bytes: &[u8]) -> io::Result<()> {
        let first = match place {
            Place::FixedRoot if bytes.len() as u64 <= self.root_length => {
                return self.window.put(self.root_start, bytes);
            }
            Place::FixedRoot => return Err(io::Error::new(io::ErrorKind::StorageFull, "the root directory is full")),
            Place::Chain(first) => first,
        };
        let mut chain = self.chain(first)?;
        let have = chain.len() as u64;
        let need = (bytes.len() as u64).div_ceil(self.cluster);
        if need > have {
            let more = self.allocate(need - have)?;
            if let (Some(last), Some(next)) = (chain.last(), more.first()) {
                self.next[*last as usize] = *next;
            }
            chain.extend(more);
        }
        self.put_chain(&chain, bytes)
    }

    /// Writes bytes into a new chain and returns its first cluster, 0 for none.
    pub(super) fn store(&mut self, bytes: &[u8]) -> io::Result<u32> {
        let chain = self.allocate((bytes.len() as u64).div_ceil(self.cluster))?;
        self.put_chain(&chain, bytes)?;
        Ok(chain.first().copied().unwrap_or(0))
    }

    /// Writes bytes over a chain, and zeros to the end of its last cluster.
    fn put_chain(&mut self, chain: &[u32], bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        for (start, length) in self.runs(chain) {
            let (part, after) = rest.split_at(rest.len().min(length as usize));
            self.window.put(start, part)?;
            if (part.len() as u64) < length {
                self.window.put(start + part.len() as u64, &vec![0; (length - part.len() as u64) as usize])?;
            }
            rest = after;
        }
        Ok(())
    }

    /// Takes the first free clusters and chains them.
    fn allocate(&mut self, count: u64) -> io::Result<Vec<u32>> {
        if count > u64::from(self.free) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no free clusters"));
        }
        let found: Vec<u32> =
            (2..self.next.len() as u32).filter(|c| self.next[*c as usize] == 0).take(count as usize).collect();
        for (at, cluster) in found.iter().enumerate() {
            self.next[*cluster as usize] = found.get(at + 1).copied().unwrap_or(0x0fff_ffff);
        }
        self.free -= found.len() as u32;
        self.changed |= count > 0;
        Ok(found)
    }

    /// Frees a chain. Of a looped one, what can be reached.
    pub(super) fn release(&mut self, first: u32) {
        for cluster in self.chain(first).unwrap_or_default() {
            self.next[cluster as usize] = 0;
            self.free += 1;
            self.changed = true;
        }
    }

    /// Writes the tables and FAT32's note of free space.
    pub(super) fn close(mut self) -> io::Result<()> {
        if !self.changed && !self.wide {
            return Ok(());
        }
        if self.changed {
            let raw: Vec<u8> = if self.wide {
                self.next.iter().flat_map(|n| n.to_le_bytes()).collect()
            } else {
                self.next.iter().flat_map(|n| (*n as u16).to_le_bytes()).collect()
            };
            for table in 0..self.fats {
                self.window.put(self.fat_start + table * self.fat_length, &raw)?;
            }
        }
        if self.wide && self.info_sector > 0 {
            let next = self.next.iter().skip(2).position(|n| *n == 0).map_or(u32::MAX, |n| n as u32 + 2);
            let note = info_sector(self.free, next);
            let mut have = [0u8; SECTOR as usize];
            self.window.get(self.info_sector * SECTOR, &mut have)?;
            if have != note {
                self.window.put(self.info_sector * SECTOR, &note)?;
            }
        }
        Ok(())
    }
}
