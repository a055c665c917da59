//! The messages of the Container Runtime Interface, `runtime.v1`, as of Kubernetes 1.36.
//!
//! Names and meanings are those of `api.proto` in `k8s.io/cri-api`, which documents each field; enumerations have lost the
//! prefixes that protobuf needs. Left out is what only Windows nodes have, and fields that are deprecated there.
//! A field with an enumeration is an `i32`: `Mode::Pod as i32` writes one.

#![allow(missing_docs, reason = "the fields are documented where they are defined, in api.proto of k8s.io/cri-api")]

mod common;
mod container;
mod exec;
mod image;
mod runtime;
mod sandbox;
mod signal;
mod stats;

pub use common::*;
pub use container::*;
pub use exec::*;
pub use image::*;
pub use runtime::*;
pub use sandbox::*;
pub use signal::{signal, signal_name};
pub use stats::*;
