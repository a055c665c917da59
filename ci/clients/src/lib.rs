//! Holds the tests in `tests/`: clients that others wrote, kube-rs first, against `kiln-apiserver`'s server over TLS.
