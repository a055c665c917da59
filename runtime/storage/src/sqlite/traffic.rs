//! What the database writes to the disk, counted where it happens: a commit appends frames to the WAL, and a checkpoint
//! writes each page that they hold to the database file once.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// Bytes of a page, as set when the file is created.
pub(super) const PAGE: u64 = 4096;
/// Bytes before each page in the WAL; the first four are the page's number.
pub(super) const FRAME_HEADER: u64 = 24;
/// Bytes at the beginning of the WAL.
pub(super) const WAL_HEADER: u64 = 32;
/// The WAL is moved into the database when it has this many frames: 4 MB.
const CHECKPOINT_FRAMES: u64 = 1_000;

thread_local! {
    /// Frames in the WAL after this thread's last commit: SQLite's hook can be given no state of its own.
    static FRAMES: Cell<u64> = const { Cell::new(0) };
}

/// Lets [`Traffic`] see the connection's commits, on whichever thread they are made.
pub(super) fn observe(connection: &Connection) {
    connection.wal_hook(Some(|_, frames| {
        FRAMES.set(u64::try_from(frames).unwrap_or(0));
        Ok(())
    }));
}

/// The count of one connection.
pub(super) struct Traffic {
    wal: PathBuf,
    frames: u64,
    bytes: u64,
}

impl Traffic {
    /// Of a database for which so many bytes were written already.
    pub(super) fn new(database: &Path, written: u64) -> Self {
        Self { wal: super::wal::path(database), frames: 0, bytes: written }
    }

    /// To be called after each commit, on the same thread.
    pub(super) fn committed(&mut self) {
        let frames = FRAMES.replace(0);
        if frames == 0 {
            return;
        }
        if frames < self.frames || self.frames == 0 {
            // The WAL began anew.
            self.frames = 0;
            self.bytes += WAL_HEADER;
        }
        self.bytes += (frames - self.frames) * (FRAME_HEADER + PAGE);
        self.frames = frames;
    }

    pub(super) fn checkpoint_is_due(&self) -> bool {
        self.frames >= CHECKPOINT_FRAMES
    }

    /// To be called after a checkpoint of a WAL with so many frames. `complete`: all of them were moved, and the next
    /// commit begins the WAL anew.
    pub(super) fn checkpointed(&mut self, frames: u64, complete: bool) {
        // If the WAL cannot be read, each frame counts as a page of its own.
        self.bytes += distinct_pages(&self.wal, frames).unwrap_or(frames) * PAGE;
        self.frames = if complete { 0 } else { frames };
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn distinct_pages(wal: &Path, frames: u64) -> io::Result<u64> {
    // Closing this drops no lock of SQLite's: those are on the database file.
    let file = File::open(wal)?;
    let mut pages = HashSet::new();
    for frame in 0..frames {
        let mut number = [0; 4];
        file.read_exact_at(&mut number, WAL_HEADER + frame * (FRAME_HEADER + PAGE))?;
        pages.insert(number);
    }
    Ok(pages.len() as u64)
}
