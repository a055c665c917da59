//! PID 1 of a Kiln node: from the kernel's first exec to a supervised cluster service.
//!
//! Stage 1, the program `kiln-init`, is `/init` of the initramfs: find the disk, verify and mount the root, switch to it.
//! Stage 2 is the root's init, which is `kiln`: phases, supervision, shutdown. `kiln` can be both; what is unpacked from
//! an initramfs and then thrown away had better be small. Flows in: the kernel command line, `/etc/kiln`, CONFIG, device
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

/// Loads a kernel module of the image that waits to be asked for, and what it needs; one that the kernel does not take is told on
/// the error stream. On a system that is not Kiln's own nothing is done: there the kernel fetches modules by itself.
///
/// # Errors
/// When the image's list of modules cannot be read or does not have it; the text says so.
pub fn load_module(name: &str) -> std::io::Result<()> {
    modules::demand(name).map_err(std::io::Error::other)
}

/// Runs PID 1. It never returns: a failed phase is told on the console and retried.
pub fn main() -> ! {
    console::show_panics();
    if Path::new(initramfs::MODULES).exists() { initramfs::run() } else { system::run() }
}

/// Runs PID 1 of the initramfs. It never returns but by the exec of the root's init.
pub fn first_stage() -> ! {
    console::show_panics();
    initramfs::run()
}
