//! Nodes as network namespaces on one switch, each with an overlay and a pod; the API is a fake. Needs root.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kiln_client::testing::FakeApi;
use kiln_client::{Clock, Informers};
use kiln_network::overlay::{self, Backend, PrivateKey};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::netns::Namespaces;

/// How long anything may take; all but the slowest machines need a tenth.
const PATIENCE: Duration = Duration::from_secs(20);
/// The port that pods listen at.
const PORT: u16 = 8080;

/// The switch and what hangs on it.
pub(crate) struct World {
    pub(crate) api: FakeApi,
    nets: Namespaces,
    backend: Backend,
    /// Whether overlays that start from now on masquerade.
    pub(crate) masquerade: bool,
    nodes: Vec<Node>,
}

/// A node: the sender of its addresses, and its overlay if that runs.
pub(crate) struct Node {
    addresses: watch::Sender<Vec<IpAddr>>,
    mtu: watch::Receiver<Option<u32>>,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    /// Nodes with these addresses, whose links carry packets of this size. Each has ranges 10.42.<number>.0/24 and, if there is an
    /// IPv6 address, fd00:42:<number>::/64.
    pub(crate) fn new(backend: Backend, mtu: u32, nodes: &[&[&str]]) -> Self {
        let mut world =
            Self { api: FakeApi::new(), nets: Namespaces::new(), backend, masquerade: false, nodes: Vec::new() };
        world.nets.add("switch");
        world.nets.ip("switch", "link add br0 type bridge\nlink set br0 up\n");
        for (number, addresses) in nodes.iter().enumerate() {
            world.add_node(number, mtu, addresses);
        }
        world
    }

    fn add_node(&mut self, number: usize, mtu: u32, addresses: &[&str]) {
        let (node, pod) = (node(number), format!("pod{number}"));
        self.nets.add(&node);
        self.nets.add(&pod);
        let (node_path, pod_path) = (self.nets.path(&node), self.nets.path(&pod));
        let has_v6 = addresses.iter().any(|address| address.contains(':'));
        let port = format!("port{number}");
        self.nets.ip(
            "switch",
            &format!(
                "link add {port} type veth peer name eth0 netns {node_path}\nlink set {port} mtu {mtu} master br0 up\n"
            ),
        );
        let mut commands = format!("link set lo up\nlink set eth0 mtu {mtu} up\n");
        for address in addresses {
            let prefix = if address.contains(':') { "64 nodad" } else { "24" };
            commands += &format!("address add {address}/{prefix} dev eth0\n");
        }
        commands += &format!(
            "link add pod type veth peer name eth0 netns {pod_path}\nlink set pod up\naddress add 10.42.{number}.1/24 dev pod\n"
        );
        if has_v6 {
            commands += &format!("address add fd00:42:{number}::1/64 dev pod nodad\n");
        }
        self.nets.ip(&node, &commands);
        let mut commands = format!(
            "link set lo up\nlink set eth0 up\naddress add 10.42.{number}.2/24 dev eth0\nroute add default via 10.42.{number}.1\n"
        );
        if has_v6 {
            commands += &format!(
                "address add fd00:42:{number}::2/64 dev eth0 nodad\nroute add default via fd00:42:{number}::1\n"
            );
        }
        self.nets.ip(&pod, &commands);
        let mut cidrs = vec![format!("10.42.{number}.0/24")];
        cidrs.extend(has_v6.then(|| format!("fd00:42:{number}::/64")));
        self.put_node(number, &cidrs);
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let (_, mtu) = watch::channel(None);
        self.nodes.push(Node { addresses: watch::channel(addresses).0, mtu, running: None });
        self.start(number);
    }

