//! What pods and the node use: figures of the runtime and of /proc, as Kubernetes' summary and as Prometheus' text.
//!
//! Nothing is measured unless someone asks. In come answers of the CRI (`usage`), files of the kernel (`node`) and what lies on disks
//! (`disks`), out go the bodies of `/stats/summary`, `/metrics`, `/metrics/resource`, `/metrics/cadvisor` and `/metrics/probes`.

mod cadvisor;
mod disks;
mod metrics;
mod node;
mod summary;
mod text;
mod usage;
mod volumes;

pub(crate) use cadvisor::cadvisor;
pub(crate) use disks::Disks;
pub(crate) use metrics::{own, probes, resource};
pub(crate) use summary::summary;
pub(crate) use text::MEDIA_TYPE;
