//! kiln-client.
