//! The API server as clients see it: one binary, since each would link the whole server.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/hooks.rs"]
mod hooks;

mod access;
mod aggregation;
mod apply;
mod audit;
mod base_kinds;
mod classes;
mod conversion;
mod custom_resources;
mod definitions;
mod deletes;
mod depth;
mod device_kinds;
mod discovery;
mod encodings;
mod forms;
mod jobs;
mod joining;
mod large;
mod lifecycles;
mod lists;
mod network_kinds;
mod nodes;
mod oidc;
mod operations;
mod pages;
mod plugins;
mod pod_parts;
mod pod_security;
mod pods;
mod policies;
mod policy_kinds;
mod quotas;
mod reference;
mod selections;
mod services;
mod storage_kinds;
mod streams;
mod tokens;
mod warnings;
mod watches;
mod webhook_lies;
mod webhooks;
mod wire;
mod workloads;
mod writes;
