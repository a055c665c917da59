//! A node with pods on a bridge, another node's pod and an outsider behind its uplink.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use kiln_network::policy;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::netns::Namespaces;

/// How long a change may take to be in force.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer may take, after which a packet counts as dropped.
pub(crate) const ANSWER: Duration = Duration::from_millis(250);
pub(crate) const TCP: [u16; 2] = [80, 81];
pub(crate) const UDP: u16 = 82;

/// Who there is: name, namespace, IPv4 address, labels, and the port that it calls `web`.
pub(crate) const PODS: [(&str, &str, [u8; 4], &str, u16); 4] = [
    ("xa", "x", [10, 42, 0, 2], "a", 80),
    ("xb", "x", [10, 42, 0, 3], "b", 81),
    ("ya", "y", [10, 42, 0, 4], "a", 80),
    ("far", "y", [10, 42, 1, 2], "b", 80),
];
const OUTSIDE: [u8; 4] = [192, 168, 9, 9];

/// A way that a connection takes: from, to, port.
pub(crate) type Way = (&'static str, &'static str, u16);

pub(crate) struct World {
    pub(crate) api: FakeApi,
    pub(crate) nets: Namespaces,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
    told: mpsc::Receiver<usize>,
    pub(crate) is_v6: bool,
}

pub(crate) fn address(name: &str, is_v6: bool) -> IpAddr {
    let pod = PODS.iter().find(|pod| pod.0 == name);
    let v4 = match (name, pod) {
        ("out", _) => OUTSIDE,
        (_, Some(pod)) => pod.2,
        _ => panic!("there is no {name}"),
    };
    if !is_v6 {
        return Ipv4Addr::from(v4).into();
    }
    let [first, .., third, last] = v4.map(u16::from);
    let network = if first == 10 { 0x42 } else { 0x9 };
    Ipv6Addr::new(0xfd00, network, third, 0, 0, 0, 0, last).into()
}

/// Every port answers with a byte until the namespace's thread ends.
fn serve(nets: &Namespaces, name: &'static str, is_v6: bool) {
    for port in TCP {
        nets.within(name, move || {
            let listener = TcpListener::bind((address(name, is_v6), port)).expect("a port");
            for stream in listener.incoming() {
                _ = stream.and_then(|mut stream| stream.write_all(b"k"));
            }
        });
    }
    nets.within(name, move || {
        let socket = UdpSocket::bind((address(name, is_v6), UDP)).expect("a port");
        let mut byte = [0];
        while let Ok((_, from)) = socket.recv_from(&mut byte) {
            _ = socket.send_to(b"k", from);
        }
    });
}

/// Whether a port answers.
fn answers(to: SocketAddr) -> bool {
    let mut byte = [0];
    if to.port() == UDP {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).expect("a socket");
        socket.set_read_timeout(Some(ANSWER)).expect("a time");
        return socket.send_to(b"k", to).is_ok() && socket.recv(&mut byte).is_ok();
    }
    let stream = TcpStream::connect_timeout(&to, ANSWER);
    stream.is_ok_and(|mut stream| stream.set_read_timeout(Some(ANSWER)).is_ok() && stream.read_exact(&mut byte).is_ok())
}

impl World {
    pub(crate) fn new(is_v6: bool) -> Self {
        let mut nets = Namespaces::new();
        for name in ["node", "xa", "xb", "ya", "far", "out"] {
            nets.add(name);
        }
        let (bits, default) = if is_v6 { ("64 nodad", "::/0") } else { ("24", "0.0.0.0/0") };
        let gateway = |network: &str, third| match (is_v6, network) {
            (true, network) => format!("fd00:{network}:{third}::1"),
            (false, "42") => format!("10.42.{third}.1"),
            (false, _) => format!("192.168.{third}.1"),
        };
        let mut commands = format!(
            "link set lo up\nlink add cni0 type bridge\nlink set cni0 up\naddress add {}/{bits} dev cni0\n",
            gateway("42", 0)
        );
        for name in ["xa", "xb", "ya"] {
            commands += &format!(
                "link add {name} type veth peer name eth0 netns {}\nlink set {name} master cni0 up\n",
                nets.path(name)
            );
        }
        for (name, own) in [("far", gateway("42", 1)), ("out", gateway("9", 9))] {
            commands += &format!(
                "link add {name} type veth peer name eth0 netns {}\nlink set {name} up\naddress add {own}/{bits} dev {name}\n",
                nets.path(name)
            );
        }
        nets.ip("node", &commands);
        let setting = if is_v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" };
        let set = move || std::fs::write(format!("/proc/sys/{setting}"), "1").expect("root may");
        nets.within("node", set).join().expect("set");
        for (name, via) in [
            ("xa", gateway("42", 0)),
            ("xb", gateway("42", 0)),
            ("ya", gateway("42", 0)),
            ("far", gateway("42", 1)),
            ("out", gateway("9", 9)),
        ] {
            let own = address(name, is_v6);
            nets.ip(name, &format!("link set lo up\nlink set eth0 up\naddress add {own}/{bits} dev eth0\nroute add {default} via {via}\n"));
            let name = PODS.iter().map(|pod| pod.0).find(|known| *known == name).unwrap_or("out");
            serve(&nets, name, is_v6);
        }
        let api = FakeApi::new();
        for namespace in ["x", "y"] {
            let labels = json!({"kubernetes.io/metadata.name": namespace, "team": namespace});
            api.put(
                &format!("/api/v1/namespaces/{namespace}"),
                json!({"metadata": {"name": namespace, "labels": labels}}),
            );
        }
        let range = if is_v6 { "fd00:42:0::/64" } else { "10.42.0.0/24" };
        api.put("/api/v1/nodes/node", json!({"metadata": {"name": "node"}, "spec": {"podCIDRs": [range]}}));
        let (_, told) = mpsc::channel();
        let mut world = Self { api, nets, stop: CancellationToken::new(), running: None, told, is_v6 };
        for (name, ..) in PODS {
            world.put_pod(name);
        }
        world.start();
        world
    }

