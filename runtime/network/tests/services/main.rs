//! The service proxy by traffic: pods, a node and a machine outside are network namespaces, the API is one in memory. Without the
//! right to make namespaces there is nothing to test.

mod changes;
mod outside;
mod policy;
mod sctp;
mod traffic;
mod world;
