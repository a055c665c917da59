use kiln_client::testing::FakeApi;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::testing::{FakePlugin, NAME};
use super::*;
use crate::csi::messages::PluginInfo;

/// A node with one driver.
struct Bench {
    api: FakeApi,
    root: TempDir,
    plugins: Plugins,
    claims: Claims,
    driver: FakePlugin,
}

impl Bench {
    fn new() -> Self {
        let (api, root) = (FakeApi::new(), tempfile::tempdir().expect("a folder"));
        let (plugins, claims) = kubelet(&api, root.path());
        let driver = FakePlugin::start(&root.path().join("driver.sock"));
        register(&plugins, &driver).expect("registered");
        Self { api, root, plugins, claims, driver }
    }

    /// Another kubelet takes over; its driver is not there yet.
    fn restart(&mut self) {
        (self.plugins, self.claims) = kubelet(&self.api, self.root.path());
    }
}

fn kubelet(api: &FakeApi, root: &std::path::Path) -> (Plugins, Claims) {
    let plugins = Plugins::new(api.client(), "n".to_owned(), CancellationToken::new());
    (plugins.clone(), Claims::restore(api.client(), root.to_owned(), plugins))
}

fn register(plugins: &Plugins, driver: &FakePlugin) -> Result<(), String> {
    let info = PluginInfo {
        kind: KIND.to_owned(),
        name: NAME.to_owned(),
        endpoint: String::new(),
        supported_versions: vec!["v1.DRAPlugin".to_owned()],
    };
    plugins.register(&info, &driver.socket)
}

/// A pod that uses these claims by their names, in one container each.
fn pod(uid: &str, names: &[&str]) -> Pod {
    let entries: Vec<Value> = names.iter().map(|name| json!({"name": name, "resourceClaimName": name})).collect();
    let container = |name: &&str| json!({"name": name, "resources": {"claims": [{"name": name}]}});
    let containers: Vec<Value> = names.iter().map(container).collect();
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {"containers": containers, "resourceClaims": entries},
    }))
    .expect("a pod")
}

fn claim(name: &str, pods: &[&str]) -> Value {
    let users: Vec<Value> = pods.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
    let result = json!({"request": "a", "driver": NAME, "pool": "pool", "device": "one"});
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
        "spec": {},
        "status": {"allocation": {"devices": {"results": [result]}}, "reservedFor": users},
    })
}

fn place(name: &str) -> String {
    format!("/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/{name}")
}

fn call(name: &str, claims: &[&str]) -> (String, Vec<String>) {
    (name.to_owned(), claims.iter().map(|name| format!("uid-{name}")).collect())
}

fn cdi(claims: &Claims, pod: &Pod, container: &str) -> Vec<String> {
    let found = pod.spec.iter().flat_map(|spec| &spec.containers).find(|one| one.name == container);
    let devices = claims.devices(pod, found.expect("a container")).expect("devices");
    devices.into_iter().map(|device| device.name).collect()
}

#[tokio::test]
async fn claims_are_prepared_at_once_and_once_and_their_devices_go_to_containers() {
    let bench = Bench::new();
    bench.api.put(&place("x"), claim("x", &["p"]));
    bench.api.put(&place("y"), claim("y", &["p"]));
    let mut object = serde_json::to_value(pod("p", &["x", "y"])).expect("JSON");
    object["spec"]["containers"].as_array_mut().expect("a list").extend([
        json!({"name": "request", "resources": {"claims": [{"name": "x", "request": "b"}]}}),
        json!({"name": "both", "resources": {"claims": [{"name": "x", "request": "a"}, {"name": "x", "request": "b"}]}}),
        json!({"name": "none"}),
    ]);
    let pod: Pod = serde_json::from_value(object).expect("a pod");
    bench.claims.prepare(&pod).await.expect("prepared");
    bench.claims.prepare(&pod).await.expect("prepared");
    assert_eq!(bench.driver.calls(), [call("NodePrepareResources", &["x", "y"])]);
    let all = |claim: &str| ["one", "two", "all"].map(|device| format!("example.org/gpu={claim}-{device}")).to_vec();
    assert_eq!(cdi(&bench.claims, &pod, "x"), all("x"));
    assert_eq!(cdi(&bench.claims, &pod, "y"), all("y"));
    assert_eq!(cdi(&bench.claims, &pod, "request"), ["example.org/gpu=x-two", "example.org/gpu=x-all"]);
    let both = ["example.org/gpu=x-one", "example.org/gpu=x-all", "example.org/gpu=x-two"];
    assert_eq!(cdi(&bench.claims, &pod, "both"), both);
    assert!(cdi(&bench.claims, &pod, "none").is_empty());
    bench.claims.unprepare(&pod).await.expect("taken back");
    bench.claims.unprepare(&pod).await.expect("taken back");
    assert_eq!(bench.driver.calls(), [call("NodeUnprepareResources", &["x", "y"])]);
}

