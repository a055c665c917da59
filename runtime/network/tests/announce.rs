//! Load balancers' addresses by their traffic: two nodes and a client on one switch. Root only; without it there is nothing to see.

#[path = "netns/mod.rs"]
mod netns;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use kiln_network::announce::{self, ANNOUNCER};
use netns::{Namespaces, is_root};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 8080;
const SERVICE: &str = "/api/v1/namespaces/default/services/web";
const ADDRESSES: [&str; 2] = ["192.168.7.240", "fd00:7::240"];

struct World {
    api: FakeApi,
    nets: Namespaces,
    running: Vec<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    fn new() -> Self {
        let mut nets = Namespaces::new();
        nets.add("switch");
        nets.ip(
            "switch",
            "link set lo up\nlink add br0 type bridge\nlink set br0 up\naddress add 192.168.7.254/24 dev br0\naddress add fd00:7::fe/64 dev br0 nodad\n",
        );
        for number in 1..=2 {
            let name = format!("node{number}");
            nets.add(&name);
            let path = nets.path(&name);
            nets.ip(
                "switch",
                &format!("link add {name} type veth peer name eth0 netns {path}\nlink set {name} master br0 up\n"),
            );
            nets.ip(
                &name,
                &format!("link set lo up\nlink set eth0 up\naddress add 192.168.7.{number}/24 dev eth0\naddress add fd00:7::{number}/64 dev eth0 nodad\n"),
            );
            // As nodes have it whose pods have addresses of IPv6.
            let forward = || std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("root may");
            nets.within(&name, forward).join().expect("set");
            nets.within(&name, move || {
                // Of both families.
                let listener = TcpListener::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT)).expect("a port");
                for stream in listener.incoming() {
                    _ = stream.and_then(|mut stream| stream.write_all(&[number]));
                }
            });
        }
        Self { api: FakeApi::new(), nets, running: Vec::new() }
    }

    fn start(&mut self, number: u8) {
        let name = format!("node{number}");
        let pool = ADDRESSES.map(|address| address.parse::<IpAddr>().expect("an address"));
        let is_in_pool = Arc::new(move |address| pool.contains(&address));
        let config = announce::Config { node: name.clone(), is_in_pool };
        let (api, stop) = (self.api.clone(), CancellationToken::new());
        let end = stop.clone();
        let thread = self.nets.within(&name, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut informers = Informers::new(api.client());
                let announcing = announce::build(&mut informers, config, stop.clone());
                tokio::join!(announcing, informers.run(stop));
            });
        });
        self.running.push((end, thread));
    }

    fn announce(&self, node: &str, addresses: &[&str]) {
        let ingress: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let annotations = json!({ANNOUNCER: node});
        let meta = json!({"name": "web", "namespace": "default", "annotations": annotations});
        let status = json!({"loadBalancer": {"ingress": ingress}});
        self.api.put(SERVICE, json!({"metadata": meta, "spec": {"type": "LoadBalancer"}, "status": status}));
    }

    /// Who answers the client at an address.
    fn answers(&self, address: &str) -> Option<u8> {
        let to = SocketAddr::new(address.parse().expect("an address"), PORT);
        let ask = move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(500)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            let mut byte = [0];
            stream.read_exact(&mut byte).ok().map(|()| byte[0])
        };
        self.nets.within("switch", ask).join().expect("asked")
    }

    fn until(&self, address: &str, expected: Option<u8>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.answers(address);
            if found == expected {
                return;
            }
            let shown = || self.nets.shown("switch", &["ip", "neigh"]);
            assert!(Instant::now() < deadline, "{address}: {found:?} is not {expected:?}\n{}", shown());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (stop, thread) in self.running.drain(..) {
            stop.cancel();
            _ = thread.join();
        }
    }
}

#[test]
fn an_address_is_reached_at_the_node_that_announces_it_and_moves_with_it() {
    if !is_root() {
        return;
    }
    let mut world = World::new();
    world.announce("node1", &[ADDRESSES[0], ADDRESSES[1], "192.168.7.250"]);
    world.start(1);
    world.start(2);
    for address in ADDRESSES {
        world.until(address, Some(1));
    }
    assert_eq!(world.answers("192.168.7.250"), None, "it is not of the pool");
    // The client knows the first node's hardware address, and is told of the other's.
    let known = world.nets.shown("switch", &["ip", "neigh", "show", ADDRESSES[0]]);
    assert!(known.contains("lladdr"), "{known}");
    world.announce("node2", &ADDRESSES);
    for address in ADDRESSES {
        world.until(address, Some(2));
    }
    // What an earlier run left is found.
    let (stop, thread) = world.running.remove(1);
    stop.cancel();
    thread.join().expect("it ended by itself");
    assert_eq!(world.answers(ADDRESSES[0]), Some(2), "it goes on while nobody sees to it");
    world.announce("nobody", &ADDRESSES);
    world.start(2);
    let gone = |world: &World| !world.nets.shown("node2", &["ip", "address", "show", "dev", "lo"]).contains("240");
    let deadline = Instant::now() + PATIENCE;
    while !gone(&world) {
        assert!(Instant::now() < deadline, "the addresses are still there");
        std::thread::yield_now();
    }
}
