//! `kiln`: one binary for the whole node.
//!
//! As PID 1 it is the system's init ([`kiln_init`]); else its first word says what it is: the server, an agent, or one of the
//! verbs for people. This crate only composes: what the parts do is in their crates, what they are told is read here from
//! `node.toml` and the command line, and what they report goes to PID 1 and to the status file from here.

mod agent;
mod cli;
mod exit;
mod node;
mod server;
mod service;
mod snapshots;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// musl's allocator has one lock, and gives back to the kernel what the next request asks for again. With this one 32 connections get
/// half as many answers more and a LIST of 2,000 takes half the time, for 3 MiB; huge pages, which would cost another 16, are off.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    if kiln_init::is_init() {
        kiln_init::main()
    }
    match cli::read().and_then(cli::Cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
