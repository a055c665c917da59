//! The codec against the kernel, and against what nft makes of what the kernel then holds. Each test has a network namespace of its
//! own, which goes with its thread; without the right to make one there is nothing to test.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use kiln_network::nft::{
    Base, Batch, Element, Family, Field, Hook, Key, Kind, NftError, Operator, Reject, Rule, Set, SetRef, Socket, Table,
    Type, Verdict, ct_state, fib_type,
};
use nix::sched::{CloneFlags, unshare};

/// Whether this thread now has a namespace of its own.
fn alone() -> bool {
    let done = unshare(CloneFlags::CLONE_NEWNET);
    if let Err(error) = done {
        eprintln!("skipped: no network namespace: {error}");
    }
    done.is_ok()
}

/// What nft lists, without counters' values.
fn listed() -> String {
    let output = Command::new("nft").args(["-s", "list", "ruleset"]).output().expect("nft runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The lines of a listing, without indentation and braces.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty() && line != "}").collect()
}

fn dispatch() -> [Field; 3] {
    [Field::Ipv4Destination, Field::Protocol, Field::DestinationPort]
}

fn endpoint(last: u8, port: u16) -> Key {
    Key::from(Ipv4Addr::new(10, 42, 0, last)).port(port)
}

#[test]
fn rules_and_sets_are_listed_as_they_were_said() {
    if !alone() {
        return;
    }
    let table = Table::new(Family::Ip, "t");
    let mut batch = Batch::new();
    batch.recreate_table(&table);
    batch.add_set(&table, &Set::verdicts("services", &[Type::Ipv4, Type::Protocol, Type::Port]));
    batch.add_set(&table, &Set::new("local", &[Type::Ipv4]));
    let ranges = Set::new("ranges", &[Type::Ipv4]).intervals();
    batch.add_set(&table, &ranges);
    let pairs = Set::new("pairs", &[Type::Ipv4, Type::Protocol, Type::Port]).intervals();
    batch.add_set(&table, &pairs);
    batch.add_set(&table, &Set::new("sticky", &[Type::Ipv4]).dynamic(Duration::from_secs(10), 100));
    batch.add_base_chain(&table, "nat", &Base { kind: Kind::Nat, hook: Hook::Prerouting, priority: -100 });
    batch.add_base_chain(&table, "post", &Base { kind: Kind::Nat, hook: Hook::Postrouting, priority: 100 });
    batch.add_base_chain(&table, "in", &Base { kind: Kind::Filter, hook: Hook::Input, priority: 0 });
    batch.add_chain(&table, "svc");
    batch.add_elements(&table, "local", [Ipv4Addr::new(10, 0, 0, 1).into()]);
    batch.add_ranges(
        &table,
        &ranges,
        [Element::network("10.1.0.0".parse().unwrap(), 16), Ipv4Addr::new(10, 3, 0, 1).into()],
    );
    let part = |address: [u8; 4], port| Key::from(Ipv4Addr::from(address)).protocol(6).port(port);
    batch.add_ranges(&table, &pairs, [Element::range(part([10, 1, 0, 0], 80), part([10, 1, 255, 255], 90))]);
    let key = Key::from(Ipv4Addr::new(10, 43, 0, 1)).protocol(6).port(443);
    batch.add_elements(&table, "services", [Element::new(key).verdict(Verdict::Goto("svc".to_owned()))]);
    batch.add_rule(&table, "nat", &Rule::new().vmap(&dispatch(), "services"));
    batch.add_rule(&table, "nat", &Rule::new().is(Field::DestinationType, fib_type::LOCAL).set_mark(0x4000));
    let ends = SetRef::own(
        Set::map("", &[Type::Integer], &[Type::Ipv4, Type::Port]),
        vec![
            Element::new(Key::new().number(0)).data(endpoint(1, 80)),
            Element::new(Key::new().number(1)).data(endpoint(2, 80)),
        ],
    );
    batch.add_rule(&table, "svc", &Rule::new().update("sticky", &[Field::Ipv4Source]));
    batch.add_rule(&table, "svc", &Rule::new().protocol(6).dnat_map(Family::Ip, &[Field::Random(2)], ends));
    let masquerade = Rule::new().has_any(Field::Mark, 0x4000).clear_mark(0x4000).masquerade().comment("to outside");
    batch.add_rule(&table, "post", &masquerade);
    batch.add_rule(
        &table,
        "in",
        &Rule::new().has_any(Field::CtState, ct_state::NEW).in_set(&[Field::Ipv4Source], "ranges").counter().drop(),
    );
    batch.add_rule(
        &table,
        "in",
        &Rule::new().in_set(&dispatch(), "pairs").reject(Reject::port_unreachable(Family::Ip)),
    );
    let network: IpAddr = "192.168.0.0".parse().unwrap();
    batch.add_rule(&table, "in", &Rule::new().network(Field::Ipv4Source, Operator::Ne, network, 20).accept());
    Socket::open().unwrap().apply(&batch).unwrap();

    let listed = lines(&listed());
    for expected in [
        "type ipv4_addr . inet_proto . inet_service : verdict",
        "elements = { 10.43.0.1 . tcp . 443 : goto svc }",
        "elements = { 10.1.0.0/16, 10.3.0.1 }",
        "elements = { 10.1.0.0/16 . tcp . 80-90 }",
        "flags dynamic,timeout",
        "timeout 10s",
        "ip daddr . meta l4proto . th dport vmap @services",
        "fib daddr type local meta mark set meta mark | 0x00004000",
        "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.42.0.1 . 80, 1 : 10.42.0.2 . 80 }",
        "update @sticky { ip saddr }",
        "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark & 0xffffbfff masquerade fully-random comment \"to outside\"",
        "ct state new ip saddr @ranges counter drop",
        "ip daddr . meta l4proto . th dport @pairs reject",
        "ip saddr != 192.168.0.0/20 accept",
    ] {
        assert!(listed.iter().any(|line| line == expected), "{expected}\nis not in\n{}", listed.join("\n"));
    }
}

