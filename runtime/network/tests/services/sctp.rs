//! Services of SCTP. The first packet of an association is written by hand and taken from the wire, so that it is seen where it goes
//! also by a kernel that has SCTP in its connection tracking only, and no sockets for it.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::json;

use crate::world::{ECHO, World, cluster_ip, pods};

/// Among the protocols of IP.
const SCTP: u8 = 132;
const HEADER: usize = 20;

/// CRC-32C, which is SCTP's checksum (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

/// The checksum that an SCTP packet is to have, which counts as zero itself.
fn checksum(packet: &[u8]) -> [u8; 4] {
    let mut packet = packet.to_vec();
    packet[8..12].fill(0);
    crc32c(&packet).to_le_bytes()
}

/// The packet with INIT (RFC 9260, 3.3.2) that asks a port for an association, in one of IPv4; the kernel fills in who sends it.
fn init(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut sctp = [&40_000_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8]].concat();
    // INIT without flags, its length; tag, window, streams out and in, first number.
    sctp.extend([1, 0, 0, 20]);
    sctp.extend([0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = checksum(&sctp);
    sctp[8..12].copy_from_slice(&sum);
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, SCTP, 0, 0, 0, 0, 0, 0];
    packet.extend(to.octets());
    packet.extend(sctp);
    packet
}

/// Takes all packets that come to whoever opens it.
fn tap() -> OwnedFd {
    let tap = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let tap = tap.expect("a packet socket");
    setsockopt(&tap, sockopt::ReceiveTimeout, &TimeVal::seconds(10)).expect("a limit");
    tap
}

#[test]
fn an_association_is_led_to_an_endpoint_with_a_checksum_that_holds() {
    let Some(mut world) = World::new("sctp") else { return };
    let mut spec = cluster_ip("10.43.0.10");
    spec["ports"] = json!([{"name": "sctp", "port": 80, "protocol": "SCTP"}]);
    world.service("web", spec, json!({}));
    let ports = json!([{"name": "sctp", "port": ECHO, "protocol": "SCTP"}]);
    world.slice("web-1", "web", "IPv4", &ports, &pods(&["a"]));
    world.start();
    assert!(world.listed().contains("10.43.0.10 . sctp . 80 : goto service-ns/web/sctp/sctp"), "{}", world.listed());
    let tap = world.within("a", tap);
    world.within("c", || {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
        let raw = raw.expect("a raw socket");
        let packet = init(Ipv4Addr::new(10, 43, 0, 10), 80);
        sendto(raw.as_raw_fd(), &packet, &SockaddrIn::new(10, 43, 0, 10, 0), MsgFlags::empty()).expect("it is sent");
    });
    let mut buffer = [0; 1500];
    let packet = loop {
        let length = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("the packet");
        if length > HEADER + 12 && buffer[9] == SCTP {
            break &buffer[..length];
        }
    };
    let sctp = &packet[HEADER..];
    assert_eq!((&packet[12..16], &packet[16..20]), (&[10, 42, 0, 4][..], &[10, 42, 0, 2][..]), "from c to a");
    assert_eq!(sctp[2..4], ECHO.to_be_bytes());
    assert_eq!(sctp[8..12], checksum(sctp));
}
