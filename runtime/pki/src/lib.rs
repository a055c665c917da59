//! kiln-pki.
