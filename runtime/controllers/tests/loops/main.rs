//! Controllers against an API: a fake one that can fail, and the real server in memory.

#[path = "../apps_world/mod.rs"]
mod apps_world;
#[path = "../bad_line/mod.rs"]
mod bad_line;
#[path = "../common/mod.rs"]
mod common;
#[path = "../jumping/mod.rs"]
mod jumping;
#[path = "../real/mod.rs"]
mod real;

mod account_tokens;
mod addons;
mod aggregated;
mod autoscaler;
mod bad_lines;
mod chart_sources;
mod charts;
mod cluster;
mod csr;
mod daemon_set;
mod deployment;
mod disruption;
mod gateway_status;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod replica_set;
mod servers;
mod stateful_set;
mod token_cleaner;