    pub(crate) fn put_pod(&self, name: &str) {
        let (_, namespace, _, app, web) = PODS.iter().find(|pod| pod.0 == name).expect("a pod");
        let pod = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            "spec": {
                "nodeName": if name == "far" { "other" } else { "node" },
                "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": web, "protocol": "TCP"}]}],
            },
            "status": {"phase": "Running", "podIPs": [{"ip": address(name, self.is_v6).to_string()}]},
        });
        self.api.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), pod);
    }

    pub(crate) fn start(&mut self) {
        let (tell, told) = mpsc::channel();
        self.told = told;
        self.stop = CancellationToken::new();
        let (api, stop) = (self.api.clone(), self.stop.clone());
        self.running = Some(self.nets.within("node", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut informers = Informers::new(api.client());
                let told = move |changes| _ = tell.send(changes);
                let policies = policy::build(&mut informers, "node".to_owned(), stop.clone(), Box::new(told));
                tokio::join!(policies, informers.run(stop));
            });
        }));
        _ = self.told.recv_timeout(PATIENCE).expect("the first look");
    }

    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.join().expect("it ended by itself");
        }
    }

    /// Puts a policy into namespace x.
    pub(crate) fn policy(&self, name: &str, spec: Value) {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/x/networkpolicies/{name}");
        self.api.put(&path, json!({"metadata": {"name": name, "namespace": "x"}, "spec": spec}));
    }

    pub(crate) fn delete_policy(&self, name: &str) {
        self.api.remove(&format!("/apis/networking.k8s.io/v1/namespaces/x/networkpolicies/{name}"));
    }

    /// All ways that a connection now takes, asked at once.
    fn open_ways(&self) -> BTreeSet<Way> {
        let all = ["xa", "xb", "ya", "far", "out"];
        let mut asked = Vec::new();
        for from in all.into_iter().chain(["node"]) {
            for to in all.into_iter().filter(|to| *to != from && (from != "node" || !["far", "out"].contains(to))) {
                for port in TCP.into_iter().chain([UDP]) {
                    let target = SocketAddr::new(address(to, self.is_v6), port);
                    asked.push(((from, to, port), self.nets.within(from, move || answers(target))));
                }
            }
        }
        let answered = asked.into_iter().map(|(way, asked)| (way, asked.join().expect("asked")));
        answered.filter(|(_, is_open)| *is_open).map(|(way, _)| way).collect()
    }

    /// Waits until the ways that are open are those that `open` says, and shows the difference if they never are.
    pub(crate) fn expect(&self, what: &str, open: impl Fn(Way) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let (mut wrong, mut missing): (Vec<Way>, Vec<Way>);
        loop {
            let ways = self.open_ways();
            wrong = ways.iter().copied().filter(|way| !open(*way)).collect();
            missing = self.all().into_iter().filter(|way| open(*way) && !ways.contains(way)).collect();
            if wrong.is_empty() && missing.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                break;
            }
            // Asked again once something was done, or may be missing from what was.
            _ = self.told.recv_timeout(Duration::from_secs(1));
        }
        panic!(
            "{what}: open but should not be: {wrong:?}; closed but should be open: {missing:?}\n{}",
            self.nets.shown("node", &["nft", "list", "ruleset"])
        );
    }

    fn all(&self) -> Vec<Way> {
        let all = ["xa", "xb", "ya", "far", "out"];
        let mut ways = Vec::new();
        for from in all.into_iter().chain(["node"]) {
            for to in all.into_iter().filter(|to| *to != from && (from != "node" || !["far", "out"].contains(to))) {
                ways.extend(TCP.into_iter().chain([UDP]).map(|port| (from, to, port)));
            }
        }
        ways
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            _ = running.join();
        }
    }
}
