//! Kernel modules, loaded for the devices that are there: what udev and modprobe do elsewhere, from the lists that the
//! image's builder has made (see [`plan`]).
//!
//! In: the lists, the devices in sysfs, the kernel's device events. Out: `finit_module`. Unpacking and starting a hundred modules
//! takes a small board seconds; the drivers of absent hardware are most of them.

mod devices;
mod glob;
mod plan;

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::console::say;
use crate::error::{Error, Result};
use crate::sys::uevent::Uevent;
pub(crate) use plan::Part;
use plan::{Module, Plan, Source};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the .ko.xz itself.
const COMPRESSED: i32 = 4;
const SYS: &str = "/sys";
/// The node's own module list.
pub(crate) const LIST: &str = "/etc/kiln/modules.load";
const ALIASES: &str = "modules.alias";
const DEPENDENCIES: &str = "modules.dep";

/// Loads the modules of one list.
#[derive(Debug)]
pub(crate) struct Loader {
    plan: Plan,
    /// The part of the list that is open.
    part: Part,
    /// Devices whose aliases were read.
    seen: HashSet<String>,
}

impl Loader {
    /// Reads a list, and the two files beside it; loads nothing yet.
    pub(crate) fn read(list: &str) -> Result<Self> {
        let list = Path::new(list);
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e));
        let (aliases, dependencies) = (list.with_file_name(ALIASES), list.with_file_name(DEPENDENCIES));
        let texts = (read(list)?, read(&aliases)?, read(&dependencies)?);
        let plan = Plan::parse(
            &Source { path: list, text: &texts.0 },
            &Source { path: &aliases, text: &texts.1 },
            &Source { path: &dependencies, text: &texts.2 },
        )?;
        Ok(Self { plan, part: Part::First, seen: HashSet::new() })
    }

    /// Opens a part of the list: loads what is always needed and the drivers of the devices that are there, and those of the
    /// devices that these bring, until no more come.
    ///
    /// A module that fails is told on the console and does not stop the rest: what really needs it will say so itself.
    pub(crate) fn coldplug(&mut self, part: Part) {
        self.coldplug_until(part, &|| false);
    }

    /// As [`Loader::coldplug`], but drivers are loaded only until there is `enough`: who needs one disk need not wait for
    /// the controllers of others.
    pub(crate) fn coldplug_until(&mut self, part: Part, enough: &dyn Fn() -> bool) {
        self.part = part;
        self.plan.want_fixed();
        self.load(&|| false);
        self.rescan(enough);
    }

    /// Loads the drivers of devices that the kernel has announced. After lost events it looks at all devices again.
    ///
    /// Events wait in their socket while a scan runs, so a device is seen by one or both.
    pub(crate) fn hotplug<'a>(&mut self, events: impl IntoIterator<Item = &'a Uevent>) {
        for event in events {
            if event.action == "lost" {
                self.seen.clear();
                self.rescan(&|| false);
            }
            event.modaliases.iter().filter(|_| event.action == "add").for_each(|alias| self.plan.want_for(alias));
        }
        self.load(&|| false);
    }

    /// Loads the module of this name, with what it needs. False if the list has none.
    pub(crate) fn demand(&mut self, name: &str) -> bool {
        self.part = Part::Demand;
        let is_there = self.plan.want_named(name);
        self.load(&|| false);
        is_there
    }

    /// Loads everything in the open part.
    pub(crate) fn load_all(&mut self) {
        self.plan.want_all();
        self.load(&|| false);
    }

    fn rescan(&mut self, enough: &dyn Fn() -> bool) {
        loop {
            for modalias in devices::scan(Path::new(SYS), &mut self.seen) {
                self.plan.want_for(&modalias);
            }
            if !self.load(enough) {
                return;
            }
        }
    }

    /// Loads what is due, in its order, until there is enough; false if nothing was due or there is enough.
    fn load(&mut self, enough: &dyn Fn() -> bool) -> bool {
        let mut failed = 0;
        let mut any = false;
        while let Some(module) = self.plan.take(self.part) {
            any = true;
            match load(module) {
                Ok(()) if enough() => return false,
                // The last two are a module that stage 1 has loaded, and one whose hardware is not there.
                Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
                Err(errno) => {
                    say!("module {}: {}", module.path, reason(errno, &module.path));
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            say!("{failed} modules failed");
        }
        any
    }
}

/// Loads a module that waits to be asked for, see [`crate::load_module`].
pub(crate) fn demand(name: &str) -> Result<()> {
    if Path::new(LIST).exists() && !Loader::read(LIST)?.demand(name) {
        return Err(Error::malformed(LIST, format!("has no module {name}")));
    }
    Ok(())
}

/// Whether an event can make modules due.
pub(crate) fn is_news(event: &Uevent) -> bool {
    event.action == "lost" || (event.action == "add" && !event.modaliases.is_empty())
}

/// The kernel's answer in words. For a file that is there, ENOENT is about what the module refers to.
fn reason(errno: Errno, path: &str) -> &'static str {
    match errno {
        Errno::ENOENT if Path::new(path).exists() => {
            "needs a symbol or algorithm of a module that is not loaded before it"
        }
        other => other.desc(),
    }
}

fn load(module: &Module) -> std::result::Result<(), Errno> {
    // Unpacking it only to be told that it is there costs as much as loading it.
    if Path::new(SYS).join("module").join(name(&module.path)).exists() {
        return Err(Errno::EEXIST);
    }
    let path = Path::new(&module.path);
    let file = File::open(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    let parameters = CString::new(module.parameters.as_str()).map_err(|_| Errno::EINVAL)?;
    let compressed = path.extension().is_some_and(|e| e != "ko");
    let flags = if compressed { ModuleInitFlags::from_bits_retain(COMPRESSED as _) } else { ModuleInitFlags::empty() };
    finit_module(file, &parameters, flags)
}

/// The name that the kernel gives the module of a file.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_as_sysfs_names_it() {
        assert_eq!(name("/lib/modules/6.1/kernel/drivers/usb/storage/usb-storage.ko.xz"), "usb_storage");
        assert_eq!(name("loop.ko"), "loop");
    }

    #[test]
    fn only_new_devices_and_lost_events_matter_to_modules() {
        let event = |action: &str, aliases: &[&str]| Uevent {
            action: action.into(),
            modaliases: aliases.iter().map(|a| (*a).into()).collect(),
            ..Uevent::default()
        };
        assert!(is_news(&event("add", &["usb:v0525pA4A2"])));
        assert!(is_news(&event("lost", &[])));
        assert!(!is_news(&event("add", &[])));
        assert!(!is_news(&event("remove", &["usb:v0525pA4A2"])));
    }

    #[test]
    fn the_files_beside_the_list_are_read_and_needed() {
        let directory = tempfile::tempdir().expect("a directory");
        let list = directory.path().join("modules.load");
        std::fs::write(&list, "/m/a.ko\n").expect("written");
        let list = list.to_string_lossy().into_owned();
        assert!(Loader::read(&list).expect_err("no aliases").to_string().contains("modules.alias"));
        std::fs::write(directory.path().join(ALIASES), "").expect("written");
        std::fs::write(directory.path().join(DEPENDENCIES), "").expect("written");
        Loader::read(&list).expect("three files");
    }
}
