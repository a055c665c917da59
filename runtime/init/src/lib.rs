//! PID 1 of a Kiln node: from the kernel's first exec to a supervised cluster service.
//!
//! The same binary is `/init` of the initramfs (stage 1: find the disk, verify and mount the root, switch to it) and then
//! the root's init (stage 2: phases, supervision, shutdown). Flows in: the kernel command line, `/etc/kiln`, CONFIG, device
//! and link events, what the service says on its notify socket. Flows out: mounts, addresses, the clock, the running
//! service, console lines, `join-status.txt`, the boot report. It knows nothing of Kubernetes and nothing of how an image
//! is built. Synchronous code with a few small threads: PID 1 lives as long as the node and must stay small.

mod backoff;
mod board;
mod clock;
mod cmdline;
mod config;
mod console;
mod disk;
mod error;
mod files;
mod image;
mod initramfs;
mod modules;
mod network;
mod phases;
mod random;
mod report;
mod services;
mod shutdown;
mod state;
mod sys;
mod system;
mod thread;

use std::path::Path;

/// Whether this process is the system's init (PID 1), so that [`main`] must take over.
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Runs PID 1. It never returns: a failed phase is told on the console and retried.
pub fn main() -> ! {
    console::show_panics();
    if Path::new(initramfs::MODULES).exists() { initramfs::run() } else { system::run() }
}
