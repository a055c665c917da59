//! NetworkPolicies by their traffic. The rows of each table are who still reaches whom. Root only.

#[path = "../netns/mod.rs"]
mod netns;
mod world;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use netns::is_root;
use serde_json::{Value, json};
use world::{ANSWER, PATIENCE, PODS, TCP, Way, World, address};

fn is_in_x(name: &str) -> bool {
    name.starts_with('x')
}

#[test]
fn what_comes_in_is_what_policies_name() {
    if !is_root() {
        return;
    }
    for is_v6 in [false, true] {
        let world = World::new(is_v6);
        world.expect("without policies all is open", |_| true);

        world.policy("deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
        let denied = |(from, to, _): Way| from == "node" || !is_in_x(to);
        world.expect("only the node reaches what is isolated", denied);

        let peers = json!([{"namespaceSelector": {"matchLabels": {"team": "y"}}, "podSelector": {"matchLabels": {"app": "b"}}}]);
        let rule = json!({"from": peers, "ports": [{"protocol": "TCP", "port": 80}]});
        world.policy(
            "allow",
            json!({"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"], "ingress": [rule]}),
        );
        world.expect("a pod of another node reaches one port", |way| denied(way) || way == ("far", "xa", 80));

        world.api.edit("/api/v1/namespaces/y/pods/ya", |pod| pod["metadata"]["labels"]["app"] = "b".into());
        world.expect("its labels let one more in", |way| {
            denied(way) || (is_in(&["far", "ya"], way.0) && way.1 == "xa" && way.2 == 80)
        });

        world.api.edit("/api/v1/namespaces/y", |namespace| namespace["metadata"]["labels"]["team"] = "z".into());
        world.expect("the namespace's labels shut both out", denied);

        world.delete_policy("deny");
        world.delete_policy("allow");
        world.expect("all is open again", |_| true);
        let tables = world.nets.shown("node", &["nft", "list", "tables"]);
        assert!(!tables.contains("kiln-policy"), "{tables}");
    }
}

fn is_in(names: &[&str], name: &str) -> bool {
    names.contains(&name)
}

#[test]
fn what_goes_out_is_what_policies_name() {
    if !is_root() {
        return;
    }
    let world = World::new(false);
    let out = |rules: Value| json!({"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"], "egress": rules});
    world.policy("out", out(json!([])));
    world.expect("nothing goes out", |(from, ..)| from != "xa");

    world.policy(
        "out",
        out(json!([{"to": [{"podSelector": {}}, {"namespaceSelector": {}}], "ports": [{"port": "web"}]}])),
    );
    let web = |to: &str| PODS.iter().find(|pod| pod.0 == to).map(|pod| pod.4);
    world.expect("a name leads to the port of each pod", |(from, to, port)| from != "xa" || web(to) == Some(port));

    let block = |except: Value| out(json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": except}}]}]));
    // It is there before the API has its address.
    let path = "/api/v1/namespaces/x/pods/xb";
    let known = world.api.object(path).expect("a pod");
    world.api.edit(path, |pod| pod["status"] = json!({"phase": "Pending"}));
    let isolated = |(from, to, port): Way| {
        (from != "xa" || web(to) == Some(port)) && from != "xb" && (to != "xb" || from == "node")
    };
    world.expect("who is not known yet is isolated", isolated);
    world.api.put(path, known);

    world.policy("out", block(json!(["10.42.0.0/24", "10.42.0.3/32"])));
    world.expect("but for the node's pods", |(from, to, _)| from != "xa" || is_in(&["far", "out"], to));

    world.policy("out", out(json!([{"ports": [{"port": 80, "endPort": 81}, {"protocol": "UDP", "port": 9}]}])));
    world.expect("a range of TCP to everyone", |(from, _, port)| from != "xa" || TCP.contains(&port));
}

#[test]
fn policies_stay_in_force_while_nobody_sees_to_them_and_addresses_may_go_to_other_pods() {
    if !is_root() {
        return;
    }
    let mut world = World::new(false);
    let from = json!([{"podSelector": {"matchLabels": {"app": "b"}}}, {"ipBlock": {"cidr": "192.168.9.0/24"}}]);
    world.policy("in", json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": from}]}));
    let open = |(from, to, _): Way| to != "xa" || is_in(&["xb", "out", "node"], from);
    world.expect("a neighbour and the outside", open);
    world.stop();
    world.expect("nobody sees to it", open);
    world.api.remove("/api/v1/namespaces/x/pods/xb");
    world.start();
    let gone = |(from, to, _): Way| from == "xb" || (to == "xb" && from != "node");
    world.expect("the neighbour is gone", |way| open(way) && !gone(way));
    // Its address is that of a pod of another namespace for a moment, and then its own again.
    let stranger = json!({
        "metadata": {"name": "stranger", "namespace": "y", "labels": {"app": "b"}},
        "spec": {"nodeName": "node", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.3"}]},
    });
    world.api.put("/api/v1/namespaces/y/pods/stranger", stranger);
    world.put_pod("xb");
    world.expect("two have the address", open);
    world.api.remove("/api/v1/namespaces/y/pods/stranger");
    world.expect("one has it", open);
    world.policy("in", json!({"podSelector": {"matchLabels": {"app": "nobody"}}}));
    world.expect("the policy selects nobody", |_| true);
}

/// A connection from one pod to another, at which each byte is answered.
fn connection(world: &World, from: &str, to: &'static str) -> TcpStream {
    let target = SocketAddr::new(address(to, world.is_v6), 84);
    let (tell, ready) = mpsc::channel();
    world.nets.within(to, move || {
        let listener = TcpListener::bind(target).expect("a port");
        tell.send(()).expect("somebody waits");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    ready.recv().expect("a port");
    let connect = move || TcpStream::connect_timeout(&target, PATIENCE).expect("a connection");
    world.nets.within(from, connect).join().expect("connected")
}

/// Whether a byte is answered in time.
fn is_alive(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).expect("a time");
    stream.write_all(b"k").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn a_policy_holds_for_connections_from_before_it() {
    if !is_root() {
        return;
    }
    for is_v6 in [false, true] {
        let world = World::new(is_v6);
        let (mut stays, mut ends) = (connection(&world, "xa", "ya"), connection(&world, "xb", "xa"));
        assert!(is_alive(&mut stays, PATIENCE) && is_alive(&mut ends, PATIENCE));
        world.policy(
            "p",
            json!({"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"], "ingress": []}),
        );
        world.expect("nobody comes in", |(from, to, _)| to != "xa" || from == "node");
        assert!(!is_alive(&mut ends, ANSWER), "it is cut off");
        assert!(is_alive(&mut stays, PATIENCE), "what the pod itself began goes on");
        world.delete_policy("p");
        // What was sent meanwhile is sent again by TCP.
        assert!(is_alive(&mut ends, PATIENCE), "it goes on once it may");
    }
}
