//! A node with the proxy, three pods and a machine outside, joined by veth pairs:
//!
//! ```text
//! a 10.42.0.2, b .3, c .4 -- node 10.42.0.1, 192.168.50.1 -- outside 192.168.50.2
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use kiln_client::testing::FakeApi;
use kiln_client::{Clock, Informers};
use kiln_network::services::{self, Config};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The port that each pod echoes at, over TCP and UDP.
pub(crate) const ECHO: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come for it to count as dropped.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

pub(crate) struct World {
    prefix: String,
    pub(crate) api: FakeApi,
    told: mpsc::Receiver<usize>,
    proxy: Option<(CancellationToken, JoinHandle<()>)>,
}

/// A pod: its name, IPv4 and IPv6 address.
pub(crate) const PODS: [(&str, &str, &str); 3] =
    [("a", "10.42.0.2", "fd00:42::2"), ("b", "10.42.0.3", "fd00:42::3"), ("c", "10.42.0.4", "fd00:42::4")];

fn ip(namespace: Option<&str>, commands: &str) -> bool {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    let mut child = ip.args(["-batch", "-"]).stdin(std::process::Stdio::piped()).spawn().expect("ip runs");
    child.stdin.take().expect("its input").write_all(commands.as_bytes()).expect("ip reads");
    child.wait().expect("ip ends").success()
}

