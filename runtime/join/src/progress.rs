//! What a join reports while it goes on.

use std::fmt;
use std::time::SystemTime;

use crate::{Credentials, JoinError};

/// Where a join is. `Display` gives the word that PID 1 and `join-status.txt` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Searching for the server.
    Discover,
    /// Fetching and checking the CA.
    Ca,
    /// Comparing the clock with the server's.
    Time,
    /// Getting certificates.
    Csr,
    /// Registering the node.
    Register,
    /// Done.
    Ready,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Discover => "discover",
            Step::Ca => "ca",
            Step::Time => "time",
            Step::Csr => "csr",
            Step::Register => "register",
            Step::Ready => "ready",
        })
    }
}

/// Takes the reports.
pub trait Progress: Send + Sync {
    /// A step begins; `detail` is a line for people.
    fn step(&self, step: Step, detail: &str);
    /// The attempt failed; another follows.
    fn failed(&self, error: JoinError);
    /// What time the server, verified by the CA, says it is.
    fn server_time(&self, time: SystemTime);
    /// These are the node's credentials now: after a join, and after each renewal or move of the server.
    fn credentials(&self, credentials: &Credentials);
    /// The token was single-use and has been used: it can be removed from where it is kept.
    fn token_spent(&self);
}
