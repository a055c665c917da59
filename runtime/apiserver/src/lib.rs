//! kiln-apiserver.