#[tokio::test]
async fn a_claim_made_for_the_pod_is_found_by_its_status_and_must_be_its_own() {
    let bench = Bench::new();
    let mut object = serde_json::to_value(pod("p", &[])).expect("JSON");
    object["spec"]["resourceClaims"] = json!([
        {"name": "gpu", "resourceClaimTemplateName": "t"}, {"name": "none", "resourceClaimTemplateName": "t"},
    ]);
    let typed = |object: &Value| serde_json::from_value::<Pod>(object.clone()).expect("a pod");
    let failed = bench.claims.prepare(&typed(&object)).await;
    assert_eq!(failed, Err("prepare dynamic resources: pod \"ns/p\": ResourceClaim not created yet".to_owned()));
    let statuses = json!([{"name": "gpu", "resourceClaimName": "p-gpu-1"}, {"name": "none"}]);
    object["status"] = json!({"resourceClaimStatuses": statuses});
    bench.api.put(&place("p-gpu-1"), claim("p-gpu-1", &["p"]));
    let failed = bench.claims.prepare(&typed(&object)).await;
    let why = "prepare dynamic resources: ResourceClaim ns/p-gpu-1 was not created for Pod ns/p (Pod is not owner)";
    assert_eq!(failed, Err(why.to_owned()));
    bench.api.edit(&place("p-gpu-1"), |claim| {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true});
        claim["metadata"]["ownerReferences"] = json!([owner]);
    });
    bench.claims.prepare(&typed(&object)).await.expect("prepared");
    assert_eq!(bench.driver.calls(), [call("NodePrepareResources", &["p-gpu-1"])]);
}

#[tokio::test]
async fn what_keeps_a_pod_from_its_devices_is_told_in_upstreams_words() {
    let bench = Bench::new();
    let pod = pod("p", &["x"]);
    let fails = async |what: &str| {
        let why = bench.claims.prepare(&pod).await.expect_err(what);
        assert!(why.starts_with("prepare dynamic resources: "), "{why}");
        assert!(why.contains(what), "{why}");
    };
    fails("fetch ResourceClaim x: ").await;
    bench.api.put(&place("x"), claim("x", &["other"]));
    fails("pod p (p) is not allowed to use ResourceClaim x (uid-x)").await;
    let mut open = claim("x", &["p"]);
    open["status"]["allocation"] = Value::Null;
    bench.api.put(&place("x"), open);
    fails("ResourceClaim x: not allocated").await;
    let mut foreign = claim("x", &["p"]);
    foreign["status"]["allocation"]["devices"]["results"][0]["driver"] = json!("net.example.org");
    bench.api.put(&place("x"), foreign);
    fails("DRA driver net.example.org is not registered").await;
    assert!(bench.driver.calls().is_empty());
    // None of these is anything to take back.
    bench.claims.unprepare(&pod).await.expect("nothing to do");
    assert!(bench.driver.calls().is_empty());
    bench.api.put(&place("x"), claim("x", &["p"]));
    bench.driver.refuse("x", Some("it is on fire"));
    fails("NodePrepareResources failed for ResourceClaim x: it is on fire").await;
    bench.driver.refuse("x", None);
    bench.driver.skip("x");
    fails("NodePrepareResources skipped 1 ResourceClaims").await;
}

