//! kiln-storage.
