//! kiln-controllers.
