//! Helm's charts rendered in this process, and the YAML that they and manifests are written in.
//!
//! `Chart::load` reads an archive; [`render`] makes manifests, hooks and definitions of it, for a [`Release`] in a cluster whose side
//! is a [`Host`]. Go's text/template, sprig's functions and Helm's ways with values are done anew here, since charts are written in them
//! and nothing else reads them. No pod runs, no image with helm in it is fetched, and nothing is on the disk. Charts come from
//! anywhere: depth, steps and text are limited, and nothing panics.
//!
//! Nothing here does I/O or knows an API.
//!
//! # Why not a pod with helm in it
//!
//! K3s runs a Job with an image of helm for each chart: it has to be fetched, and a node has to be Ready. This engine needs neither. It was
//! held against helm's own engine (v4, compiled from its source) with 48 charts that are in use and the values that they bring for
//! their tests, 233 renders in all: the objects were the same but for what a Go number with a binary exponent and line ends of last lines
//! made, which are right now. A big one (kube-prometheus-stack) takes half a second in a build without optimisation.
//! Values are held against `values.schema.json` first; of JSON Schema `format`, `unevaluatedProperties` and references to other
//! documents are not there. Nor are TOML, `htpasswd` and the ciphers.

mod chart;
mod functions;
pub mod gzip;
mod host;
mod manifests;
mod number;
mod render;
pub mod repository;
mod schema;
mod semver;
mod set;
mod template;
mod value;
pub mod yaml;

pub use chart::{Chart, merge};
pub use host::{CertificateRequest, Host, Pair};
pub use manifests::{DeletePolicy, Event, Hook, Manifest, hooks};
pub use render::{Capabilities, Release, Rendered, render};
pub use set::{set, typed};

/// Why there is nothing to install.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChartError {
    /// What was read is no chart; the text says why.
    #[error("{0}")]
    Chart(String),
    /// Values do not fit the chart.
    #[error("{0}")]
    Values(String),
    /// A template failed, in the words of Go's text/template.
    #[error("{0}")]
    Template(String),
    /// What a template made is no manifest.
    #[error("{0}")]
    Manifest(String),
}
