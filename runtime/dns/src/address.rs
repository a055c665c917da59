//! The service's addresses on the node: each on the loopback interface, so that what pods send there ends at this node without
//! any translation, and nobody outside sees it. Spoken to the kernel by rtnetlink(7).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

const LINK: &str = "lo";
/// What IPv4 addresses are labelled with, so that those of an earlier run are known.
const LABEL: &str = "lo:kiln-dns";

// linux/rtnetlink.h, linux/netlink.h, linux/if_addr.h.
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const REQUEST_ALL: u16 = 0x1 | 0x300;
const DONE: u16 = 3;
const REQUEST_WITH_ACK: u16 = 0x1 | 0x4;
const CREATE_OR_REPLACE: u16 = 0x400 | 0x100;
const ERROR: u16 = 2;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
const ATTRIBUTE_LABEL: u16 = 3;
const ATTRIBUTE_PROTOCOL: u16 = 11;
/// What IPv6 addresses are marked with, which have no labels: any number that nobody else takes.
const PROTOCOL: u8 = 0x6b;
const NO_DUPLICATE_DETECTION: u8 = 0x02;
const HEADER: usize = 16;

/// Puts an address on the node, if it is not there.
///
/// # Errors
/// What the kernel says: usually that the caller is not root.
pub(crate) fn add(address: IpAddr) -> io::Result<()> {
    request(NEW_ADDRESS, CREATE_OR_REPLACE, address)
}

/// Takes an address off the node; one that is not there is no error.
///
/// # Errors
/// What the kernel says.
pub(crate) fn remove(address: IpAddr) -> io::Result<()> {
    match request(DELETE_ADDRESS, 0, address) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// The addresses that this or an earlier run put on the node. Those of IPv6 are known on Linux 5.18 and later.
pub(crate) fn left() -> BTreeSet<IpAddr> {
    let mut found = marked().unwrap_or_default();
    let Ok(all) = getifaddrs() else { return found };
    let own = all.filter(|interface| interface.interface_name == LABEL);
    found.extend(own.filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip()))));
    found
}

/// The IPv6 addresses of the loopback interface that have our mark.
fn marked() -> io::Result<BTreeSet<IpAddr>> {
    let socket = open()?;
    let mut request = vec![0; HEADER];
    request.extend([AddressFamily::Inet6 as u8, 0, 0, 0, 0, 0, 0, 0]);
    seal(&mut request, GET_ADDRESS, REQUEST_ALL);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let (link, mut found, mut buffer) = (if_nametoindex(LINK)?, BTreeSet::new(), vec![0; 32 << 10]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body)) = next(&mut rest) {
            match kind {
                DONE | ERROR => return Ok(found),
                _ => found.extend(own(body, link)),
            }
        }
    }
}

/// The next message: its type, and what follows its header.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([message[4], message[5]]), &message[HEADER..]))
}

/// The address in `struct ifaddrmsg` and what follows it, if it is of this link and has our mark.
fn own(body: &[u8], link: u32) -> Option<IpAddr> {
    let (fixed, mut rest) = body.split_at_checked(8)?;
    if fixed[4..] != link.to_ne_bytes() {
        return None;
    }
    let (mut address, mut is_ours) = (None, false);
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        match u16::from_ne_bytes([c, d]) {
            ATTRIBUTE_ADDRESS => address = <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
            ATTRIBUTE_PROTOCOL => is_ours = value == [PROTOCOL],
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    address.filter(|_| is_ours)
}

fn open() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?)
}

fn request(kind: u16, flags: u16, address: IpAddr) -> io::Result<()> {
    let message = message(kind, REQUEST_WITH_ACK | flags, address, if_nametoindex(LINK)?);
    let socket = open()?;
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut reply = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    let reply = &reply[..length];
    let code = reply.get(HEADER..HEADER + 4).and_then(|octets| Some(i32::from_ne_bytes(octets.try_into().ok()?)));
    match (reply.get(4..6).map(|kind| kind == ERROR.to_ne_bytes()), code) {
        (Some(true), Some(0)) => Ok(()),
        (Some(true), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none")),
    }
}

fn message(kind: u16, flags: u16, address: IpAddr, link: u32) -> Vec<u8> {
    let (family, prefix) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut out = vec![0; HEADER];
    out.extend([family as u8, prefix, NO_DUPLICATE_DETECTION, 0]);
    out.extend(link.to_ne_bytes());
    let mut attribute = |kind: u16, value: &[u8]| {
        out.extend((value.len() as u16 + 4).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    match address {
        IpAddr::V4(v4) => {
            attribute(ATTRIBUTE_LOCAL, &v4.octets());
            attribute(ATTRIBUTE_ADDRESS, &v4.octets());
            attribute(ATTRIBUTE_LABEL, format!("{LABEL}\0").as_bytes());
        }
        IpAddr::V6(v6) => {
            attribute(ATTRIBUTE_LOCAL, &v6.octets());
            attribute(ATTRIBUTE_PROTOCOL, &[PROTOCOL]);
        }
    }
    seal(&mut out, kind, flags);
    out
}

/// Fills in a message's header.
fn seal(message: &mut [u8], kind: u16, flags: u16) {
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[8] = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_known_again() {
        if !nix::unistd::geteuid().is_root() {
            return println!("needs root");
        }
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
            let ours: BTreeSet<IpAddr> = ["10.43.0.10", "fd00:43::a"].map(|text| text.parse().expect("one")).into();
            ours.iter().for_each(|address| add(*address).expect("put there"));
            let left = left();
            ours.iter().for_each(|address| remove(*address).expect("taken away"));
            (ours, left, super::left())
        });
        let (ours, left, afterwards) = thread.join().expect("it ended by itself");
        assert_eq!((left, afterwards), (ours, BTreeSet::new()));
    }
}