#[tokio::test]
async fn a_shared_claim_is_taken_back_after_its_last_pod() {
    let bench = Bench::new();
    bench.api.put(&place("x"), claim("x", &["p", "q"]));
    let (p, q) = (pod("p", &["x"]), pod("q", &["x"]));
    let both = tokio::join!(bench.claims.prepare(&p), bench.claims.prepare(&q));
    assert_eq!(both, (Ok(()), Ok(())));
    assert_eq!(bench.driver.calls(), [call("NodePrepareResources", &["x"])]);
    bench.claims.unprepare(&p).await.expect("left");
    assert!(bench.driver.calls().is_empty());
    bench.driver.refuse("x", Some("busy"));
    let failed = bench.claims.unprepare(&q).await;
    let why = "unprepare dynamic resources: NodeUnprepareResources failed for ResourceClaim x: busy";
    assert_eq!(failed, Err(why.to_owned()));
    bench.driver.refuse("x", None);
    bench.driver.calls();
    bench.claims.unprepare(&q).await.expect("taken back");
    assert_eq!(bench.driver.calls(), [call("NodeUnprepareResources", &["x"])]);
}

#[tokio::test]
async fn another_claim_of_the_same_name_waits_for_the_old_one() {
    let bench = Bench::new();
    bench.api.put(&place("x"), claim("x", &["p"]));
    let (p, q) = (pod("p", &["x"]), pod("q", &["x"]));
    bench.claims.prepare(&p).await.expect("prepared");
    let mut new = claim("x", &["q"]);
    new["metadata"]["uid"] = json!("new");
    bench.api.put(&place("x"), new);
    let why = bench.claims.prepare(&q).await.expect_err("the old one is there");
    assert!(why.contains("old ResourceClaim with same name x and different UID uid-x still exists"), "{why}");
    bench.claims.unprepare(&p).await.expect("taken back");
    bench.claims.prepare(&q).await.expect("prepared");
}

#[tokio::test]
async fn a_kubelet_that_starts_anew_knows_devices_and_takes_back_what_pods_left() {
    let mut bench = Bench::new();
    for name in ["x", "y"] {
        bench.api.put(&place(name), claim(name, &["p", "q"]));
    }
    let (p, q) = (pod("p", &["x"]), pod("q", &["y"]));
    bench.claims.prepare(&p).await.expect("prepared");
    bench.claims.prepare(&q).await.expect("prepared");
    bench.driver.calls();
    bench.restart();
    assert_eq!(cdi(&bench.claims, &p, "x").len(), 3);
    // The other pod is gone; its driver comes later.
    let (claims, kept) = (bench.claims.clone(), HashSet::from(["p".to_owned()]));
    let sweeping = tokio::spawn(async move { claims.keep_only(&kept).await });
    register(&bench.plugins, &bench.driver).expect("registered");
    tokio::time::timeout(Duration::from_secs(30), sweeping).await.expect("in time").expect("no panic");
    assert_eq!(bench.driver.calls(), [call("NodeUnprepareResources", &["y"])]);
    // A new sandbox asks anew: the driver may have been restarted too.
    bench.claims.prepare(&p).await.expect("prepared");
    assert_eq!(bench.driver.calls(), [call("NodePrepareResources", &["x"])]);
}

#[tokio::test]
async fn a_corrupt_checkpoint_keeps_pods_from_their_devices() {
    let mut bench = Bench::new();
    bench.api.put(&place("x"), claim("x", &["p"]));
    let p = pod("p", &["x"]);
    bench.claims.prepare(&p).await.expect("prepared");
    std::fs::write(bench.root.path().join("dra_manager_state"), "{}").expect("written");
    bench.restart();
    register(&bench.plugins, &bench.driver).expect("registered");
    let why = bench.claims.prepare(&p).await.expect_err("not known");
    assert!(why.contains("checkpoint is corrupted"), "{why}");
}

