//! The overlay by its traffic, between nodes that are network namespaces. Root only; without it there is nothing to see.

#[path = "../netns/mod.rs"]
mod netns;
mod world;

use std::path::Path;

use kiln_network::overlay::Backend;
use serde_json::json;

use netns::is_root;
use world::{World, path, v4, v6};

const THREE: [&[&str]; 3] = [&["192.168.7.1"], &["192.168.7.2"], &["192.168.7.3"]];
const BOTH: [&[&str]; 2] = [&["192.168.7.1", "fd00:7::1"], &["192.168.7.2", "fd00:7::2"]];

#[test]
fn pods_of_three_nodes_reach_each_other_through_vxlan_and_a_node_that_goes_leaves_nothing() {
    if !is_root() {
        return;
    }
    let mut world = World::new(Backend::Vxlan, 1500, &THREE);
    world.all_reach_each_other(v4);
    assert_eq!(world.mtu(0), Some(1450));
    world.until("conditions", |world| {
        (0..3).all(|number| world.condition(number) == Some(("False".to_owned(), "OverlayIsUp".to_owned())))
    });
    assert_eq!(world.shown(0, &["cat", "/proc/sys/net/ipv4/ip_forward"]).trim(), "1");

    // Someone else's route and one of ours that a hand removed.
    world.on_node(0, "route add 10.99.0.0/24 via 192.168.7.2\n");
    world.on_node(0, "route del 10.42.1.0/24\n");
    assert_eq!(world.reach(0, v4(1)), v4(0));

    world.api.remove(&path(1));
    let traces = |world: &World| {
        let commands: [&[&str]; 3] =
            [&["ip", "route"], &["bridge", "fdb", "show", "dev", "kiln.1"], &["ip", "neigh", "show", "dev", "kiln.1"]];
        commands.map(|command| world.shown(0, command)).concat()
    };
    world.until("no trace of the node", |world| {
        let traces = traces(world);
        !traces.contains("10.42.1.") && !traces.contains("dst 192.168.7.2")
    });
    assert_eq!(world.reach(0, v4(2)), v4(0));

    // Another one goes while this node's overlay does not run.
    world.stop(0);
    world.api.remove(&path(2));
    assert!(traces(&world).contains("10.42.2.0/24"), "ways stay while nobody looks after them");
    world.start(0);
    world.until("no trace of the other node", |world| !traces(world).contains("10.42.2."));
    assert!(traces(&world).contains("10.99.0.0/24"), "a route of somebody else stays");
}

#[test]
fn a_node_that_changes_its_address_is_followed_and_one_that_was_cut_off_is_back() {
    if !is_root() {
        return;
    }
    for backend in [Backend::Vxlan, Backend::HostGw] {
        let world = World::new(backend, 1500, &THREE[..2]);
        world.all_reach_each_other(v4);

        world.on_node(1, "address del 192.168.7.2/24 dev eth0\naddress add 192.168.7.77/24 dev eth0\n");
        world.readdress(1, &["192.168.7.77"]);
        world.all_reach_each_other(v4);

        world.on_node(1, "link set eth0 down\n");
        world.on_node(1, "link set eth0 up\n");
        world.all_reach_each_other(v4);
        world.on_switch("link set port1 down\n");
        world.on_switch("link set port1 up\n");
        world.all_reach_each_other(v4);
    }
}

#[test]
fn a_firewall_that_drops_what_is_passed_on_lets_pods_through_and_what_leaves_has_the_nodes_address() {
    if !is_root() {
        return;
    }
    let mut world = World::new(Backend::Vxlan, 1500, &THREE[..2]);
    world.all_reach_each_other(v4);
    world.on_switch("address add 192.168.7.254/24 dev br0\n");
    world.stop(0);
    let drops = "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    for command in ["add table ip filter", drops, "add rule ip filter FORWARD ip saddr 203.0.113.0/24 drop"] {
        world.shown(0, &[&["nft"], &*command.split(' ').collect::<Vec<_>>()].concat());
    }
    world.masquerade = true;
    world.start(0);
    world.all_reach_each_other(v4);
    assert_eq!(world.seen_outside(0), std::net::IpAddr::from([192, 168, 7, 1]));
    let rules = || world.shown(0, &["nft", "list", "chain", "ip", "filter", "FORWARD"]);
    let accepted = |rules: &str| rules.matches("accept").count();
    assert_eq!(accepted(&rules()), 2, "{}", rules());
    // Another run finds what the last one made.
    world.stop(0);
    world.start(0);
    world.until("the node is told of", |world| world.mtu(0).is_some());
    let found = world.shown(0, &["nft", "list", "chain", "ip", "filter", "FORWARD"]);
    assert!(accepted(&found) == 2 && found.contains("203.0.113.0/24"), "{found}");
    // A network of somebody else's has it all taken away.
    world.stop(0);
    world.give_up(0);
    let found = world.shown(0, &["nft", "list", "ruleset"]);
    assert!(accepted(&found) == 0 && found.contains("203.0.113.0/24") && !found.contains("kiln-masquerade"), "{found}");
}

