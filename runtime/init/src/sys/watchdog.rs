//! The hardware watchdog: fed from the main loop, so that a hung PID 1 resets the board.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

nix::ioctl_readwrite!(wdioc_settimeout, b'W', 6, i32);
nix::ioctl_read!(wdioc_gettimeout, b'W', 7, i32);

/// What we ask for; a Pi's watchdog can do at most 15 s, others more.
const WISH: i32 = 30;

/// An armed watchdog. Dropping it without [`Watchdog::disarm`] lets the board reset.
#[derive(Debug)]
pub(crate) struct Watchdog {
    file: File,
    /// How often it must be fed: half of its timeout.
    pub(crate) interval: Duration,
}

impl Watchdog {
    /// Arms `/dev/watchdog0` if the board has one.
    pub(crate) fn open() -> Option<Self> {
        let file = OpenOptions::new().write(true).open("/dev/watchdog0").ok()?;
        let mut seconds = WISH;
        // SAFETY: the kernel reads and writes one int, which outlives the call.
        if unsafe { wdioc_settimeout(file.as_raw_fd(), &raw mut seconds) }.is_err() {
            // SAFETY: as above.
            let _ = unsafe { wdioc_gettimeout(file.as_raw_fd(), &raw mut seconds) };
        }
        let seconds = u64::try_from(seconds).unwrap_or(10).max(2);
        Some(Self { file, interval: Duration::from_millis(seconds * 500) })
    }

    /// Restarts the countdown.
    pub(crate) fn feed(&mut self) {
        let _ = self.file.write_all(b".");
    }

    /// Stops it where the hardware permits (the "magic close").
    pub(crate) fn disarm(mut self) {
        let _ = self.file.write_all(b"V");
    }
}
