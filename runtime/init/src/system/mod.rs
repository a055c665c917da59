//! Stage 2: the running system. [`run`] is the main loop of PID 1; [`boot`] is the list of phases, on its own thread, so
//! that a slow phase never keeps PID 1 from reaping, the power button or the watchdog.

mod boot;
pub(crate) mod bus;
mod node;
mod plug;
mod wait;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::config::writer::Task;
use crate::console::say;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::services::Service;
use crate::services::notify::{Notice, NotifySocket};
use crate::shutdown::{self, Ending};
use crate::sys::input::PowerButton;
use crate::sys::uevent::{Uevent, UeventSocket};
use crate::sys::watchdog::Watchdog;
use crate::sys::{command, uptime};
use bus::{Event, Inbox};
use node::Node;
use plug::Plug;

/// How often the time is saved for the next boot.
const SAVE_CLOCK: Duration = Duration::from_secs(3600);
/// What the writer of CONFIG gets at shutdown.
const FLUSH: Duration = Duration::from_secs(5);

/// Runs stage 2; never comes back.
pub(crate) fn run() -> ! {
    // Nothing below works without /dev, /proc and /run; after stage 1 they are there already.
    if let Err(error) = crate::initramfs::early_mounts() {
        say!("phase mounts failed: {error}");
    }
    let mut system = loop {
        match catch_unwind(System::start) {
            Ok(Ok(system)) => break system,
            Ok(Err(error)) => say!("PID 1 cannot start: {error}; trying again"),
            Err(_) => say!("PID 1 cannot start; trying again"),
        }
        std::thread::sleep(Duration::from_secs(5));
    };
    loop {
        match catch_unwind(AssertUnwindSafe(|| system.turn())) {
            Ok(None) => {}
            Ok(Some(ending)) => system.end(ending),
            // Told by the panic hook. Without a pause, a bug that repeats would fill the console.
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

/// Everything that the main loop watches.
struct System {
    signals: SignalFd,
    inbox: Inbox,
    uevents: UeventSocket,
    notify: NotifySocket,
    buttons: Vec<PowerButton>,
    watchdog: Option<Watchdog>,
    feed_at: Duration,
    save_at: Duration,
    arm: bool,
    services: Vec<Service>,
    node: Node,
    boot: boot::Handle,
    plug: Plug,
    ending: Option<Ending>,
}

impl System {
    fn start() -> Result<Self> {
        // Before any thread exists, so that all of them inherit the mask and only the descriptor gets signals.
        let mut mask = SigSet::empty();
        for signal in
            [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2]
        {
            mask.add(signal);
        }
        mask.thread_block().map_err(|e| Error::sys("block", "signals", e))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|e| Error::sys("open", "signalfd", e))?;
        // Ctrl-Alt-Del becomes SIGINT instead of a reset.
        let _ = nix::sys::reboot::set_cad_enabled(false);
        std::fs::create_dir_all("/run/kiln").map_err(|e| Error::io("create", "/run/kiln", e))?;
        let image = Image::read().unwrap_or_else(|error| {
            say!("{error}");
            Image::default()
        });
        let (bus, inbox) = bus::open()?;
        let uevents = UeventSocket::open()?;
        let notify = NotifySocket::open()?;
        let writer = crate::config::writer::start()?;
        let arm = image.watchdog;
        let plug = Plug::start()?;
        let boot = boot::start(image.clone(), bus, writer.clone(), plug.clone())?;
        let node = Node::new(image, writer, boot.network());
        let now = uptime::now();
        let mut system = Self {
            signals,
            inbox,
            uevents,
            notify,
            buttons: PowerButton::open_all(),
            watchdog: None,
            feed_at: Duration::MAX,
            save_at: now + SAVE_CLOCK,
            arm,
            services: Vec::new(),
            node,
            boot,
            plug,
            ending: None,
        };
        system.arm_watchdog();
        Ok(system)
    }

    /// One turn: wait, then serve whatever is ready. Some ending: everything has stopped.
    fn turn(&mut self) -> Option<Ending> {
        let ready = wait::wait(self);
        let now = uptime::now();
        if self.watchdog.is_some() && now >= self.feed_at {
            self.feed();
        }
        // Output and notices before signals: a service's last words stand before the news of its end.
        for index in ready.outputs {
            if let Some(service) = self.services.get_mut(index) {
                service.drain();
            }
        }
        if ready.uevents {
            for event in self.uevents.drain() {
                self.take_uevent(&event);
            }
        }
        for index in ready.buttons.iter().rev() {
            self.take_button(*index);
        }
        if ready.inbox {
            for event in self.inbox.drain() {
                self.take_event(event);
            }
        }
        if ready.notify {
            for notice in self.notify.drain() {
                if matches!(notice, Notice::Ready) {
                    self.boot.joined();
                }
                self.node.take_notice(notice);
            }
        }
        if ready.signals {
            self.take_signals(now);
        }
        if now >= self.save_at {
            self.save_at = now + SAVE_CLOCK;
            if let Err(error) = crate::clock::save() {
                say!("clock not saved: {error}");
            }
        }
        self.supervise(now)
    }

    /// The next moment at which something is due.
    fn due(&self) -> Duration {
        let services = self.services.iter().filter_map(Service::due);
        services.chain([self.feed_at, self.save_at]).min().unwrap_or(self.save_at)
    }

    /// Starts, restarts and stops services. They stop last to first, each only when the one after it is gone.
    fn supervise(&mut self, now: Duration) -> Option<Ending> {
        if self.ending.is_some() {
            let running = self.services.iter_mut().rev().find(|s| !s.is_stopped());
            match running {
                Some(service) => service.stop(now),
                None => return self.ending,
            }
        }
        for service in &mut self.services {
            service.tick(now);
        }
        None
    }

    fn take_signals(&mut self, now: Duration) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGTERM | Signal::SIGUSR2) => self.begin_end(Ending::PowerOff, "asked by a signal"),
                Ok(Signal::SIGINT) => self.begin_end(Ending::Restart, "Ctrl-Alt-Del"),
                _ => {}
            }
        }
        // Children may have ended for any of the signals that were merged into one.
        command::reap();
        for service in &mut self.services {
            let exit = service.check(now);
            if let (Some(exit), false) = (exit, self.ending.is_some()) {
                self.node.service_ended(service.spec.name, exit);
            }
        }
    }

    fn take_uevent(&mut self, event: &Uevent) {
        self.plug.take(event);
        let name = event.devname.as_deref().unwrap_or_default();
        match (event.action.as_str(), event.subsystem.as_str()) {
            ("add", "input") => {
                if let Some(name) = name.strip_prefix("input/").filter(|n| n.starts_with("event"))
                    && !self.buttons.iter().any(|b| b.name == name)
                {
                    self.buttons.extend(PowerButton::open(name));
                }
            }
            ("add", "watchdog") => self.arm_watchdog(),
            ("add", "net") => self.boot.hurry(),
            _ if crate::disk::is_news(event) => self.boot.hurry(),
            _ => {}
        }
    }

    fn take_button(&mut self, index: usize) {
        match self.buttons.get_mut(index).map(PowerButton::pressed) {
            Some(Ok(true)) => self.begin_end(Ending::PowerOff, "power button"),
            Some(Err(_)) => {
                self.buttons.remove(index);
            }
            _ => {}
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Start(spec) => {
                if self.ending.is_none() && !self.services.iter().any(|s| s.spec.name == spec.name) {
                    self.services.push(Service::new(spec));
                }
            }
            Event::Network => {
                self.boot.hurry();
                self.node.network_changed();
            }
            Event::Phases(update) => self.node.take_phases(update),
        }
    }

    fn begin_end(&mut self, ending: Ending, why: &str) {
        if self.ending.is_none() {
            say!("{}: {why}", if ending == Ending::PowerOff { "powering off" } else { "restarting" });
            self.ending = Some(ending);
            self.node.stopping(ending);
        }
    }

    fn arm_watchdog(&mut self) {
        if self.arm && self.watchdog.is_none() {
            self.watchdog = Watchdog::open();
            if let Some(watchdog) = &self.watchdog {
                say!("hardware watchdog armed, fed every {} s", watchdog.interval.as_secs());
                self.feed();
            }
        }
    }

    fn feed(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed();
            self.feed_at = uptime::now() + watchdog.interval;
        }
    }

    /// Everything has stopped: the last writes, then the end.
    fn end(&mut self, ending: Ending) -> ! {
        for service in &mut self.services {
            service.drain();
        }
        let (done, wait) = std::sync::mpsc::channel();
        if self.node.writer.send(Task::Flush(done)).is_ok() {
            // A card that hangs must not keep the board on.
            let _ = wait.recv_timeout(FLUSH);
        }
        // A restart that hangs is still cut short by the watchdog; a board that is off must stay off.
        if let (Ending::PowerOff, Some(watchdog)) = (ending, self.watchdog.take()) {
            watchdog.disarm();
        }
        shutdown::finish(ending)
    }
}
