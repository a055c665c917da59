//! The end: everything stopped, time saved, media clean, then power off or restart.

use std::time::Duration;

use nix::mount::MsFlags;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

use crate::console::say;
use crate::sys::command;
use crate::sys::mount::{detach, is_mounted, remount};

/// How the board ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// SIGTERM or the power button.
    PowerOff,
    /// Ctrl-Alt-Del.
    Restart,
}

/// What processes outside any service get to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// After the services: ends what is left, saves the time, unmounts, and goes. Comes back never.
pub(crate) fn finish(ending: Ending) -> ! {
    end_processes();
    if let Err(error) = crate::clock::save() {
        say!("clock not saved: {error}");
    }
    sync();
    // Reverse order of mounting; what is busy is made read-only at least, which leaves it clean.
    for target in ["/var", crate::state::MOUNT, crate::config::MOUNT] {
        if is_mounted(target)
            && detach(target, false).is_err()
            && let Err(error) = remount(target, MsFlags::MS_RDONLY)
        {
            say!("shutdown: {error}");
        }
    }
    sync();
    say!("{}", if ending == Ending::PowerOff { "power off" } else { "restart" });
    go(if ending == Ending::PowerOff { RebootMode::RB_POWER_OFF } else { RebootMode::RB_AUTOBOOT })
}

/// Restarts without ceremony, where nothing was started yet.
pub(crate) fn restart_now() -> ! {
    sync();
    go(RebootMode::RB_AUTOBOOT)
}

fn go(mode: RebootMode) -> ! {
    let Err(errno) = reboot(mode);
    say!("the kernel refuses to stop: {}", errno.desc());
    // A board that cannot switch itself off stays here, its media clean.
    loop {
        std::thread::park();
    }
}

/// SIGTERM to all processes, then SIGKILL; waits for their exits in between.
fn end_processes() {
    let everyone = Pid::from_raw(-1);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if kill(everyone, signal).is_err() {
            return; // ESRCH: nobody is left.
        }
        let deadline = crate::sys::uptime::now() + PATIENCE;
        while crate::sys::uptime::now() < deadline {
            command::reap();
            if kill(everyone, None).is_err() {
                return;
            }
            // Signals are blocked and read from a descriptor that the main loop has left; a short wait replaces it.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
