//! Stage 1: from the initramfs to the verified root.
//!
//! In: the kernel command line and the modules packed beside us. Out: the new root with `/dev`, `/proc`, `/sys` and
//! `/run` moved into it, and an exec of its init. Whatever fails is told, waits for a device event and is tried again;
//! after [`GIVE_UP`] the board reboots, so that a bad slot does not leave it dark for ever.

mod root;
mod switch;
pub(crate) mod verity;

use std::time::Duration;

use nix::mount::MsFlags;

use crate::cmdline::BootParams;
use crate::config::status::Status;
use crate::console::{self, say};
use crate::disk::{self, Disk};
use crate::error::{Error, Result};
use crate::modules::{Loader, Part};
use crate::report::{PhaseReport, Stage1Report};
use crate::sys::mount::{attach, is_mounted};
use crate::sys::uevent::UeventSocket;
use crate::sys::uptime;

/// The module list of the initramfs; its presence tells that this is stage 1.
pub(crate) const MODULES: &str = "/etc/kiln/modules.initramfs";
/// Uptime after which stage 1 reboots.
const GIVE_UP: Duration = Duration::from_secs(300);
/// Longest wait between two attempts when the kernel announces no new device.
const RETRY: Duration = Duration::from_secs(15);
/// How long a disk may take to appear before the console tells that it is waited for.
const QUIET: Duration = Duration::from_secs(3);
/// How long a disk may take to appear before every module is loaded: its driver may not tell what devices it is for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs stage 1; comes back only by exec of the new root's init, or by a reboot.
pub(crate) fn run() -> ! {
    let mut stage = Stage::default();
    loop {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.attempt()));
        let error = match outcome {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => error,
            Err(_) => Error::Panic("stage 1 panicked; the place is printed above".into()),
        };
        say!("phase root failed: {error}");
        say!("what to do: {}", error.help());
        stage.tell_config(&error);
        if uptime::now() > GIVE_UP {
            say!("no root after {} s; rebooting", GIVE_UP.as_secs());
            crate::shutdown::restart_now();
        }
        stage.wait();
    }
}

/// What stage 1 has reached; an attempt goes on from there.
#[derive(Default)]
struct Stage {
    events: Option<UeventSocket>,
    modules: Option<Loader>,
    disk: Option<Disk>,
    phases: Vec<PhaseReport>,
    told: Option<String>,
}

impl Stage {
    fn attempt(&mut self) -> Result<std::convert::Infallible> {
        self.timed("early-mounts", |_| early_mounts())?;
        if self.events.is_none() {
            // Before the modules: their devices' events must not be missed.
            self.events = Some(UeventSocket::open()?);
        }
        let params = BootParams::read()?;
        if self.modules.is_none() {
            let loader = self.timed("early-modules", |_| {
                let mut loader = Loader::read(MODULES)?;
                loader.coldplug_until(Part::First, &|| find(&params).0.is_some());
                Ok(loader)
            })?;
            self.modules = Some(loader);
        }
        let disk = self.timed("disk", |stage| stage.find_disk(&params))?;
        self.disk = Some(disk.clone());
        self.timed("root", |_| root::mount(&params, &disk))?;
        let report = Stage1Report { disk: disk.name, phases: self.phases.clone() };
        report.write()?;
        switch::to_root()
    }

    /// Times a step and prints its line.
    fn timed<T>(&mut self, name: &str, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = uptime::now();
        let value = step(self)?;
        let report = PhaseReport::ok(name, uptime::now().saturating_sub(start));
        // A step that was done by an earlier attempt takes no time and was told then.
        if !self.phases.iter().any(|p| p.name == name) {
            say!("{report}");
            self.phases.push(report);
        }
        Ok(value)
    }

    /// Scans the disks, again on each event, for up to [`RETRY`].
    fn find_disk(&mut self, params: &BootParams) -> Result<Disk> {
        let start = uptime::now();
        let mut told = false;
        let mut patient = true;
        loop {
            let (found, seen) = find(params);
            if let Some(disk) = found {
                return Ok(disk);
            }
            let waited = uptime::now().saturating_sub(start);
            if waited >= RETRY {
                return Err(Error::Missing {
                    what: format!(
                        "no disk with id {} and partition {}; found: {seen}",
                        params.disk,
                        params.slot.partition()
                    ),
                    help: "Check that the card or disk sits firmly. If it was copied or partitioned anew, flash it again.",
                });
            }
            if waited >= QUIET && !told {
                say!("waiting for the disk with id {}; found: {seen}", params.disk);
                told = true;
            }
            if waited >= PATIENCE && patient {
                patient = false;
                if let Some(loader) = &mut self.modules {
                    say!("no disk for the drivers of the devices found; loading every module of the initramfs");
                    loader.load_all();
                    continue;
                }
            }
            let until = if !told {
                QUIET
            } else if patient {
                PATIENCE
            } else {
                RETRY
            };
            self.pause(until.saturating_sub(waited));
        }
    }

    /// Waits for a new or changed disk, at most this long, and loads the drivers of the devices that come meanwhile. Loop
    /// and mapped devices come from our own attempts and must not start the next one.
    fn pause(&mut self, longest: Duration) {
        let Some(events) = &self.events else {
            std::thread::sleep(longest);
            return;
        };
        let end = uptime::now() + longest;
        loop {
            let left = end.saturating_sub(uptime::now());
            if left.is_zero() || !events.wait(left + Duration::from_millis(1)) {
                return;
            }
            let news = events.drain();
            if let Some(loader) = &mut self.modules {
                loader.hotplug(&news);
            }
            if news.iter().any(disk::is_news) {
                return;
            }
        }
    }

    /// Waits before the next attempt.
    fn wait(&mut self) {
        self.pause(RETRY);
    }

    /// Puts the failure onto CONFIG, once per text, if the disk is known.
    fn tell_config(&mut self, error: &Error) {
        let text = error.to_string();
        if self.told.as_ref() == Some(&text) {
            return;
        }
        let Some(partition) = self.disk.as_ref().and_then(|d| d.partition(1)) else {
            return;
        };
        let status = Status {
            step: "starting the system (root)".into(),
            error: Some(text.clone()),
            help: Some(error.help().into()),
            ..Status::default()
        };
        match root::write_status(&partition, &status) {
            Ok(()) => self.told = Some(text),
            Err(error) => say!("join-status.txt not written: {error}"),
        }
    }
}

/// The disk with its slot, and what was seen. The partitions may come an instant after their disk.
fn find(params: &BootParams) -> (Option<Disk>, String) {
    let (found, seen) = disk::find(&params.disk);
    (found.filter(|disk| disk.partition(params.slot.partition()).is_some()), seen)
}

/// What everything else needs; each mount is made once.
pub(crate) fn early_mounts() -> Result<()> {
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    attach_once("proc", "/proc", "proc", hardened, "")?;
    attach_once("sysfs", "/sys", "sysfs", hardened, "")?;
    attach_once("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755")?;
    attach_once("tmpfs", "/run", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755,size=20%")?;
    console::reopen();
    Ok(())
}

/// Mounts unless it is mounted already; `/proc` itself tells, so the first call always mounts.
pub(crate) fn attach_once(source: &str, target: &str, kind: &str, flags: MsFlags, data: &str) -> Result<()> {
    if is_mounted(target) { Ok(()) } else { attach(source, target, kind, flags, data) }
}
