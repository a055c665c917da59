//! Progress of long work: bars on a terminal, one plain line a step otherwise.
