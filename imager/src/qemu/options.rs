//! What the user chooses about a run.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

use sha2::{Digest, Sha256};

/// What the user chooses about a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The image or card.
    pub image: PathBuf,
    /// Ports of this machine that lead to the guest's.
    pub forward: Vec<Forward>,
    /// Memory as QEMU writes it; absent: the board's.
    pub memory: Option<String>,
    /// Bytes that the disk has at least, so that STATE has room to grow.
    pub disk_size: u64,
    /// The name of an Ethernet shared with other runs.
    pub lan: Option<String>,
    /// The board's serial number; the network cards' addresses follow from it.
    pub serial: String,
    /// Where the serial console is recorded.
    pub serial_log: Option<PathBuf>,
    /// Where QEMU's monitor is offered, if anywhere.
    pub monitor: Option<PathBuf>,
    /// Show no console and read no keys.
    pub headless: bool,
    /// Leave the image as it is: changes go to an overlay that is deleted after the run.
    pub snapshot: bool,
    /// Give the board a network card that reaches the world through this machine.
    pub network: bool,
    /// Let this machine's own processor run the guest, where it can.
    pub kvm: bool,
}

/// A TCP port of this machine that leads to one of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1 of this machine.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("`{text}` is no port number (1 to 65535)")),
        };
        let (host, guest) = text.split_once(':').ok_or("write it as HOST:GUEST, such as 6443:6443")?;
        Ok(Self { host: port(host)?, guest: port(guest)? })
    }
}

/// The serial number of an image that is run without one: the same file is the same board every time.
pub fn default_serial(image: &Path) -> String {
    let path = image.canonicalize().unwrap_or_else(|_| image.to_owned());
    hex::encode(&digest("kiln-serial", path.to_string_lossy().as_bytes())[..8])
}

/// Checks a serial number: what a device tree, SMBIOS and QEMU's option syntax all take.
///
/// # Errors
/// A sentence for the person who typed it.
pub fn parse_serial(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=32).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("a serial number has 1 to 32 letters, digits and hyphens".to_owned())
    }
}

/// Parses an amount of memory or disk such as `512M` or `4G` into bytes.
///
/// # Errors
/// A sentence for the person who typed it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write it as 512M or 4G");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    if number == 0 || number > (1 << 12) * 1024 {
        return Err(wrong());
    }
    Ok(number << shift)
}

/// The hardware address of a board's network card: locally unique because the serial number is.
pub(super) fn mac(serial: &str, card: u8) -> String {
    let hash = digest("kiln-mac", format!("{serial}\0{card}").as_bytes());
    format!("52:54:00:{:02x}:{:02x}:{:02x}", hash[0], hash[1], hash[2])
}

/// The multicast group and port that stand for a LAN's name.
pub(super) fn lan_group(name: &str) -> (Ipv4Addr, u16) {
    let hash = digest("kiln-lan", name.as_bytes());
    // 239.192.0.0/14 is for private use within an organisation (RFC 2365).
    let group = Ipv4Addr::new(239, 192 | (hash[0] & 3), hash[1], hash[2]);
    (group, 20_000 + u16::from_be_bytes([hash[3], hash[4]]) % 20_000)
}

fn digest(purpose: &str, what: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update([0]).chain_update(what).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_two_ports() {
        assert_eq!("8443:6443".parse(), Ok(Forward { host: 8443, guest: 6443 }));
        for wrong in ["6443", "0:1", "1:0", "x:1", "1:70000"] {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("4G"), Ok(4 << 30));
        for wrong in ["4", "G", "0G", "-1G", "99999999G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_serial_cannot_carry_an_option() {
        assert!(parse_serial("10000000abcdef01").is_ok());
        assert!(parse_serial("a,uuid=x").is_err());
        assert!(parse_serial("").is_err());
    }

    #[test]
    fn two_cards_of_a_board_and_two_boards_differ() {
        assert_ne!(mac("a", 0), mac("a", 1));
        assert_ne!(mac("a", 0), mac("b", 0));
        assert_eq!(mac("a", 0), mac("a", 0));
    }

    #[test]
    fn a_lan_is_a_private_multicast_group() {
        let (group, port) = lan_group("shop");
        assert!(group.is_multicast() && group.octets()[0] == 239 && port >= 20_000);
        assert_eq!(lan_group("shop"), (group, port));
        assert_ne!(lan_group("lab"), (group, port));
    }
}
