//! Thin, typed wrappers over the kernel interfaces that PID 1 needs and no crate covers. All `unsafe` of the crate is
//! here (and in `console`); nothing here decides anything.

pub(crate) mod command;
pub(crate) mod dm;
pub(crate) mod input;
pub(crate) mod loopdev;
pub(crate) mod mount;
pub(crate) mod partition;
pub(crate) mod uevent;
pub(crate) mod uptime;
pub(crate) mod watchdog;
