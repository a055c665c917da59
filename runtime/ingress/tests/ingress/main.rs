//! The ingress over real sockets, with an API in memory and small servers as pods.

#![allow(clippy::unwrap_used, reason = "tests")]

mod acme;
mod acme_server;
mod cors;
mod faults;
mod gateways;
mod mirrors;
mod retries;
mod rules;
mod secure;
mod settings;
mod streams;
mod support;
