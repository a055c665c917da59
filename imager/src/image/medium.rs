//! Images and cards as things to read and write at an offset, and windows onto their partitions.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Size of the blocks that a block map speaks of, bytes.
pub const BLOCK: u64 = 4096;

/// Something read and written at offsets: an image file, a card, or a file while it becomes an image.
pub trait Medium {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// The medium ends before, or cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// No space, or the medium cannot be written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl Medium for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

impl Medium for &File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
}

impl<M: Medium + ?Sized> Medium for &mut M {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_at(bytes, offset)
    }
}

/// A sparse image file that remembers which blocks were written, so that its block map depends on the content alone and
/// not on how the host's file system stores holes.
#[derive(Debug)]
pub struct SparseFile {
    file: File,
    blocks: Vec<u64>,
    length: u64,
}

impl SparseFile {
    /// Takes an empty file and gives it a length in bytes.
    ///
    /// # Errors
    /// The file system does not allow a file of that size.
    pub fn new(file: File, length: u64) -> io::Result<Self> {
        file.set_len(length)?;
        let words = length.div_ceil(BLOCK).div_ceil(64) as usize;
        Ok(SparseFile { file, blocks: vec![0; words], length })
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The written blocks as ranges of block numbers, first and last inclusive, ascending.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for block in 0..self.length.div_ceil(BLOCK) {
            if self.blocks[(block / 64) as usize] >> (block % 64) & 1 == 0 {
                continue;
            }
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == block => *last = block,
                _ => ranges.push((block, block)),
            }
        }
        ranges
    }
}

impl Medium for SparseFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset + bytes.len() as u64;
        if end > self.length {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "write beyond the end of the image"));
        }
        self.file.write_all_at(bytes, offset)?;
        for block in offset / BLOCK..=(end - 1) / BLOCK {
            self.blocks[(block / 64) as usize] |= 1 << (block % 64);
        }
        Ok(())
    }
}

/// A part of a medium with offsets of its own, which is what a file system wants.
#[derive(Debug)]
pub struct Window<M> {
    medium: M,
    start: u64,
    length: u64,
}

impl<M: Medium> Window<M> {
    /// The `length` bytes of `medium` from `start`.
    pub fn new(medium: M, start: u64, length: u64) -> Self {
        Window { medium, start, length }
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from `offset` of the window.
    ///
    /// # Errors
    /// The window ends before, or the medium cannot be read.
    pub fn get(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        self.medium.read_at(buffer, self.start + offset)
    }

    /// Writes `bytes` at `offset` of the window.
    ///
    /// # Errors
    /// The window ends before, or the medium cannot be written.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        self.medium.write_at(bytes, self.start + offset)
    }

    fn check(&self, offset: u64, count: usize) -> io::Result<()> {
        match offset.checked_add(count as u64) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the partition")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_blocks_become_ranges_whatever_the_bytes_are() {
        let mut file = SparseFile::new(tempfile::tempfile().expect("temp file"), 100 * BLOCK).expect("sparse");
        file.write_at(&[0; 10], 0).expect("write");
        file.write_at(&[1; 4097], 3 * BLOCK).expect("write");
        file.write_at(&[1], 100 * BLOCK - 1).expect("write");
        assert_eq!(file.ranges(), [(0, 0), (3, 4), (99, 99)]);
        assert!(file.write_at(&[1, 1], 100 * BLOCK - 1).is_err());
    }

    #[test]
    fn a_window_ends_where_its_partition_ends() {
        let mut file = SparseFile::new(tempfile::tempfile().expect("temp file"), 4 * BLOCK).expect("sparse");
        let mut window = Window::new(&mut file, BLOCK, BLOCK);
        window.put(BLOCK - 2, &[7; 2]).expect("write");
        assert!(window.put(BLOCK - 2, &[7; 3]).is_err());
        assert!(window.get(u64::MAX, &mut [0]).is_err());
        assert_eq!(file.ranges(), [(1, 1)]);
    }
}
