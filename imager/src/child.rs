//! Programs that must not outlive this one, however it ends.

use std::{io, os::unix::process::CommandExt, process::Command};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd,
};

/// Sets a command up so that it gets SIGTERM when this process ends, be it killed. The thread that starts it must be one
/// that lives as long as the process, for the kernel goes by the thread.
pub(crate) fn bind(command: &mut Command) {
    end_with_us(command, SigSet::empty());
}

/// As [`bind`], in a process group of its own, so that Ctrl-C on the terminal does not reach it, and with `unblocked`
/// signals no longer blocked.
pub(crate) fn group(command: &mut Command, unblocked: SigSet) {
    command.process_group(0);
    end_with_us(command, unblocked);
}

fn end_with_us(command: &mut Command, unblocked: SigSet) {
    let parent = unistd::getpid();
    let prepare = move || {
        unblocked.thread_unblock()?;
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have died before the line above.
        if unistd::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec the closure makes only async-signal-safe system calls (sigprocmask, prctl, getppid)
    // and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
}
