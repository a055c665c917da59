//! The package layer against archives that the tests make and sign themselves; only `mirror` needs a network.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod archive;
mod deb;
mod lock;
mod mirror;
mod support;
mod trust;
