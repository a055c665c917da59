//! Writing and reading back.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{BlockMap, FlashError, Target, bmap::Range};
use crate::{
    image::reader::Part,
    inspect::card::Card,
    progress::{Progress, Step},
};

const CHUNK: usize = 1 << 20;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The device.
    pub device: PathBuf,
    /// Bytes of the image.
    pub image_size: u64,
    /// Bytes that were written, and read back.
    pub written: u64,
    /// Whether a block map said what to write.
    pub block_map: bool,
}

/// Writes an image to a device that was looked at and found good, and reads it back. `map` as [`BlockMap::beside`] has
/// it, or `None` to write all of the image.
///
/// # Errors
/// [`FlashError::Refused`] for objections unless `force`, [`FlashError::TooSmall`] in any case; whatever goes wrong later
/// leaves a device that does not boot.
pub fn flash(
    image: &Path,
    map: Option<BlockMap>,
    target: &Target,
    force: bool,
    progress: &Progress,
) -> Result<Report, FlashError> {
    if !force && !target.objections.is_empty() {
        return Err(FlashError::Refused { device: target.path.clone(), objections: target.objections.clone() });
    }
    let block_map = map.is_some();
    let map = match map {
        Some(map) => map,
        None => BlockMap::whole(image_size(image)?),
    };
    if let Some(size) = target.size
        && size < map.image_size
    {
        return Err(FlashError::TooSmall { device: target.path.clone(), size, needed: map.image_size });
    }
    let mut source = Source::open(image, map.image_size)?;
    let mut device = open(target, map.image_size, force)?;

    let step = progress.bytes("write", Some(map.mapped()));
    let mut sums = Vec::with_capacity(map.ranges.len());
    for range in &map.ranges {
        sums.push(copy(&mut source, &mut device, range, &target.path, &step)?);
    }
    clear_old_state(&map, &mut device, &target.path)?;
    device.sync_all().map_err(FlashError::io("write", &target.path))?;
    step.done(&megabytes(map.mapped()));

    // What is still in the page cache would prove nothing about the device.
    posix_fadvise(device.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|error| FlashError::io("read", &target.path)(error.into()))?;
    let step = progress.bytes("read back", Some(map.mapped()));
    for (range, sum) in map.ranges.iter().zip(sums) {
        let mut hash = Sha256::new();
        let failed = FlashError::io("read", &target.path);
        device.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        chunks(&mut device, range.end - range.start, |chunk| {
            hash.update(chunk);
            step.inc(chunk.len() as u64);
            Ok(())
        })
        .map_err(FlashError::io("read", &target.path))?;
        if hash.finalize().as_slice() != sum {
            return Err(FlashError::ReadBack { device: target.path.clone(), start: range.start, end: range.end });
        }
    }
    step.done("the device holds the image");
    Ok(Report { device: target.path.clone(), image_size: map.image_size, written: map.mapped(), block_map })
}

/// The image as a stream that only goes forward.
struct Source {
    path: PathBuf,
    reader: Box<dyn Read>,
    at: u64,
    size: u64,
}

impl Source {
    fn open(path: &Path, size: u64) -> Result<Self, FlashError> {
        Ok(Self { path: path.to_owned(), reader: reader(path)?, at: 0, size })
    }

    /// Moves to `offset` and passes `length` bytes on in chunks.
    fn pass(
        &mut self,
        offset: u64,
        length: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), FlashError>,
    ) -> Result<(), FlashError> {
        let mut failure = None;
        let skip = offset - self.at;
        let result = chunks(&mut self.reader, skip, |_| Ok(())).and_then(|()| {
            chunks(&mut self.reader, length, |chunk| {
                each(chunk).map_err(|error| {
                    failure = Some(error);
                    io::ErrorKind::Other.into()
                })
            })
        });
        self.at = offset + length;
        match (failure, result) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let size = image_size(&self.path)?;
                Err(FlashError::ImageShort { image: self.path.clone(), size, expected: self.size })
            }
            (None, result) => result.map_err(FlashError::io("read", &self.path)),
        }
    }
}

/// The image's bytes, unpacked if need be.
fn reader(path: &Path) -> Result<Box<dyn Read>, FlashError> {
    let file = File::open(path).map_err(FlashError::io("open", path))?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        let decoder = zstd::Decoder::new(file).map_err(FlashError::io("unpack", path))?;
        Ok(Box::new(decoder))
    } else {
        Ok(Box::new(file))
    }
}

/// Bytes of the image; for a packed one they are counted.
fn image_size(path: &Path) -> Result<u64, FlashError> {
    io::copy(&mut reader(path)?, &mut io::sink()).map_err(FlashError::io("read", path))
}

fn open(target: &Target, image_size: u64, force: bool) -> Result<File, FlashError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match target.size {
        // A plain file becomes the image, whatever it was.
        None => {
            options.create(true).truncate(true);
        }
        // On a block device O_EXCL fails while anything holds it: a mount, swap, RAID, an encrypted volume.
        Some(_) if !force => {
            options.custom_flags(nix::libc::O_EXCL);
        }
        Some(_) => {}
    }
    let file = options.open(&target.path).map_err(FlashError::io("open", &target.path))?;
    if target.size.is_none() {
        file.set_len(image_size).map_err(FlashError::io("write", &target.path))?;
    }
    Ok(file)
}

