//! Telling PID 1 how the service is doing: the sd_notify protocol, with Kiln's own keys.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends variables in one message. Without a supervisor that listens this does nothing.
pub(crate) fn send(variables: &[(&str, &str)]) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|p| !p.is_empty()) else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|a| UnixDatagram::unbound()?.send_to_addr(message(variables).as_bytes(), &a));
    if let Err(error) = sent {
        tracing::debug!(%error, "the supervisor could not be told");
    }
}

/// One variable a line; a line end in a value would start another variable.
fn message(variables: &[(&str, &str)]) -> String {
    variables.iter().map(|(key, value)| format!("{key}={}\n", value.replace(['\n', '\r'], " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_line_ends_stays_one_variable() {
        assert_eq!(message(&[("STATUS", "a\nREADY=1"), ("READY", "1")]), "STATUS=a READY=1\nREADY=1\n");
    }
}