const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";

fn offer(api: &FakeApi, name: &str, node: &str, driver: &str) {
    let object = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "driver": driver}});
    api.put(&format!("{SLICES}/{name}"), object);
}

fn offered(api: &FakeApi) -> Vec<&'static str> {
    let all = ["mine", "theirs", "elsewhere"];
    all.into_iter().filter(|name| api.object(&format!("{SLICES}/{name}")).is_some()).collect()
}

#[tokio::test]
async fn the_slices_of_this_node_go_at_the_start() {
    let bench = Bench::new();
    offer(&bench.api, "mine", "n", NAME);
    offer(&bench.api, "theirs", "n", "net.example.org");
    offer(&bench.api, "elsewhere", "m", NAME);
    bench.plugins.wipe(None).await;
    assert_eq!(offered(&bench.api), ["elsewhere"]);
}

#[tokio::test(start_paused = true)]
async fn the_slices_of_a_driver_go_half_a_minute_after_it() {
    let bench = Bench::new();
    bench.plugins.until(NAME, true).await;
    let Bench { api, root: _root, plugins, driver, .. } = bench;
    offer(&api, "mine", "n", NAME);
    offer(&api, "theirs", "n", "net.example.org");
    offer(&api, "elsewhere", "m", NAME);
    // Its process ends, and the next one comes in time.
    let socket = driver.socket.clone();
    drop(driver);
    plugins.until(NAME, false).await;
    std::fs::remove_file(&socket).expect("removed");
    let driver = FakePlugin::start(&socket);
    plugins.until(NAME, true).await;
    tokio::time::sleep(2 * plugins::WIPING_DELAY).await;
    assert_eq!(offered(&api), ["mine", "theirs", "elsewhere"]);
    // It is gone for good.
    plugins.remove(NAME, &driver.socket);
    let (start, mut news) = (tokio::time::Instant::now(), plugins.news());
    news.changed().await.expect("told");
    assert_eq!(start.elapsed().as_secs(), plugins::WIPING_DELAY.as_secs());
    assert_eq!(offered(&api), ["theirs", "elsewhere"]);
}

#[tokio::test]
async fn a_plugin_is_registered_as_long_as_its_socket_is_there() {
    let (api, root) = (FakeApi::new(), tempfile::tempdir().expect("a folder"));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u1"}});
    api.put("/api/v1/nodes/n", node.clone());
    let (_sender, node) = tokio::sync::watch::channel(serde_json::from_value(node).ok().map(Arc::new));
    let (plugins, _) = kubelet(&api, root.path());
    let folder = root.path().join("plugins_registry");
    std::fs::create_dir(&folder).expect("a folder");
    let mut driver = FakePlugin::start(&folder.join("gpu-reg.sock"));
    let registry = crate::csi::Registry {
        client: api.client(),
        node_name: "n".to_owned(),
        dirs: crate::volumes::Dirs::new(root.path()),
        drivers: crate::csi::Drivers::default(),
        claims: plugins.clone(),
        node,
    };
    let running = tokio::spawn(crate::csi::run(registry));
    let told = async { driver.told.wait_for(Option::is_some).await.expect("the driver is here").clone() };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await.expect("in time");
    assert_eq!(told.map(|told| (told.plugin_registered, told.error)), Some((true, String::new())));
    let plugin = plugins.find(NAME).expect("registered");
    assert_eq!((plugin.socket, plugin.service), (driver.socket.clone(), "v1.DRAPlugin"));
    plugins.until(NAME, true).await;
    std::fs::remove_file(&driver.socket).expect("removed");
    tokio::time::timeout(Duration::from_secs(30), plugins.until(NAME, false)).await.expect("in time");
    assert_eq!(plugins.find(NAME), Err(format!("DRA driver {NAME} is not registered")));
    running.abort();
}