/// Copies one range and gives the SHA-256 of what was copied, which is what the map says if it says one.
fn copy(
    source: &mut Source,
    device: &mut File,
    range: &Range,
    path: &Path,
    step: &Step,
) -> Result<[u8; 32], FlashError> {
    let mut hash = Sha256::new();
    device.seek(SeekFrom::Start(range.start)).map_err(FlashError::io("write", path))?;
    source.pass(range.start, range.end - range.start, |chunk| {
        hash.update(chunk);
        device.write_all(chunk).map_err(FlashError::io("write", path))?;
        step.inc(chunk.len() as u64);
        Ok(())
    })?;
    let sum: [u8; 32] = hash.finalize().into();
    match &range.sha256 {
        Some(expected) if *expected != hex::encode(sum) => {
            Err(FlashError::ImageDiffers { image: source.path.clone(), start: range.start, end: range.end })
        }
        _ => Ok(sum),
    }
}

/// Zeroes what the map leaves out of STATE: a card that was a node before would else bring the old node's data, with
/// its credentials, into the new one.
fn clear_old_state(map: &BlockMap, device: &mut File, path: &Path) -> Result<(), FlashError> {
    device.flush().map_err(FlashError::io("write", path))?;
    // An image of something else has no STATE to clear.
    let Ok(card) = Card::open(path) else { return Ok(()) };
    let Ok(state) = card.partition(Part::State) else { return Ok(()) };
    let zeros = vec![0; CHUNK];
    for (mut start, end) in map.gaps(state.start, state.start + state.length) {
        device.seek(SeekFrom::Start(start)).map_err(FlashError::io("write", path))?;
        while start < end {
            let length = zeros.len().min(usize::try_from(end - start).unwrap_or(zeros.len()));
            device.write_all(&zeros[..length]).map_err(FlashError::io("write", path))?;
            start += length as u64;
        }
    }
    Ok(())
}

/// Reads exactly `length` bytes and passes them on.
fn chunks(reader: &mut impl Read, length: u64, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK))];
    let mut left = length;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(buffer.len()));
        reader.read_exact(&mut buffer[..want])?;
        each(&buffer[..want])?;
        left -= want as u64;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::{Objection, bmap::tests::written};
    use std::fs;

    const SIZE: usize = 5 * 4096;

    /// An image of five blocks of which the second and the last have data, with its map.
    fn image(directory: &Path) -> (PathBuf, BlockMap) {
        let mut bytes = vec![0; SIZE];
        bytes[4096..8192].fill(7);
        bytes[16_384..].fill(9);
        let sum = |range: std::ops::Range<usize>| hex::encode(Sha256::digest(&bytes[range]));
        let map = written(SIZE as u64, &[(1, 1, &sum(4096..8192)), (4, 4, &sum(16_384..SIZE))]);
        let path = directory.join("kiln-x.img");
        fs::write(&path, &bytes).expect("written");
        fs::write(directory.join("kiln-x.bmap"), map).expect("written");
        let map = BlockMap::beside(&path).expect("valid").expect("there");
        (path, map)
    }

    fn target(path: &Path) -> Target {
        Target { path: path.to_owned(), size: None, model: None, objections: vec![Objection::PlainFile] }
    }

    #[test]
    fn only_mapped_blocks_are_written_and_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let (image, map) = image(directory.path());
        let card = directory.path().join("card");
        let report = flash(&image, Some(map), &target(&card), true, &Progress::hidden()).expect("flashed");
        assert_eq!((report.written, report.block_map), (8192, true));
        assert_eq!(fs::read(&card).expect("a card"), fs::read(&image).expect("an image"));
    }

    #[test]
    fn a_packed_image_is_unpacked_on_the_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let (image, map) = image(directory.path());
        let bytes = fs::read(&image).expect("an image");
        let packed = directory.path().join("kiln-x.img.zst");
        fs::write(&packed, zstd::encode_all(&bytes[..], 3).expect("packed")).expect("written");
        let card = directory.path().join("card");
        flash(&packed, Some(map), &target(&card), true, &Progress::hidden()).expect("flashed");
        assert_eq!(fs::read(&card).expect("a card"), bytes);
        flash(&packed, None, &target(&card), true, &Progress::hidden()).expect("flashed");
        assert_eq!(fs::read(&card).expect("a card"), bytes);
    }

    #[test]
    fn an_image_that_is_not_its_maps_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let (image, map) = image(directory.path());
        fs::write(&image, vec![1; SIZE]).expect("written");
        let error =
            flash(&image, Some(map.clone()), &target(&directory.path().join("card")), true, &Progress::hidden());
        assert!(matches!(error, Err(FlashError::ImageDiffers { start: 4096, end: 8192, .. })), "{error:?}");
        fs::write(&image, vec![1; 4096]).expect("written");
        let error = flash(&image, Some(map), &target(&directory.path().join("card")), true, &Progress::hidden());
        assert!(matches!(error, Err(FlashError::ImageShort { size: 4096, expected: 20_480, .. })), "{error:?}");
    }

    #[test]
    fn objections_stop_and_a_small_device_stops_even_with_force() {
        let directory = tempfile::tempdir().expect("a directory");
        let (image, map) = image(directory.path());
        let card = directory.path().join("card");
        let refused = flash(&image, Some(map.clone()), &target(&card), false, &Progress::hidden());
        assert!(matches!(refused, Err(FlashError::Refused { .. })), "{refused:?}");
        let small = Target { size: Some(4096), ..target(&card) };
        let refused = flash(&image, Some(map), &small, true, &Progress::hidden());
        assert!(matches!(refused, Err(FlashError::TooSmall { size: 4096, .. })), "{refused:?}");
        assert!(!card.exists());
    }
}
