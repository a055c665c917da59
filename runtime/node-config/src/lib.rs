//! kiln-node-config.
