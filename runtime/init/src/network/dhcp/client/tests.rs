//! A client that is handed time and packets.

use super::super::packet::tests::server_packet;
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn answer(kind: u8, xid: u32, lease: u32) -> Incoming {
    let extra =
        [&[1u8, 4, 255, 255, 255, 0, 54, 4, 10, 0, 2, 2, 3, 4, 10, 0, 2, 2, 51, 4][..], &lease.to_be_bytes()].concat();
    Incoming::decode(&server_packet(kind, xid, MAC, OWN, &extra)).expect("valid")
}

fn kind(action: &Action) -> u8 {
    match action {
        Action::Send(bytes, _) => bytes[242],
        other => panic!("not a packet: {other:?}"),
    }
}

fn bound(lease: u32) -> Client {
    let mut client = Client::new(MAC, "n", 0x100, s(0));
    assert_eq!(kind(&client.tick(s(0))[0]), 1);
    assert_eq!(kind(&client.receive(answer(2, 0x100, lease), s(0))[0]), 3);
    let actions = client.receive(answer(5, 0x100, lease), s(0));
    assert!(matches!(&actions[..], [Action::Configure(l)] if l.address == OWN && l.prefix == 24));
    client
}

#[test]
fn discover_offer_request_ack_gives_a_lease() {
    let client = bound(3600);
    let lease = client.lease().expect("bound");
    assert_eq!(lease.routes, [(Ipv4Addr::UNSPECIFIED, 0, SERVER)]);
    assert_eq!(client.due(), s(1800), "T1 is half of the lease");
}

#[test]
fn an_unanswered_discover_is_repeated_with_back_off() {
    let mut client = Client::new(MAC, "n", 0x100, s(0));
    let mut sent = Vec::new();
    let mut now = s(0);
    while now < s(40) {
        assert_eq!(kind(&client.tick(now)[0]), 1);
        sent.push(now.as_secs());
        now = client.due();
    }
    assert_eq!(sent, [0, 1, 3, 7, 15, 31]);
}

#[test]
fn a_lease_is_renewed_at_its_server_then_by_anyone_then_lost() {
    let mut client = bound(3600);
    assert!(client.tick(s(1000)).is_empty());
    assert!(matches!(client.tick(s(1800))[0], Action::Send(_, Some(SERVER))));
    let rebinding = client.tick(s(3150));
    assert!(matches!(rebinding[0], Action::Send(_, None)));
    let lost = client.tick(s(3600));
    assert_eq!(lost[0], Action::Deconfigure);
    assert_eq!(kind(&lost[1]), 1);
}

#[test]
fn a_renewal_that_changes_nothing_configures_nothing() {
    let mut client = bound(3600);
    client.tick(s(1800));
    assert!(client.receive(answer(5, 0x100, 3600), s(1801)).is_empty());
    assert_eq!(client.due(), s(1801 + 1800));
}

#[test]
fn a_refused_renewal_takes_the_address_off_and_starts_over() {
    let mut client = bound(3600);
    client.tick(s(1800));
    let actions = client.receive(answer(6, 0x100, 3600), s(1801));
    assert_eq!(actions[0], Action::Deconfigure);
    assert_eq!(kind(&actions[1]), 1);
    assert!(client.lease().is_none());
}

#[test]
fn answers_to_others_are_ignored() {
    let mut client = Client::new(MAC, "n", 0x100, s(0));
    client.tick(s(0));
    assert!(client.receive(answer(2, 0x101, 60), s(0)).is_empty());
    let mut other = answer(2, 0x100, 60);
    other.mac = [2, 0, 0, 0, 0, 2];
    assert!(client.receive(other, s(0)).is_empty());
}

#[test]
fn a_replugged_cable_asks_again_and_gives_up_a_foreign_address() {
    let mut client = bound(86_400);
    client.link_restored(s(100));
    assert!(matches!(client.tick(s(100))[0], Action::Send(_, None)));
    let mut now = client.due();
    while now < s(220) {
        client.tick(now);
        now = client.due();
    }
    assert_eq!(client.tick(s(220))[0], Action::Deconfigure);
}
