//! kiln-apimachinery.