    /// Makes the Node.
    pub(crate) fn put_node(&self, number: usize, cidrs: &[String]) {
        let name = node(number);
        let created = format!("2026-01-01T00:00:{number:02}Z");
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"podCIDRs": cidrs},
        });
        self.api.put(&path(number), node);
    }

    /// Starts a node's overlay with the backend of another network, and waits for it to end.
    pub(crate) fn give_up(&mut self, number: usize) {
        let backend = std::mem::replace(&mut self.backend, Backend::None);
        self.start(number);
        self.stop_when_done(number);
        self.backend = backend;
    }

    /// Starts a node's overlay.
    pub(crate) fn start(&mut self, number: usize) {
        let shutdown = CancellationToken::new();
        let (mtu, receiver) = watch::channel(None);
        let config = overlay::Config {
            node_name: node(number),
            backend: self.backend,
            private_key: Some(PrivateKey::new([u8::try_from(number).expect("few nodes"); 32])),
            addresses: self.nodes[number].addresses.subscribe(),
            pod_networks: ["10.42.0.0/16", "fd00:42::/32"].map(|range| range.parse().expect("a range")).to_vec(),
            masquerade: self.masquerade,
            interface: None,
            mtu,
            clock: Clock::system(),
        };
        let (api, stop) = (self.api.clone(), shutdown.clone());
        let thread = self.nets.within(&node(number), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut informers = Informers::new(api.client());
                let overlay = overlay::build(&mut informers, config, stop.clone());
                let overlay = async {
                    overlay.await;
                    // One that is none ends at once.
                    stop.cancel();
                };
                tokio::join!(overlay, informers.run(stop.clone()));
            });
        });
        self.nodes[number].mtu = receiver;
        self.nodes[number].running = Some((shutdown, thread));
    }

    fn stop_when_done(&mut self, number: usize) {
        if let Some((_, thread)) = self.nodes[number].running.take() {
            thread.join().expect("it ended by itself");
        }
    }

    /// Ends a node's overlay; what it made stays.
    pub(crate) fn stop(&mut self, number: usize) {
        if let Some((shutdown, thread)) = self.nodes[number].running.take() {
            shutdown.cancel();
            thread.join().expect("it ended by itself");
        }
    }

    /// Runs commands of `ip` on a node.
    pub(crate) fn on_node(&self, number: usize, commands: &str) {
        self.nets.ip(&node(number), commands);
    }

    /// Runs commands of `ip` on the switch.
    pub(crate) fn on_switch(&self, commands: &str) {
        self.nets.ip("switch", commands);
    }

    /// Tells a node's overlay that its addresses are others.
    pub(crate) fn readdress(&self, number: usize, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.nodes[number].addresses.send_replace(addresses);
    }

    /// What a command prints on a node.
    pub(crate) fn shown(&self, number: usize, command: &[&str]) -> String {
        self.nets.shown(&node(number), command)
    }

    /// Sets the packet size of a node's pod.
    pub(crate) fn set_pod_mtu(&self, number: usize, mtu: u32) {
        self.nets.ip(&format!("pod{number}"), &format!("link set eth0 mtu {mtu}\n"));
        self.on_node(number, &format!("link set pod mtu {mtu}\n"));
    }

    /// The packet size that a node's overlay tells.
    pub(crate) fn mtu(&self, number: usize) -> Option<u32> {
        *self.nodes[number].mtu.borrow()
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.describe());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn describe(&self) -> String {
        let commands: [&[&str]; 4] = [
            &["ip", "address"],
            &["ip", "route"],
            &["bridge", "fdb", "show"],
            &["ip", "neigh", "show", "nud", "permanent"],
        ];
        let all = 0..self.nodes.len();
        all.flat_map(|number| {
            commands.map(|command| format!("{} {command:?}\n{}", node(number), self.shown(number, command)))
        })
        .chain(
            (0..self.nodes.len()).map(|number| format!("{:#}\n", self.api.object(&path(number)).unwrap_or_default())),
        )
        .collect()
    }

    /// Waits until a pod reaches another one, and sends it a good deal both ways. Answers the address that the other one sees.
    pub(crate) fn reach(&self, from: usize, to: IpAddr) -> IpAddr {
        let number = match to {
            IpAddr::V4(v4) => u16::from(v4.octets()[2]),
            IpAddr::V6(v6) => v6.segments()[2],
        };
        let address = SocketAddr::new(to, PORT);
        let server = self.nets.within(&format!("pod{number}"), move || {
            let listener = TcpListener::bind(address).expect("a port");
            let (mut stream, peer) = listener.accept().expect("a caller");
            let mut bytes = vec![0; 300_000];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("back");
            peer.ip()
        });
        let attempts = Cell::new(None);
        self.until(&format!("pod {from} reaches {to}"), |world| {
            let caller = world.nets.within(&format!("pod{from}"), move || {
                TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()
            });
            attempts.set(caller.join().expect("it ended by itself"));
            let stream = attempts.take();
            let is_there = stream.is_some();
            attempts.set(stream);
            is_there
        });
        let mut stream = attempts.take().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let sent = vec![7; 300_000];
        stream.write_all(&sent).expect("sent");
        let mut back = vec![0; 300_000];
        stream.read_exact(&mut back).expect("all of it came back");
        assert_eq!(sent, back);
        server.join().expect("it ended by itself")
    }

    /// The address under which a pod is seen on the switch.
    pub(crate) fn seen_outside(&self, from: usize) -> IpAddr {
        let outside: SocketAddr = ([192, 168, 7, 254], PORT).into();
        let listener = self.nets.within("switch", move || TcpListener::bind(outside).expect("a port"));
        let listener = listener.join().expect("a port");
        let caller = self.nets.within(&format!("pod{from}"), move || TcpStream::connect_timeout(&outside, PATIENCE));
        let (_, peer) = listener.accept().expect("a caller");
        caller.join().expect("it ended by itself").expect("a connection");
        peer.ip()
    }

    /// All pods reach each other, under their own addresses.
    pub(crate) fn all_reach_each_other(&self, address: fn(u16) -> IpAddr) {
        let all = 0..u16::try_from(self.nodes.len()).expect("a few");
        for from in all.clone() {
            for to in all.clone().filter(|to| *to != from) {
                assert_eq!(self.reach(from.into(), address(to)), address(from));
            }
        }
    }

    /// The status of a Node's condition, with its reason.
    pub(crate) fn condition(&self, number: usize) -> Option<(String, String)> {
        let node = self.api.object(&path(number))?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable")?;
        Some((text(&found["status"]), text(&found["reason"])))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for number in 0..self.nodes.len() {
            if let Some((shutdown, thread)) = self.nodes[number].running.take() {
                shutdown.cancel();
                _ = thread.join();
            }
        }
    }
}

/// A node's name.
pub(crate) fn node(number: usize) -> String {
    format!("node{number}")
}

/// A Node's path.
pub(crate) fn path(number: usize) -> String {
    format!("/api/v1/nodes/node{number}")
}

/// The address of a node's pod.
pub(crate) fn v4(number: u16) -> IpAddr {
    let number = u8::try_from(number).expect("a few");
    IpAddr::from([10, 42, number, 2])
}

/// The address of a node's pod.
pub(crate) fn v6(number: u16) -> IpAddr {
    IpAddr::from([0xfd00, 0x42, number, 0, 0, 0, 0, 2])
}
