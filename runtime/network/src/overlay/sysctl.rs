//! Settings of the kernel that a router needs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const NET: &str = "/proc/sys/net";

/// Has the kernel pass packets on between interfaces. A node that routes IPv6 goes on taking its own address from a router's
/// advertisements, which the kernel would otherwise stop.
///
/// # Errors
/// When a setting cannot be written; the text names it.
pub(super) fn forward(uplink: &str, v6: bool) -> io::Result<()> {
    let net = Path::new(NET);
    set(&net.join("ipv4/ip_forward"), "1")?;
    if v6 && net.join("ipv6").exists() {
        let accepts = net.join("ipv6/conf").join(uplink).join("accept_ra");
        if fs::read_to_string(&accepts).is_ok_and(|value| value.trim() == "1") {
            set(&accepts, "2")?;
        }
        set(&net.join("ipv6/conf/all/forwarding"), "1")?;
    }
    Ok(())
}

/// Has an interface of the overlay not take routes from whoever advertises them.
pub(super) fn ignore_advertisements(link: &str) {
    let path: PathBuf = Path::new(NET).join("ipv6/conf").join(link).join("accept_ra");
    if path.exists()
        && let Err(error) = set(&path, "0")
    {
        tracing::debug!(%error, "the interface may take routes from others");
    }
}

/// Writes a setting unless it is so already: it may be right and not ours to write.
fn set(path: &Path, value: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|known| known.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
