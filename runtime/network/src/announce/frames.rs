//! Frames that tell all neighbours which hardware address an address has: gratuitous ARP (RFC 5227, 3) and unsolicited neighbour
//! advertisements (RFC 4861, 7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rtnetlink::Mac;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// What is told holds over what was known.
const OVERRIDE: u8 = 0x20;
/// All nodes on the link.
const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The frames for an address: of ARP a request and a reply, since systems differ in what they believe.
pub(super) fn announcements(mac: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => vec![arp(mac, v4, 1), arp(mac, v4, 2)],
        IpAddr::V6(v6) => vec![advertisement(mac, v6)],
    }
}

fn arp(Mac(mac): Mac, address: Ipv4Addr, operation: u8) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend(ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend(if operation == 1 { [0; 6] } else { [0xff; 6] });
    frame.extend(address.octets());
    frame
}

fn advertisement(Mac(mac): Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    // The option of the target's link-layer address.
    message.extend([2, 1]);
    message.extend(mac);
    let length = u8::try_from(message.len()).unwrap_or_default();
    let pseudo = [&address.octets()[..], &ALL.octets(), &[0, 0, 0, length, 0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c, d] = ALL.octets();
    let mut frame = [[0x33, 0x33, a, b, c, d], mac].concat();
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL.octets());
    frame.extend(message);
    frame
}

/// The checksum of the internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Sends a frame out of an interface.
///
/// # Errors
/// What the kernel says.
#[allow(unsafe_code, reason = "the address of a packet socket is a structure of C")]
pub(super) fn send(link: u32, frame: &[u8]) -> io::Result<()> {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers go in, and the descriptor that comes out is nobody else's.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, kind, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all bits zero are a value of this structure of numbers.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    to.sll_ifindex = i32::try_from(link).unwrap_or_default();
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&frame[..6]);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
    // SAFETY: both pointers lead to as many bytes as are said, which live until the call is back.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_laid_out_as_the_standards_have_them() {
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let frame = &announcements(mac, IpAddr::from([192, 0, 2, 9]))[1];
        let expected = "ffffffffffff0200000000070806\
                        0001080006040002020000000007c0000209ffffffffffffc0000209";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(frame), expected.replace(char::is_whitespace, ""));
        let address: Ipv6Addr = "2001:db8::9".parse().expect("an address");
        let frame = &announcements(mac, address.into())[0];
        assert_eq!(
            hex(&frame[..22]),
            "333300000001020000000007\
                                       86dd6000000000203aff"
                .replace(char::is_whitespace, "")
        );
        // A checksum over itself is zero.
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, ICMPV6][..], &frame[54..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(hex(&frame[78..]), "0201020000000007");
    }
}
