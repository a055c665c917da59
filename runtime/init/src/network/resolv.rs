//! `/run/resolv.conf`, to which `/etc/resolv.conf` points.

use std::fs;
use std::net::IpAddr;

use crate::error::{Error, Result};

const PATH: &str = "/run/resolv.conf";
/// The resolver of the C library reads no more.
const MOST: usize = 3;

/// Writes the name servers, whole or not at all.
pub(super) fn write(servers: &[IpAddr]) -> Result<()> {
    let temporary = format!("{PATH}.new");
    fs::write(&temporary, render(servers)).map_err(|e| Error::io("write", &temporary, e))?;
    fs::rename(&temporary, PATH).map_err(|e| Error::io("write", PATH, e))
}

fn render(servers: &[IpAddr]) -> String {
    let mut unique: Vec<&IpAddr> = Vec::new();
    for server in servers {
        if !unique.contains(&server) {
            unique.push(server);
        }
    }
    unique.iter().take(MOST).map(|server| format!("nameserver {server}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_listed_once_in_order_and_three_at_most() {
        let servers: Vec<IpAddr> = ["1.1.1.1", "8.8.8.8", "1.1.1.1", "::1", "9.9.9.9"]
            .iter()
            .map(|t| t.parse().expect("an address"))
            .collect();
        assert_eq!(render(&servers), "nameserver 1.1.1.1\nnameserver 8.8.8.8\nnameserver ::1\n");
    }
}
