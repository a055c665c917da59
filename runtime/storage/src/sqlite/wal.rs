//! SQLite's log file next to the database: made at its full size, and looked over before SQLite reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::traffic::{FRAME_HEADER, PAGE, WAL_HEADER};

/// Bytes that the file has from the start: what it holds between checkpoints in ordinary use. A commit then overwrites
/// bytes that are there already, and the file system has nothing of its own to make durable with them, which is most of
/// what a commit of a growing file waits for. On a full disk there still is room for deletes.
const FULL_SIZE: u64 = 4 << 20;

/// The log file of a database.
pub(super) fn path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Makes the log at its full size, of zeros, if there is none. Answers the bytes written; on a disk without room the
/// log grows as it is used.
pub(super) fn preallocate(database: &Path) -> u64 {
    let path = path(database);
    match std::fs::metadata(&path) {
        Ok(found) if found.len() > 0 => return 0,
        _ => {}
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).and_then(|file| {
        let filled = io::copy(&mut io::repeat(0).take(FULL_SIZE), &mut &file).and_then(|_| file.sync_all());
        // A log without room to grow keeps nothing from others either.
        filled.or_else(|error| file.set_len(0).and(Err(error)))
    });
    match made {
        Ok(()) => FULL_SIZE,
        Err(error) => {
            tracing::warn!(%error, "the store's log can't be made at its full size; it grows as it is used");
            0
        }
    }
}

/// Lets the log, all of which is in the database, say nothing when it is opened next, and keep its size.
pub(super) fn clear(connection: &Connection, database: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path(database))?;
    if file.metadata()?.len() > 2 * FULL_SIZE {
        // SQLite empties it.
        return Ok(());
    }
    connection.pragma_update(None, "journal_size_limit", -1).map_err(io::Error::other)?;
    file.write_all_at(&[0; WAL_HEADER as usize], 0)?;
    file.sync_all()
}

/// Lets SQLite leave the log where it is, at its size, when the database is closed.
pub(super) fn keep(connection: &Connection) -> rusqlite::Result<()> {
    persist::set(connection)
}

#[allow(unsafe_code, reason = "rusqlite has no call for SQLite's file controls")]
mod persist {
    use rusqlite::{Connection, ffi};

    pub(super) fn set(connection: &Connection) -> rusqlite::Result<()> {
        let mut on: std::ffi::c_int = 1;
        // SAFETY: the handle is valid as long as the connection is borrowed; the name is a C string; this control reads
        // and writes one int.
        let code = unsafe {
            ffi::sqlite3_file_control(
                connection.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_PERSIST_WAL,
                (&raw mut on).cast(),
            )
        };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) }
    }
}

/// Looks for a commit that was on disk as a whole once, and is not any more: SQLite takes the first frame with a wrong
/// checksum for the torn end of a write that a power cut hit, and everything after it for never written. That is right
/// only for the last commit: the next one is not begun before the one before it is on disk.
///
/// Answers the number of the damaged frame.
pub(super) fn find_damage(database: &Path) -> io::Result<Option<u64>> {
    let mut file = match File::open(path(database)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut header = [0; WAL_HEADER as usize];
    if file.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let big_endian = match word(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        // Nothing was ever written, or the header was torn, which is written anew only when all is in the database.
        _ => return Ok(None),
    };
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(&header, 24), word(&header, 28)) || u64::from(word(&header, 8)) != PAGE {
        return Ok(None);
    }
    let salts = [word(&header, 16), word(&header, 20)];
    let mut frame = vec![0; (FRAME_HEADER + PAGE) as usize];
    let (mut number, mut damaged, mut committed) = (0, None, false);
    let mut input = io::BufReader::with_capacity(1 << 16, file);
    while input.read_exact(&mut frame).is_ok() {
        if [word(&frame, 8), word(&frame, 12)] == salts {
            if committed {
                return Ok(damaged);
            }
            if damaged.is_none() {
                sum = checksum(sum, &frame[..8], big_endian);
                sum = checksum(sum, &frame[FRAME_HEADER as usize..], big_endian);
                if sum != (word(&frame, 16), word(&frame, 20)) {
                    damaged = Some(number);
                }
            }
            // The last frame of a commit holds the database's size.
            committed = damaged.is_some() && word(&frame, 4) != 0;
        } else if damaged.is_none() {
            damaged = Some(number);
        }
        number += 1;
    }
    Ok(None)
}

/// SQLite's running checksum over pairs of words.
fn checksum((mut a, mut b): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let bytes = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
            if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        a = a.wrapping_add(word(0)).wrapping_add(b);
        b = b.wrapping_add(word(4)).wrapping_add(a);
    }
    (a, b)
}
