//! Drives the real `imager` as a person would: arguments in, text, files and exit codes out. Nothing here needs the
//! network, QEMU or root.

mod build;
mod cluster;
mod config;
mod flash;
mod help;
mod inspect;
mod run;
mod support;
