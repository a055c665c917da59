//! A cluster to ask, and a server for all other names.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::base::iana::Rtype;
use domain::base::{Message, ParsedName};
use domain::rdata::AllRecordData;
use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::corefile::Corefile;
use crate::resolver::{Outcome, Resolver};
use crate::wire::{Answer, Name, Packed, Query, Reply, question};

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// An answer, read by a codec of another make; records as zone files have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) code: u8,
    pub(crate) authoritative: bool,
    pub(crate) is_cut: bool,
    pub(crate) answers: Vec<String>,
    pub(crate) authority: Vec<String>,
    pub(crate) additional: Vec<String>,
}

/// Answers, and behind a plus what may help.
pub(crate) fn records(lines: &Lines) -> Vec<String> {
    let additional = lines.additional.iter().map(|line| format!("+{line}"));
    lines.answers.iter().cloned().chain(additional).collect()
}

pub(crate) fn read(message: &[u8]) -> Lines {
    let message = Message::from_octets(message).unwrap();
    let section = |section: domain::base::message::RecordSection<'_, &[u8]>| {
        let records = section.limit_to::<AllRecordData<&[u8], ParsedName<&[u8]>>>();
        let records = records.map(|record| record.unwrap()).filter(|record| record.rtype() != Rtype::OPT);
        records
            .map(|r| {
                let name = |text: String| if text.ends_with('.') { text } else { format!("{text}.") };
                let data = r.data().to_string();
                let data = if r.rtype() == Rtype::SRV { name(data) } else { data };
                format!("{} {} IN {} {data}", name(r.owner().to_string()), r.ttl().as_secs(), r.rtype())
            })
            .collect::<Vec<_>>()
    };
    Lines {
        code: message.header().rcode().to_int(),
        authoritative: message.header().aa(),
        is_cut: message.header().tc(),
        answers: section(message.answer().unwrap()),
        authority: section(message.authority().unwrap()),
        additional: section(message.additional().unwrap()),
    }
}

fn type_of(kind: &str) -> u16 {
    kind.parse::<Rtype>().unwrap().to_int()
}

/// The service, with mirrors of an API.
pub(crate) struct Fixture {
    pub(crate) api: FakeApi,
    pub(crate) resolver: Arc<Resolver>,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Fixture {
    /// Over an API with these objects by their paths.
    pub(crate) async fn new(objects: Vec<(String, Value)>) -> Self {
        let fixture = Self::unsynced();
        for (path, object) in objects {
            fixture.api.put(&path, object);
        }
        fixture.follow().await
    }

    /// Whose mirrors do not run.
    pub(crate) fn unsynced() -> Self {
        let api = FakeApi::new();
        let mut informers = Informers::new(api.client());
        let resolver = resolver(&mut informers);
        Self { api, resolver, _shutdown: CancellationToken::new().drop_guard() }
    }

    async fn follow(mut self) -> Self {
        let mut informers = Informers::new(self.api.client());
        self.resolver = resolver(&mut informers);
        let shutdown = CancellationToken::new();
        tokio::spawn(informers.run(shutdown.clone()));
        self._shutdown = shutdown.drop_guard();
        // All mirrors are filled once a name that is not there is known not to be.
        self.until(|fixture| fixture.now("none.cluster.local", "A").code != crate::wire::code::FAILURE).await;
        self
    }

    /// Waits for a change to arrive.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    /// What can be answered at once.
    pub(crate) fn now(&self, name: &str, kind: &str) -> Lines {
        let message = asked(name, kind);
        let mut out = Vec::new();
        assert!(matches!(self.resolver.take(&message, |_| 65535, &mut out), Outcome::Answered), "{name} {kind}");
        read(&out)
    }

    pub(crate) async fn ask(&self, name: &str, kind: &str) -> Lines {
        read(&self.send(&asked(name, kind)).await)
    }

    /// Octets in, octets out, as over TCP.
    pub(crate) async fn send(&self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if let Outcome::Waits(waiting) = self.resolver.take(message, |_| 65535, &mut out) {
            self.resolver.finish(waiting, message, 65535, &mut out).await;
        }
        out
    }

    pub(crate) async fn check(&self, rows: &[(&str, &str, &[&str])]) {
        for (name, kind, wanted) in rows {
            // The second time it comes from what is kept.
            for _ in 0..2 {
                let mut got = records(&self.ask(name, kind).await);
                let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                got.sort();
                wanted.sort();
                assert_eq!(got, wanted, "{name} {kind}");
            }
        }
    }

    pub(crate) async fn service(&self, name: &str, ip: &str) {
        self.api.put(&format!("{SERVICES}/{name}"), service(name, &[ip], &[("http", 80)]));
        let (name, ip) = (format!("{name}.default.svc.cluster.local"), ip.to_owned());
        self.until(|fixture| fixture.now(&name, "A").answers.iter().any(|line| line.ends_with(&ip))).await;
    }

    pub(crate) async fn remove_service(&self, name: &str) {
        self.api.remove(&format!("{SERVICES}/{name}"));
        let name = format!("{name}.default.svc.cluster.local");
        self.until(|fixture| fixture.now(&name, "A").answers.is_empty()).await;
    }

    /// Takes a ConfigMap's data as they would come.
    pub(crate) fn customise(&self, data: &[(&str, &str)]) {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        self.resolver.set_corefile(Corefile::parse(&data).unwrap());
    }

    /// Sends all names that are not the cluster's to a server.
    pub(crate) fn forward_to(&self, server: SocketAddr) {
        self.customise(&[("x.override", &format!("forward . {server}\ncache 30"))]);
    }

    /// A cluster with the objects of the specification's examples.
    pub(crate) async fn of_specification() -> Self {
        let services = [
            service("kubernetes", &["10.3.0.1"], &[("https", 443)]),
            service("both", &["10.3.0.2", "2001:db8::1"], &[("http", 80)]),
            service("plain", &["10.3.0.3"], &[("a", 80), ("b", 81)]),
            service("headless", &["None"], &[("https", 443)]),
            service("portless", &["None"], &[]),
            service("empty", &["None"], &[("https", 443)]),
            external("foo", "www.example.com"),
            external("inside", "kubernetes.default.svc.cluster.local"),
            external("ring", "gnir.default.svc.cluster.local"),
            external("gnir", "ring.default.svc.cluster.local"),
            external("self", "self.default.svc.cluster.local"),
            external("address", "10.9.9.9"),
        ];
        let slices = [
            slice(
                "headless-4",
                "headless",
                "IPv4",
                json!([{"name": "https", "port": 443, "protocol": "TCP"}]),
                json!([
                    {"addresses": ["10.3.0.100"], "hostname": "my-pet", "conditions": {"ready": true}},
                    {"addresses": ["10.3.0.101"], "conditions": {}},
                    {"addresses": ["10.3.0.102"], "conditions": {"ready": false}},
                ]),
            ),
            slice(
                "headless-6",
                "headless",
                "IPv6",
                json!([{"name": "https", "port": 443, "protocol": "TCP"}]),
                json!([
                    {"addresses": ["2001:db8::100"], "hostname": "my-pet", "conditions": {"ready": true}},
                ]),
            ),
            slice(
                "plain",
                "plain",
                "IPv4",
                json!([{"name": "a", "port": 8080, "protocol": "TCP"}]),
                json!([
                    {"addresses": ["10.3.0.200"]},
                ]),
            ),
            slice("portless", "portless", "IPv4", json!([]), json!([{"addresses": ["10.3.0.110"]}])),
            slice("empty", "empty", "IPv4", json!([]), json!([])),
        ];
        let mut objects = vec![("/api/v1/namespaces/default".to_owned(), json!({"metadata": {"name": "default"}}))];
        let named = |folder: &str, object: Value| {
            (format!("{folder}/{}", object["metadata"]["name"].as_str().unwrap()), object)
        };
        objects.extend(services.map(|object| named(SERVICES, object)));
        objects
            .extend(slices.map(|object| named("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", object)));
        let fixture = Self::new(objects).await;
        fixture.resolver.set_own(&["10.43.0.10".parse().unwrap()]);
        fixture
    }
}

fn resolver(informers: &mut Informers) -> Arc<Resolver> {
    let cluster = Cluster::new(Name::parse("cluster.local").unwrap(), informers);
    Arc::new(Resolver::new(cluster, 1 << 20))
}

/// A question as a client sends it, in the letters' case that is given.
pub(crate) fn asked(name: &str, kind: &str) -> Vec<u8> {
    let lower = question(7, &Name::parse(name).unwrap(), type_of(kind), false, false);
    let mut message = lower.clone();
    let mut at = 12;
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        message[at + 1..at + 1 + label.len()].copy_from_slice(label.as_bytes());
        at += 1 + label.len();
    }
    message
}

