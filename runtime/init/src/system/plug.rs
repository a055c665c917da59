//! The thread that loads kernel modules: for the boot's phases, and ever after for devices that are plugged in. A driver may take
//! a second to start, which neither the main loop nor a phase that does not need it shall wait for.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, Result};
use crate::modules::{self, Loader, Part};
use crate::sys::uevent::Uevent;

/// What the thread is asked for.
enum Request {
    /// Open a part of the list, and answer when its modules are loaded.
    Load(Part, Sender<Result<()>>),
    /// The kernel told of a device.
    Device(Uevent),
}

/// A handle on the thread; cheap to clone.
#[derive(Clone)]
pub(super) struct Plug(Sender<Request>);

impl Plug {
    /// Starts the thread, which loads nothing until it is asked to.
    pub(super) fn start() -> Result<Self> {
        let (sender, requests) = channel();
        let mut loader = None;
        crate::thread::spawn("modules", move || serve(&requests, &mut loader))?;
        Ok(Self(sender))
    }

    /// Opens a part of the list and waits until its modules are loaded.
    pub(super) fn load(&self, part: Part) -> Result<()> {
        let (answer, answered) = channel();
        // The thread lives as long as this handle. If it panics, the answer's sender is dropped.
        let _ = self.0.send(Request::Load(part, answer));
        answered
            .recv()
            .unwrap_or_else(|_| Err(Error::Panic("loading modules panicked; the place is printed above".into())))
    }

    /// Passes on an event that may call for a driver.
    pub(super) fn take(&self, event: &Uevent) {
        if modules::is_news(event) {
            let _ = self.0.send(Request::Device(event.clone()));
        }
    }
}

/// Serves requests until the last handle is gone.
fn serve(requests: &Receiver<Request>, loader: &mut Option<Loader>) {
    for request in requests {
        match request {
            Request::Load(part, answer) => {
                // Nobody to hear the answer means that nobody waits.
                let _ = answer.send(load(loader, part));
            }
            // Before the list is open a device needs no note: opening it looks at all devices.
            Request::Device(event) => {
                if let Some(loader) = loader {
                    loader.hotplug([&event]);
                }
            }
        }
    }
}

fn load(loader: &mut Option<Loader>, part: Part) -> Result<()> {
    let loader = match loader {
        Some(loader) => loader,
        None => loader.insert(Loader::read(modules::LIST)?),
    };
    loader.coldplug(part);
    Ok(())
}
