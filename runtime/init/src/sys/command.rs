//! Child processes. PID 1's main loop reaps every process of the system, so nobody else may wait for a child:
//! exits are handed to whoever spawned the process. One lock covers "spawn and register" and "reap and hand over".

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, Result};

static WAITERS: Mutex<Option<HashMap<i32, Sender<Exit>>>> = Mutex::new(None);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

fn waiters() -> MutexGuard<'static, Option<HashMap<i32, Sender<Exit>>>> {
    WAITERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: Pid,
    /// Gets its exit once, from the main loop.
    pub(crate) exit: Receiver<Exit>,
}

/// Starts a process whose exit the main loop will report.
pub(crate) fn spawn(command: &mut Command) -> Result<Process> {
    unblock_signals(command);
    let mut waiters = waiters();
    let child = command.spawn().map_err(|e| Error::io("start", command.get_program(), e))?;
    let pid = child.id() as i32;
    let (sender, exit) = channel();
    waiters.get_or_insert_default().insert(pid, sender);
    Ok(Process { pid: Pid::from_raw(pid), exit })
}

/// A child inherits the mask of PID 1, which blocks what it reads from its descriptor; with it a service would never
/// hear SIGTERM.
#[allow(unsafe_code)]
fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec only sigprocmask is called, which is async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(Into::into)) };
}

/// Reaps every ended process, ours or adopted; called on SIGCHLD by the main loop only. Returns the reaped ids.
pub(crate) fn reap() -> Vec<Pid> {
    let mut reaped = Vec::new();
    let mut waiters = waiters();
    loop {
        let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(_) => return reaped,
            Ok(_) => continue,
        };
        if let Some(waiter) = waiters.as_mut().and_then(|w| w.remove(&pid.as_raw())) {
            // The spawner may have lost interest.
            let _ = waiter.send(exit);
        }
        reaped.push(pid);
    }
}

/// Runs a program to its end and returns its exit code and output; not to be called from the main loop.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let (mut reader, writer) = std::io::pipe().map_err(|e| Error::io("make a pipe for", program, e))?;
    let errors = writer.try_clone().map_err(|e| Error::io("make a pipe for", program, e))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(errors);
    let process = spawn(&mut command)?;
    // The command holds the write ends; without this the read would never end.
    drop(command);
    let mut output = Vec::new();
    let _ = reader.read_to_end(&mut output);
    let output = String::from_utf8_lossy(&output).trim().to_owned();
    match process.exit.recv() {
        Ok(Exit::Code(code)) => Ok((code, output)),
        Ok(exit) => Err(Error::Command { program: program.into(), status: exit.to_string(), output }),
        Err(_) => Err(Error::Command { program: program.into(), status: "its exit was lost".into(), output }),
    }
}
