//! The kinds of ways between nodes.

use std::fmt;
use std::str::FromStr;

/// How packets of pods get to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Backend {
    /// Wrapped into UDP (RFC 7348): works wherever nodes reach each other.
    #[default]
    Vxlan,
    /// By plain routes: for nodes that are all on one link.
    HostGw,
    /// Encrypted, where the kernel has WireGuard.
    WireGuard,
    /// Somebody else's matter.
    None,
}

/// All of them with their names; of two the first is shown, and the other is that of K3s.
const NAMES: [(&str, Backend); 5] = [
    ("vxlan", Backend::Vxlan),
    ("host-gw", Backend::HostGw),
    ("wireguard", Backend::WireGuard),
    ("wireguard-native", Backend::WireGuard),
    ("none", Backend::None),
];

/// There is no backend of this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no way between nodes called `{0}`; there are vxlan, host-gw, wireguard and none")]
pub struct UnknownBackend(String);

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, backend)| *backend).ok_or_else(|| UnknownBackend(text.to_owned()))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, backend)| backend == self).map_or("none", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_have_the_names_that_users_of_k3s_know() {
        for name in ["vxlan", "host-gw", "wireguard", "none"] {
            assert_eq!(name.parse::<Backend>().map(|backend| backend.to_string()), Ok(name.to_owned()));
        }
        assert_eq!("wireguard-native".parse(), Ok(Backend::WireGuard));
        assert!("udp".parse::<Backend>().is_err_and(|error| error.to_string().contains("host-gw")));
    }
}