#[test]
fn a_refused_batch_changes_nothing_and_names_what_was_refused() {
    if !alone() {
        return;
    }
    let (table, mut socket) = (Table::new(Family::Inet, "t"), Socket::open().unwrap());
    let mut batch = Batch::new();
    batch.add_table(&table);
    batch.add_chain(&table, "a");
    batch.add_rule(&table, "a", &Rule::new().jump("nowhere"));
    batch.add_elements(&table, "no-set", [Ipv4Addr::LOCALHOST.into()]);
    let error = socket.apply(&batch).unwrap_err();
    assert!(matches!(&error, NftError::Refused { others: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("to add a rule to chain a in table t (inet)"), "{error}");
    assert_eq!(listed(), "");
    // The next batch is not confused by what was left of this one.
    let mut batch = Batch::new();
    batch.add_table(&table);
    batch.add_chain(&table, "a");
    socket.apply(&batch).unwrap();
    assert_eq!(socket.chains(&table).unwrap(), ["a"]);
    let mut batch = Batch::new();
    batch.delete_chain(&table, "b");
    assert!(socket.apply(&batch).unwrap_err().is_missing());
}

#[test]
fn elements_come_and_go_one_by_one_and_can_be_read() {
    if !alone() {
        return;
    }
    let (table, mut socket) = (Table::new(Family::Ip6, "t"), Socket::open().unwrap());
    let set = Set::map("m", &[Type::Ipv6], &[Type::Ipv6, Type::Port]).dynamic(Duration::from_secs(600), 1000);
    assert_eq!(socket.elements(&table, "m").unwrap(), []);
    let address = |last: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let element = |last: u16| Element::from(address(last)).data(Key::from(address(last + 1)).port(80));
    let mut batch = Batch::new();
    batch.add_table(&table);
    batch.add_set(&table, &set);
    batch.add_elements(&table, "m", (0..100).map(element));
    batch.add_elements(&table, "m", [Element { expires: Some(Duration::from_secs(30)), ..element(200) }]);
    socket.apply(&batch).unwrap();
    let mut batch = Batch::new();
    batch.delete_elements(&table, "m", (1..100).map(|last| Element::from(address(last))));
    socket.apply(&batch).unwrap();
    let mut held = socket.elements(&table, "m").unwrap();
    held.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(held.iter().map(|held| held.key.clone()).collect::<Vec<_>>(), [address(0).into(), address(200).into()]);
    assert_eq!(held[1].data, Some(Key::from(address(201)).port(80)));
    assert!(held[1].expires.is_some_and(|left| left <= Duration::from_secs(30)), "{held:?}");
    assert!(held[0].expires.is_some_and(|left| left > Duration::from_secs(500)), "{held:?}");
    assert_eq!(socket.sets(&table).unwrap(), ["m"]);
}

#[test]
fn ranges_of_a_set_come_and_go() {
    if !alone() {
        return;
    }
    let (table, mut socket) = (Table::new(Family::Ip, "t"), Socket::open().unwrap());
    let set = Set::new("r", &[Type::Ipv4]).intervals();
    let network = |text: &str, prefix| Element::network(text.parse().unwrap(), prefix);
    let mut batch = Batch::new();
    batch.add_table(&table);
    batch.add_set(&table, &set);
    batch.add_ranges(&table, &set, [network("10.0.0.0", 24), network("10.0.1.0", 24), network("255.255.255.255", 32)]);
    socket.apply(&batch).unwrap();
    let mut batch = Batch::new();
    batch.delete_ranges(&table, &set, [network("10.0.0.0", 24), network("255.255.255.255", 32)]);
    socket.apply(&batch).unwrap();
    assert!(listed().contains("elements = { 10.0.1.0/24 }"), "{}", listed());
}
