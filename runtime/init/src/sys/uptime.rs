//! Time since the kernel started, the only clock that can be trusted before there is a time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the kernel started, suspend included.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
