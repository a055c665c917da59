//! The system console: one plain line per fact, never half a line.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Prints a line to the console with the `kiln: ` prefix that people and tests look for.
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::line(&format!($($arg)*)) };
}
pub(crate) use say;

/// Prints `kiln: ` and the text as one write, so that lines of several threads do not mix.
pub(crate) fn line(text: &str) {
    raw(&format!("kiln: {text}\n"));
}

/// Writes text as it is. A console that cannot be written to is no reason to fail.
pub(crate) fn raw(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Makes `/dev/console` the process's standard streams; needed after `/dev` was mounted or moved, since the
/// streams that the kernel opened belong to the initramfs's own device node.
pub(crate) fn reopen() {
    let options = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/console");
    if let Ok(console) = options {
        for target in 0..=2 {
            duplicate(console.as_raw_fd(), target);
        }
    }
}

#[allow(unsafe_code)]
fn duplicate(from: i32, to: i32) {
    // SAFETY: dup2 on two descriptor numbers touches no memory; 0 to 2 are never owned by a Rust object here.
    unsafe { libc::dup2(from, to) };
}

/// Prints panics of any thread on the console, with their place; the thread's loop then goes on.
pub(crate) fn show_panics() {
    std::panic::set_hook(Box::new(|info| say!("internal error: {info}")));
}