fn service(name: &str, ips: &[&str], ports: &[(&str, u16)]) -> Value {
    let ports: Vec<Value> =
        ports.iter().map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"})).collect();
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips, "ports": ports},
    })
}

fn external(name: &str, target: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": target}})
}

fn slice(name: &str, service: &str, family: &str, ports: Value, endpoints: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// A server of names that is told what to say. Its answers are written by our own codec, and read by another one above.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    answers: HashMap<(Name, u16), Answer>,
    /// Questions over UDP and over TCP, in their order.
    asked: Vec<String>,
    is_mute: bool,
    /// What is not to be answered before it is opened.
    gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The port may be another's over TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let upstream = Self { address: udp.local_addr().unwrap(), state: Arc::default() };
        tokio::spawn(upstream.clone().serve_udp(udp));
        tokio::spawn(upstream.clone().serve_tcp(tcp));
        upstream
    }

    pub(crate) fn say(&self, name: &str, kind: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert((Name::parse(name).unwrap(), type_of(kind)), answer);
    }

    pub(crate) fn be_mute(&self) {
        self.state.lock().unwrap().is_mute = true;
    }

    /// Holds all answers back; what is given lets them go.
    pub(crate) fn hold(&self) -> Arc<tokio::sync::Semaphore> {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        self.state.lock().unwrap().gate = Some(Arc::clone(&gate));
        gate
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    fn answer(&self, message: &[u8], way: &str, limit: usize) -> Option<Vec<u8>> {
        let query = Query::parse(message).unwrap();
        let name = query.name();
        let mut state = self.state.lock().unwrap();
        state.asked.push(format!("{way} {name}"));
        if state.is_mute {
            return None;
        }
        let refused = Answer::code(crate::wire::code::REFUSED);
        let answer = state.answers.get(&(name.clone(), query.kind)).unwrap_or(&refused);
        let mut out = Vec::new();
        let limit = limit.min(if way == "udp" { query.udp_limit() } else { 65535 });
        Packed::new(answer, &name, None).write(&query, message, Reply { limit, ttl: None, turn: 0 }, &mut out);
        Some(out)
    }

    async fn pass(&self) {
        let gate = self.state.lock().unwrap().gate.clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut packet = [0; 2048];
        loop {
            let (length, client) = socket.recv_from(&mut packet).await.unwrap();
            let answer = self.answer(&packet[..length], "udp", 1232);
            self.pass().await;
            if let Some(answer) = answer {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut message).await.unwrap();
            if let Some(answer) = self.answer(&message, "tcp", 65535) {
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    }
}
