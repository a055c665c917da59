//! Controllers against the real API server in memory, with nodes and kubelets that the tests play, and time that passes when
//! nothing else happens.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../bad_line/mod.rs"]
mod bad_line;
mod claims;
mod cron_job;
mod job;
mod job_policies;
#[path = "../jumping/mod.rs"]
mod jumping;
mod jumps;
mod mirroring;
mod network;
mod nodes;
mod service_lb;
mod volumes;
mod world;
