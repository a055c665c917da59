//! The kubelet on a made-up machine, against an API in memory, in paused time.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use kiln_apimachinery::Status;
use kiln_client::Clock;
use kiln_client::testing::FakeApi;
use kiln_kubelet::{Config, Facts, Machine, Pressure, Progress, run};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

const NODE: &str = "/api/v1/nodes/pi-1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/pi-1";

struct World {
    api: FakeApi,
    addresses: watch::Sender<Vec<IpAddr>>,
    pressure: Arc<Mutex<Pressure>>,
    told: Arc<Mutex<Vec<Progress>>>,
    /// Seconds that the clock is off.
    off: Arc<AtomicI64>,
    _end: DropGuard,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn start(api: FakeApi) -> World {
    let (addresses, watched) = watch::channel(vec![ip("10.0.0.2")]);
    let (pressure, told) = (Arc::new(Mutex::new(Pressure::default())), Arc::new(Mutex::new(Vec::new())));
    let facts = Facts {
        machine_id: "m".to_owned(),
        kernel_version: "6.12".to_owned(),
        cpus: 4,
        memory: 1 << 30,
        disk: 32_000_000_000,
        huge_pages: BTreeMap::from([(2 << 20, 0)]),
        ..Facts::default()
    };
    let current = pressure.clone();
    let off: Arc<AtomicI64> = Arc::default();
    let clock = Clock::from_tokio("2026-03-01T12:00:00Z".parse().unwrap());
    let machine = Machine { facts, addresses: watched, pressure: Arc::new(move || *current.lock().unwrap()) };
    let config = Config {
        node_name: "pi-1".to_owned(),
        labels: BTreeMap::from([("example.org/zone".to_owned(), "shop".to_owned())]),
        taints: Vec::new(),
        node_ips: Vec::new(),
        board: Some("rpi4".to_owned()),
        pods: None,
        clock: Clock::new({
            let off = off.clone();
            move || clock.now() + SignedDuration::from_secs(off.load(Ordering::SeqCst))
        }),
    };
    let (end, tell) = (CancellationToken::new(), told.clone());
    let tell = Box::new(move |progress| tell.lock().unwrap().push(progress));
    tokio::spawn(run(api.client(), config, machine, tell, end.clone()));
    World { api, addresses, pressure, told, off, _end: end.drop_guard() }
}

impl World {
    fn node(&self) -> Value {
        self.api.object(NODE).unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Value {
        let node = self.node();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < Duration::from_secs(3600), "it never came to this: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        start.elapsed()
    }

    async fn registered(&self) {
        self.until("registered", |world| world.told.lock().unwrap().contains(&Progress::Registered)).await;
        self.until("lease", |world| world.api.object(LEASE).is_some()).await;
    }

    /// Requests that write, of those since the last call.
    fn writes(&self) -> Vec<String> {
        self.api.requests().into_iter().filter(|request| !request.starts_with("GET")).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_becomes_a_ready_node() {
    let world = start(FakeApi::new());
    world.registered().await;
    let node = world.node();
    let labels = &node["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/hostname"], "pi-1");
    assert_eq!(labels["kubernetes.io/os"], "linux");
    assert_eq!(labels["kubernetes.io/arch"], Facts::ARCHITECTURE);
    assert_eq!(
        (&labels["node.kubernetes.io/instance-type"], &labels["example.org/zone"]),
        (&json!("rpi4"), &json!("shop"))
    );
    let status = &node["status"];
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.2"}, {"type": "Hostname", "address": "pi-1"}]);
    assert_eq!(status["addresses"], addresses);
    let capacity = json!({"cpu": "4", "memory": "1048576Ki", "ephemeral-storage": "31250000Ki", "pods": "110", "hugepages-2Mi": "0"});
    assert_eq!(status["capacity"], capacity);
    assert_eq!(status["allocatable"]["memory"], "946176Ki");
    assert_eq!(status["allocatable"]["ephemeral-storage"], "28800000000");
    assert_eq!(status["nodeInfo"]["kubeletVersion"], "v1.36.0+kiln1");
    let kinds: Vec<_> = status["conditions"].as_array().unwrap().iter().map(|c| c["type"].clone()).collect();
    assert_eq!(kinds, ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]);
    assert_eq!(world.condition("Ready")["reason"], "KubeletReady");
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_every_ten_seconds_and_belongs_to_the_node() {
    let world = start(FakeApi::new());
    world.registered().await;
    let lease = world.api.object(LEASE).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "pi-1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], world.node()["metadata"]["uid"]);
    world.writes();
    pass(200).await;
    let writes = world.writes();
    assert!((19..=21).contains(&writes.len()), "{writes:?}");
    assert!(writes.iter().all(|write| *write == format!("PUT {LEASE}")), "{writes:?}");
    assert_ne!(world.api.object(LEASE).unwrap()["spec"]["renewTime"], lease["spec"]["renewTime"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_an_hour_either_way_keeps_no_lease_from_being_renewed() {
    let world = start(FakeApi::new());
    world.registered().await;
    for (hours, expected) in [(1, "2026-03-01T13:"), (0, "2026-03-01T12:"), (-1, "2026-03-01T11:")] {
        world.off.store(hours * 3600, Ordering::SeqCst);
        world.writes();
        pass(60).await;
        let renewed = world.writes().into_iter().filter(|write| *write == format!("PUT {LEASE}")).count();
        assert!((5..=7).contains(&renewed), "{hours} h: {renewed}");
        let lease = world.api.object(LEASE).unwrap();
        let time = lease["spec"]["renewTime"].as_str().unwrap();
        assert!(time.starts_with(expected), "{hours} h: {time}");
    }
    assert_eq!(world.condition("Ready")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_nodes_status_is_written_every_five_minutes() {
    let world = start(FakeApi::new());
    world.registered().await;
    pass(1).await;
    world.writes();
    pass(3600).await;
    let reports = world.writes().into_iter().filter(|write| write.ends_with("/status")).count();
    assert!((11..=12).contains(&reports), "{reports} reports in an hour");
    let ready = world.condition("Ready");
    assert_ne!(ready["lastHeartbeatTime"], ready["lastTransitionTime"]);
    assert_eq!(ready["lastTransitionTime"], "2026-03-01T12:00:00Z");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_given_up_is_ready_again_at_once() {
    let world = start(FakeApi::new());
    world.registered().await;
    pass(30).await;
    world.api.edit(NODE, |node| {
        for condition in node["status"]["conditions"].as_array_mut().unwrap() {
            condition["status"] = json!("Unknown");
        }
        node["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "example.org/Fan", "status": "True"}));
    });
    let after = world.until("ready", |world| world.condition("Ready")["status"] == "True").await;
    assert!(after < Duration::from_secs(1), "{after:?}");
    assert_eq!(world.condition("example.org/Fan")["status"], "True");
    assert_eq!(world.condition("Ready")["lastTransitionTime"], "2026-03-01T12:00:30Z");
}

#[tokio::test(start_paused = true)]
async fn a_new_address_is_shown_without_a_restart() {
    let world = start(FakeApi::new());
    world.registered().await;
    world.addresses.send(vec![ip("10.0.0.77")]).unwrap();
    world.until("shown", |world| world.node()["status"]["addresses"][0]["address"] == "10.0.0.77").await;
    assert_eq!(world.told.lock().unwrap().len(), 1, "it registered again");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_an_address_waits_for_one() {
    let api = FakeApi::new();
    let world = start(api);
    world.addresses.send(Vec::new()).unwrap();
    pass(60).await;
    assert_eq!(*world.told.lock().unwrap(), [Progress::WaitingForAddress]);
    world.addresses.send(vec![ip("10.0.0.3")]).unwrap();
    world.registered().await;
    assert_eq!(world.node()["status"]["addresses"][0]["address"], "10.0.0.3");
}

#[tokio::test(start_paused = true)]
async fn a_reflashed_board_takes_its_node_over() {
    let api = FakeApi::new();
    let old = json!({
        "metadata": {"labels": {"kubernetes.io/hostname": "pi-1", "mine": "kept", "kubernetes.io/arch": "old"}},
        "spec": {"podCIDR": "10.42.7.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.9.9.9"}], "nodeInfo": {"bootID": "old"}},
    });
    api.put(NODE, old);
    let uid = api.object(NODE).unwrap()["metadata"]["uid"].clone();
    let world = start(api);
    world.registered().await;
    world.until("shown", |world| world.node()["status"]["addresses"][0]["address"] == "10.0.0.2").await;
    let node = world.node();
    assert_eq!(node["metadata"]["uid"], uid);
    assert_eq!(node["spec"]["podCIDR"], "10.42.7.0/24");
    assert_eq!(node["metadata"]["labels"]["mine"], "kept");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], Facts::ARCHITECTURE);
    assert_eq!(world.condition("Ready")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_waited_for() {
    let api = FakeApi::new();
    api.set_offline(true);
    let world = start(api);
    pass(120).await;
    assert!(matches!(world.told.lock().unwrap()[0], Progress::Failing(ref why) if why.contains("offline")));
    world.api.set_offline(false);
    world.registered().await;
    world.api.set_offline(true);
    pass(600).await;
    let before = world.api.object(LEASE).unwrap()["spec"]["renewTime"].clone();
    world.api.set_offline(false);
    let lease = |world: &World| world.api.object(LEASE).unwrap()["spec"]["renewTime"].clone();
    let after = world.until("renewed", |world| lease(world) != before).await;
    assert!(after <= Duration::from_secs(10), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_in_the_servers_words() {
    let api = FakeApi::new();
    api.refuse_next("POST", Status::bad_request("no such luck"));
    let world = start(api);
    world.registered().await;
    assert_eq!(*world.told.lock().unwrap(), [Progress::Failing("no such luck".to_owned()), Progress::Registered]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_registers_again() {
    let world = start(FakeApi::new());
    world.registered().await;
    let uid = world.node()["metadata"]["uid"].clone();
    world.api.remove(NODE);
    world.until("back", |world| !world.node().is_null()).await;
    assert_ne!(world.node()["metadata"]["uid"], uid);
    let owner = |world: &World| world.api.object(LEASE).unwrap()["metadata"]["ownerReferences"][0]["uid"].clone();
    world.until("owned", |world| owner(world) == world.node()["metadata"]["uid"]).await;
}

#[tokio::test(start_paused = true)]
async fn pressure_is_shown_at_the_next_look_and_held_for_five_minutes() {
    let world = start(FakeApi::new());
    world.registered().await;
    *world.pressure.lock().unwrap() = Pressure { disk: true, ..Pressure::default() };
    let after = world.until("shown", |world| world.condition("DiskPressure")["status"] == "True").await;
    assert!(after <= Duration::from_secs(11), "{after:?}");
    assert_eq!(world.condition("DiskPressure")["reason"], "KubeletHasDiskPressure");
    *world.pressure.lock().unwrap() = Pressure::default();
    let after = world.until("over", |world| world.condition("DiskPressure")["status"] == "False").await;
    assert!((280..=320).contains(&after.as_secs()), "{after:?}");
}
