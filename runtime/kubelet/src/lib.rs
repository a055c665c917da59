//! kiln-kubelet.
