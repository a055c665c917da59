//! NetworkPolicies by their traffic: a node with pods on a bridge, another node's pod and an outsider behind its uplink. The rows of
//! each table are who still reaches whom. Root only.

#[path = "netns/mod.rs"]
mod netns;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use kiln_network::policy;
use netns::{Namespaces, is_root};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long a change may take to be in force.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer may take, after which a packet counts as dropped.
const ANSWER: Duration = Duration::from_millis(250);
const TCP: [u16; 2] = [80, 81];
const UDP: u16 = 82;

/// Who there is: name, namespace, IPv4 address, labels, and the port that it calls `web`.
const PODS: [(&str, &str, [u8; 4], &str, u16); 4] = [
    ("xa", "x", [10, 42, 0, 2], "a", 80),
    ("xb", "x", [10, 42, 0, 3], "b", 81),
    ("ya", "y", [10, 42, 0, 4], "a", 80),
    ("far", "y", [10, 42, 1, 2], "b", 80),
];
const OUTSIDE: [u8; 4] = [192, 168, 9, 9];

/// A way that a connection takes: from, to, port.
type Way = (&'static str, &'static str, u16);

struct World {
    api: FakeApi,
    nets: Namespaces,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
    told: mpsc::Receiver<usize>,
    is_v6: bool,
}

fn address(name: &str, is_v6: bool) -> IpAddr {
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
    fn new(is_v6: bool) -> Self {
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

    fn put_pod(&self, name: &str) {
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

    fn start(&mut self) {
        let (tell, told) = mpsc::channel();
        self.told = told;
        self.stop = CancellationToken::new();
        let (api, stop) = (self.api.clone(), self.stop.clone());
        self.running = Some(self.nets.within("node", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut informers = Informers::new(api.client());
                let told = move |changes| _ = tell.send(changes);
                let policies = policy::build(&mut informers, "node".to_owned(), stop.clone(), told);
                tokio::join!(policies, informers.run(stop));
            });
        }));
        _ = self.told.recv_timeout(PATIENCE).expect("the first look");
    }

    fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.join().expect("it ended by itself");
        }
    }

    /// Puts a policy into namespace x.
    fn policy(&self, name: &str, spec: Value) {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/x/networkpolicies/{name}");
        self.api.put(&path, json!({"metadata": {"name": name, "namespace": "x"}, "spec": spec}));
    }

    fn delete_policy(&self, name: &str) {
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
    fn expect(&self, what: &str, open: impl Fn(Way) -> bool) {
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
