//! Threads of PID 1: few, with small stacks, and a panic in one restarts its loop instead of losing it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::console::say;
use crate::error::{Error, Result};

const STACK: usize = 256 * 1024;

/// Runs `body` on a thread; after a panic it runs again (the panic hook has told where), at most once a second.
pub(crate) fn spawn(name: &'static str, mut body: impl FnMut() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(move || {
            while catch_unwind(AssertUnwindSafe(&mut body)).is_err() {
                say!("the {name} thread starts over");
                std::thread::sleep(Duration::from_secs(1));
            }
        })
        .map(|_| ())
        .map_err(|e| Error::io("start the thread", name, e))
}