impl World {
    /// Builds it, with echoing pods; `None` if this process may not.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let prefix = format!("kiln-{}-{test}", std::process::id());
        let names = ["node", "outside", "a", "b", "c"];
        let all = names.map(|name| format!("netns add {prefix}-{name}\n")).concat();
        if !ip(None, &all) {
            eprintln!("skipped: no network namespaces");
            return None;
        }
        let (_, told) = mpsc::channel();
        let world = Self { prefix, api: FakeApi::new(), told, proxy: None };
        world.wire();
        for (name, ..) in PODS {
            world.echo(name);
        }
        world.echo("outside");
        world.api.put(
            "/api/v1/nodes/node",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node", "uid": "n"},
                   "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24", "fd00:42::/64"]},
                   "status": {"addresses": [{"type": "InternalIP", "address": "192.168.50.1"}]}}),
        );
        Some(world)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs `ip` in a namespace.
    pub(crate) fn ip(&self, name: &str, command: &str) {
        assert!(ip(Some(&self.namespace(name)), &format!("{command}\n")), "{command}");
    }

    fn wire(&self) {
        let node = self.namespace("node");
        let mut on_node = String::from("link set lo up\n");
        for (name, v4, v6) in PODS.into_iter().chain([("outside", "192.168.50.2", "fd00:50::2")]) {
            let other = self.namespace(name);
            let _ = writeln!(on_node, "link add to-{name} type veth peer name eth0 netns {other}");
            let _ = writeln!(on_node, "link set to-{name} up");
            let (own4, own6) = match name {
                "outside" => ("192.168.50.1/24", "fd00:50::1/64"),
                _ => ("10.42.0.1/32", "fd00:42::1/128"),
            };
            let _ = writeln!(on_node, "addr add {own4} dev to-{name}\naddr add {own6} dev to-{name} nodad");
            if name != "outside" {
                let _ = writeln!(on_node, "route add {v4} dev to-{name}\nroute add {v6} dev to-{name}");
            }
        }
        // A node has some way to everywhere: without one, what it sends itself does not get as far as the proxy.
        on_node.push_str("route add default via 192.168.50.2\n");
        assert!(ip(Some(&node), &on_node));
        for (name, v4, v6) in PODS {
            let commands = format!(
                "link set lo up\nlink set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
                 route add default via 10.42.0.1 dev eth0 onlink\nroute add default via fd00:42::1 dev eth0 onlink\n"
            );
            assert!(ip(Some(&self.namespace(name)), &commands));
        }
        let commands = "link set lo up\nlink set eth0 up\naddr add 192.168.50.2/24 dev eth0\naddr add 192.168.50.3/24 dev eth0\n\
                        addr add fd00:50::2/64 dev eth0 nodad\nroute add 10.43.0.0/16 via 192.168.50.1\n\
                        route add 203.0.113.0/24 via 192.168.50.1\n";
        assert!(ip(Some(&self.namespace("outside")), commands));
        self.within("node", || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("forwarding");
        });
    }

    /// Runs something in a namespace, on a thread of its own.
    pub(crate) fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.namespace(name);
        std::thread::scope(|scope| {
            let running = scope.spawn(move || {
                enter(&namespace);
                work()
            });
            running.join().expect("the work in the namespace")
        })
    }

    /// Tells each who asks this machine's name, and by which address it was asked.
    pub(crate) fn echo(&self, name: &'static str) {
        let (tcp, udp) = self.within(name, || {
            let udp = UdpSocket::bind(("::", ECHO)).expect("a port for UDP");
            (TcpListener::bind(("::", ECHO)).expect("a port for TCP"), udp)
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { return };
                // Connections stay open for as long as the client wants: each line is answered.
                std::thread::spawn(move || {
                    let peer = stream.peer_addr().map(|peer| peer.ip().to_canonical());
                    let mut buffer = [0; 16];
                    while matches!(stream.read(&mut buffer), Ok(1..)) {
                        let Ok(peer) = &peer else { return };
                        if stream.write_all(format!("{name} {peer}").as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }

    /// Asks over TCP: who answered, and as whom this machine was seen.
    pub(crate) fn ask(&self, from: &str, to: &str) -> std::io::Result<(String, String)> {
        self.ask_within(from, to, PATIENCE)
    }

    pub(crate) fn ask_within(&self, from: &str, to: &str, patience: Duration) -> std::io::Result<(String, String)> {
        let to: SocketAddr = to.parse().expect("an address and a port");
        self.within(from, || question(TcpStream::connect_timeout(&to, patience)?))
    }

    /// Asks over UDP, from a port or any.
    pub(crate) fn ask_udp(&self, from: &str, port: u16, to: &str) -> std::io::Result<(String, String)> {
        let to: SocketAddr = to.parse().expect("an address and a port");
        self.within(from, || {
            let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((any, port))?;
            socket.set_read_timeout(Some(SILENCE))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(answer(&buffer[..length]))
        })
    }

    /// Who answers `times` questions over TCP.
    pub(crate) fn who(&self, from: &str, to: &str, times: usize) -> std::collections::BTreeSet<String> {
        (0..times).map(|_| self.ask(from, to).expect("an answer").0).collect()
    }

    /// Starts the proxy, and waits until it has programmed all.
    pub(crate) fn start(&mut self) {
        let (shutdown, api, namespace) = (CancellationToken::new(), self.api.clone(), self.namespace("node"));
        let (tell, told) = mpsc::channel();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut informers = Informers::new(api.client());
                let config = Config {
                    node: "node".to_owned(),
                    pod_networks: Vec::new(),
                    service_networks: vec!["10.43.0.0/16".parse().expect("a range")],
                    masquerade: true,
                    health: None,
                };
                let told = move |changes| _ = tell.send(changes);
                let proxy = services::build(&mut informers, config, Clock::system(), stop.clone(), Box::new(told));
                tokio::join!(informers.run(stop), proxy);
            });
        });
        self.told = told;
        self.proxy = Some((shutdown, thread));
        self.settled();
    }

    /// Stops the proxy; what it programmed stays.
    pub(crate) fn stop(&mut self) {
        if let Some((shutdown, thread)) = self.proxy.take() {
            shutdown.cancel();
            thread.join().expect("the proxy ends");
        }
    }

    /// Waits for the next transaction; answers how many messages it had.
    pub(crate) fn settled(&self) -> usize {
        self.told.recv_timeout(PATIENCE).expect("a transaction")
    }

    /// Puts a Service; waits for its transaction if the proxy runs.
    pub(crate) fn service(&self, name: &str, spec: Value, status: Value) {
        self.api.put(
            &format!("/api/v1/namespaces/ns/services/{name}"),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns", "uid": name},
                   "spec": spec, "status": status}),
        );
        if self.proxy.is_some() {
            self.settled();
        }
    }

    /// Puts the endpoints of a Service; waits for their transaction if the proxy runs.
    pub(crate) fn endpoints(&self, service: &str, endpoints: &[Value]) {
        let v6 =
            endpoints.first().is_some_and(|endpoint| endpoint["addresses"][0].as_str().unwrap_or("").contains(':'));
        let kind = if v6 { "IPv6" } else { "IPv4" };
        let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "port": ECHO, "protocol": protocol});
        let ports = json!([port("TCP"), port("UDP")]);
        self.slice(&format!("{service}-{}", kind.to_lowercase()), service, kind, &ports, endpoints);
    }

    /// Puts a slice of a Service's endpoints; waits for its transaction if the proxy runs.
    pub(crate) fn slice(&self, name: &str, service: &str, kind: &str, ports: &Value, endpoints: &[Value]) {
        self.api.put(
            &format!("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/{name}"),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
                   "metadata": {"name": name, "namespace": "ns", "uid": name,
                                "labels": {"kubernetes.io/service-name": service}},
                   "ports": ports, "endpoints": endpoints}),
        );
        if self.proxy.is_some() {
            self.settled();
        }
    }

    /// What nft lists of the proxy's table.
    pub(crate) fn listed(&self) -> String {
        let output = self.within("node", || Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
        let all =
            ["node", "outside", "a", "b", "c"].map(|name| format!("netns del {}\n", self.namespace(name))).concat();
        ip(None, &all);
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
}

/// Asks on a connection.
pub(crate) fn question(mut stream: TcpStream) -> std::io::Result<(String, String)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"?")?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    Ok(answer(&buffer[..length]))
}

fn answer(bytes: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(bytes);
    let (name, peer) = text.split_once(' ').unwrap_or_default();
    (name.to_owned(), peer.to_owned())
}

/// A ready endpoint; `node` if it is on the node with the proxy.
pub(crate) fn endpoint(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true, "serving": true, "terminating": false}})
}

/// The same, going.
pub(crate) fn going(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "nodeName": node, "conditions": {"ready": false, "serving": true, "terminating": true}})
}

/// Pods `a`, `b` and `c` as ready endpoints on the node.
pub(crate) fn pods(names: &[&str]) -> Vec<Value> {
    let found = names.iter().filter_map(|name| PODS.into_iter().find(|pod| pod.0 == *name));
    found.map(|(_, v4, _)| endpoint(v4, "node")).collect()
}

/// The ports of all Services here: 80 over TCP and UDP.
pub(crate) fn ports() -> Value {
    json!([{"name": "tcp", "port": 80, "protocol": "TCP"}, {"name": "udp", "port": 80, "protocol": "UDP"}])
}

/// A Service with just an address in the cluster.
pub(crate) fn cluster_ip(address: &str) -> Value {
    json!({"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": ports()})
}
