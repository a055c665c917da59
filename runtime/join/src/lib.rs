//! kiln-join.
