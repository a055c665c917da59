//! kiln-init.
