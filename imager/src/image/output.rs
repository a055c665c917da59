//! Files of a build that appear whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::{ImageError, fat::FatError};

/// Compression level of the compressed image. Its content is compressed already, so a higher one only takes longer.
const ZSTD_LEVEL: i32 = 10;

/// A file under a temporary name beside its own; dropped before [`Partial::commit`], it is removed. The name is fixed,
/// so that what a killed build left is overwritten by the next.
#[derive(Debug)]
pub(super) struct Partial {
    file: Option<Flock<File>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// Starts the file `path`, whose directory is made if need be.
    pub(super) fn create(path: &Path) -> Result<Partial, ImageError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(ImageError::io("creating", directory))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.partial"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&temporary)
            .map_err(ImageError::io("creating", &temporary))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| ImageError::Busy { path: path.to_owned() })?;
        file.set_len(0).map_err(ImageError::io("writing", &temporary))?;
        Ok(Partial { file: Some(file), temporary, path: path.to_owned() })
    }

    /// A handle to the file.
    pub(super) fn handle(&self) -> Result<File, ImageError> {
        let duplicate = match &self.file {
            Some(file) => file.try_clone(),
            None => Err(io::Error::other("the file is finished")),
        };
        duplicate.map_err(ImageError::io("opening", &self.temporary))
    }

    /// Writes the file to the disk and gives it its name.
    pub(super) fn commit(mut self) -> Result<(), ImageError> {
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(ImageError::io("writing", &self.path))?;
            if let Err(error) = fs::rename(&self.temporary, &self.path) {
                let _ = fs::remove_file(&self.temporary);
                return Err(ImageError::io("renaming", &self.temporary)(error));
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a small file whole.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let partial = Partial::create(path)?;
    partial.handle()?.write_all(bytes).map_err(ImageError::io("writing", path))?;
    partial.commit()
}

/// Writes a file whole that may be run.
pub(crate) fn write_program(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let partial = Partial::create(path)?;
    let mut file = partial.handle()?;
    file.write_all(bytes).map_err(ImageError::io("writing", path))?;
    file.set_permissions(fs::Permissions::from_mode(0o755)).map_err(ImageError::io("writing", path))?;
    partial.commit()
}

/// The same error with the disk being full told apart.
pub(super) fn storage_full(error: FatError, path: &Path) -> ImageError {
    match error {
        FatError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            ImageError::NoSpace { doing: "writing", path: path.to_owned() }
        }
        other => ImageError::Fat(other),
    }
}

/// Size and SHA-256 of a file that was written.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    /// Bytes.
    pub(crate) size: u64,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: String,
}

impl Summary {
    /// That of bytes in memory.
    pub(crate) fn of(bytes: &[u8]) -> Summary {
        Summary { size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
    }
}

/// Hashes an image and, if asked to, compresses it into `out`; both at once.
///
/// # Errors
/// Either file fails.
pub(super) fn hash_and_compress(
    image: &File,
    length: u64,
    out: Option<File>,
    advance: &(dyn Fn(u64) + Sync),
) -> io::Result<(Summary, Option<Summary>)> {
    thread::scope(|scope| {
        let hashing = scope.spawn(|| {
            let mut hash = Sha256::new();
            copy(image, length, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            Ok::<_, io::Error>(Summary { size: length, sha256: hex::encode(hash.finalize()) })
        });
        let compressed = out.map(|out| compress(image, length, out, advance)).transpose();
        let plain = hashing.join().map_err(|_| io::Error::other("the hashing thread failed"))??;
        Ok((plain, compressed?))
    })
}

fn compress(image: &File, length: u64, out: File, advance: &(dyn Fn(u64) + Sync)) -> io::Result<Summary> {
    let mut encoder = zstd::Encoder::new(Hashed { out, hash: Sha256::new(), size: 0 }, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(length))?;
    // The bytes depend on there being workers, not on how many: jobs are cut by size.
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u32).clamp(1, 16);
    encoder.multithread(workers)?;
    copy(image, length, &mut |bytes| {
        advance(bytes.len() as u64);
        encoder.write_all(bytes)
    })?;
    let mut done = encoder.finish()?;
    done.out.flush()?;
    Ok(Summary { size: done.size, sha256: hex::encode(done.hash.finalize()) })
}

/// Reads a file from its start without moving anyone's position in it.
fn copy(file: &File, length: u64, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let count = buffer.len().min((length - at) as usize);
        file.read_exact_at(&mut buffer[..count], at)?;
        take(&buffer[..count])?;
        at += count as u64;
    }
    Ok(())
}

struct Hashed {
    out: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// It cannot be read.
pub(super) fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_committed_leaves_nothing() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("a.img");
        let partial = Partial::create(&path).expect("create");
        partial.handle().expect("handle").write_all(b"half").expect("write");
        assert!(matches!(Partial::create(&path), Err(ImageError::Busy { .. })));
        drop(partial);
        assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 0);
    }

    #[test]
    fn what_a_killed_build_left_is_overwritten() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("a.img");
        fs::write(directory.path().join(".a.img.partial"), "left by a build that was killed").expect("write");
        write(&path, b"whole").expect("write");
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_full_disk_is_reported_as_such() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let error =
            (&full).write_all(b"x").map_err(ImageError::io("writing", "a.img")).expect_err("the device is full");
        assert!(matches!(&error, ImageError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space left"), "{error}");
    }
}
