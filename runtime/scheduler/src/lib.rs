//! The scheduler: finds each pod its node.
//!
//! Mirrors of pods, nodes and what bears on both flow in; bindings, conditions and events flow out, all through the client. A pod
//! that waits stands in a queue; in its turn it goes through the plugins of its profile, which judge the nodes and compare those
//! that can do; then it counts as placed at once, while the binding is still under way. Names, weights, meanings and texts are
//! those of Kubernetes 1.36: <https://kubernetes.io/docs/reference/scheduling/config/>. Nothing here knows the API server or its
//! storage.
#![doc = include_str!("conformance.md")]

mod cache;
mod conditions;
mod config;
mod devices;
mod extender;
mod framework;
mod listers;
mod metrics;
mod model;
mod plugins;
mod preemption;
mod queue;
mod recorder;
mod scheduler;
#[cfg(test)]
mod testing;
mod volumes;
mod writer;

pub use config::{Config, ConfigError};
pub use metrics::Metrics;
pub use scheduler::Scheduler;