#[test]
fn a_small_mtu_is_found_out_and_whole_packets_of_pods_pass() {
    if !is_root() {
        return;
    }
    let world = World::new(Backend::Vxlan, 1400, &THREE[..2]);
    world.until("the size of packets", |world| (0..2).all(|number| world.mtu(number) == Some(1350)));
    (0..2).for_each(|number| world.set_pod_mtu(number, 1350));
    world.all_reach_each_other(v4);
    // It changes while all run.
    for number in 0..2 {
        world.on_switch(&format!("link set port{number} mtu 1300\n"));
        world.on_node(number, "link set eth0 mtu 1300\n");
    }
    world.until("the size of packets", |world| (0..2).all(|number| world.mtu(number) == Some(1250)));
}

#[test]
fn both_address_families_go_over_either_and_by_plain_routes() {
    if !is_root() {
        return;
    }
    let only_v6: [&[&str]; 2] = [&["fd00:7::1"], &["fd00:7::2"]];
    for (backend, nodes, mtu) in
        [(Backend::Vxlan, BOTH, 1450), (Backend::Vxlan, only_v6, 1430), (Backend::HostGw, BOTH, 1500)]
    {
        let world = World::new(backend, 1500, &nodes);
        world.all_reach_each_other(v4);
        world.all_reach_each_other(v6);
        assert_eq!(world.mtu(0), Some(mtu), "{backend}");
    }
}

#[test]
fn wireguard_leads_to_other_nodes_where_the_kernel_has_it_and_where_not_the_node_says_so() {
    if !is_root() {
        return;
    }
    let world = World::new(Backend::WireGuard, 1500, &BOTH);
    // The kernel is asked for its module by the first node that makes its interface.
    world.until("conditions", |world| (0..2).all(|number| world.condition(number).is_some()));
    if !Path::new("/sys/module/wireguard").exists() {
        let failed = Some(("True".to_owned(), "OverlayFailed".to_owned()));
        world.until("a reason", |world| (0..2).all(|number| world.condition(number) == failed));
        return;
    }
    world.all_reach_each_other(v4);
    world.all_reach_each_other(v6);
    assert_eq!(world.mtu(0), Some(1420));
    world.on_node(1, "address del 192.168.7.2/24 dev eth0\naddress add 192.168.7.77/24 dev eth0\n");
    world.readdress(1, &["192.168.7.77"]);
    world.all_reach_each_other(v4);
    world.api.remove(&path(1));
    world.until("no way to the node", |world| !world.shown(0, &["ip", "route"]).contains("10.42.1."));
}

#[test]
fn a_range_that_two_nodes_have_is_told_and_the_others_go_on() {
    if !is_root() {
        return;
    }
    let mut world = World::new(Backend::Vxlan, 1500, &THREE);
    world.all_reach_each_other(v4);
    // The youngest comes back with the range of the second.
    world.stop(2);
    world.api.remove(&path(2));
    world.put_node(2, &["10.42.1.0/24".to_owned()]);
    world.start(2);
    world
        .until("a condition", |world| world.condition(2) == Some(("True".to_owned(), "OverlappingPodCIDR".to_owned())));
    assert_eq!(world.reach(0, v4(1)), v4(0));
    // It is given another one.
    world.api.edit(&path(2), |node| node["spec"]["podCIDRs"] = json!(["10.42.2.0/24"]));
    world.until("a condition", |world| world.condition(2).is_some_and(|(status, _)| status == "False"));
    world.all_reach_each_other(v4);
}
