//! Volumes of whole pods, over an API in memory. Mounts need root.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use kiln_apimachinery::quantity::Quantity;
use kiln_client::testing::FakeApi;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;

const CONFIG_MAP: &str = "/api/v1/namespaces/ns/configmaps/settings";
const TOKEN: &str = "/api/v1/namespaces/ns/serviceaccounts/sa/token";

struct Node {
    api: FakeApi,
    root: TempDir,
    volumes: Volumes,
    /// What was reported.
    told: mpsc::UnboundedReceiver<String>,
    /// The Node as the API has it.
    _object: watch::Sender<Option<Arc<super::Node>>>,
}

impl Node {
    fn new() -> Self {
        Self::over(FakeApi::new(), tempfile::tempdir().expect("a folder"))
    }

    fn over(api: FakeApi, root: TempDir) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let (object, watched) = watch::channel(None);
        let config = Config {
            dirs: Dirs::new(root.path()),
            allocatable: Arc::new(|| [("memory".to_owned(), Quantity::whole(64 << 20))].into()),
            labels: Arc::new(|| [("kubernetes.io/hostname".to_owned(), "here".to_owned())].into()),
            node_name: "here".to_owned(),
            node: watched,
            drivers: Drivers::default(),
            in_use: InUse::default(),
            clock: Clock::from_tokio("2026-01-01T00:00:00Z".parse().expect("a time")),
            report: Arc::new(move |_, error| _ = tell.send(error.to_string())),
        };
        let (volumes, fresh) = Volumes::new(api.client(), config);
        tokio::spawn(fresh);
        Self { api, root, volumes, told, _object: object }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.root.path().join("pods/u/volumes").join(below)
    }

    async fn mount(&self, spec: Value) -> BTreeMap<String, Mounted> {
        self.volumes.mount(&pod(spec)).await.expect("mounted")
    }

    /// Waits until a file has a text; the clock is paused, so this takes no time.
    async fn until(&self, path: &Path, text: &str) {
        for _ in 0..10_000 {
            if fs::read_to_string(path).is_ok_and(|found| found == text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} is {:?}, not {text:?}", path.display(), fs::read_to_string(path));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        mounts::unmount_below(self.root.path()).expect("unmounted");
    }
}

fn pod(mut spec: Value) -> Arc<Pod> {
    spec["containers"] = json!([{"name": "c"}]);
    spec["serviceAccountName"] = json!("sa");
    let metadata = json!({"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "1"}});
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod"))
}

fn settings(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": value}})
}

fn config_map_volume() -> Value {
    json!({"volumes": [{"name": "v", "configMap": {"name": "settings", "defaultMode": 0o640}}]})
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_config_map_and_sees_it_change() {
    let mut node = Node::new();
    let mounting = tokio::spawn({
        let (volumes, pod) = (node.volumes.clone(), pod(config_map_volume()));
        async move { volumes.mount(&pod).await }
    });
    let told = node.told.recv().await.expect("a report");
    assert_eq!(told, "MountVolume.SetUp failed for volume \"v\" : configmap \"settings\" not found");
    node.api.put(CONFIG_MAP, settings("one"));
    let mounted = mounting.await.expect("no panic").expect("mounted");
    let dir = node.path("kubernetes.io~configmap/v");
    let expected = Mounted { place: Place::Path(dir.clone()), read_only: true, relabel: true };
    assert_eq!(mounted["v"], expected);
    assert_eq!(fs::read_to_string(dir.join("key")).expect("a file"), "one");
    assert_eq!(fs::metadata(dir.join("key")).expect("a file").mode() & 0o777, 0o640);
    node.api.put(CONFIG_MAP, settings("two"));
    node.until(&dir.join("key"), "two").await;
}

#[tokio::test(start_paused = true)]
async fn secrets_lie_in_memory_and_belong_to_the_pods_group() {
    let node = Node::new();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"key": "c2VjcmV0"}});
    node.api.put("/api/v1/namespaces/ns/secrets/s", secret);
    let spec = json!({
        "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400}}],
        "securityContext": {"fsGroup": 4321},
    });
    node.mount(spec).await;
    let dir = node.path("kubernetes.io~secret/v");
    assert_eq!(mounts::at(&dir).expect("read").map(|mount| mount.fs_type), Some("tmpfs".to_owned()));
    let meta = fs::metadata(dir.join("key")).expect("a file");
    assert_eq!((meta.mode() & 0o777, meta.gid()), (0o440, 4321));
    assert_eq!(fs::read_to_string(dir.join("key")).expect("a file"), "secret");
}

#[tokio::test(start_paused = true)]
async fn a_projection_brings_all_together_and_its_token_is_refreshed() {
    let node = Node::new();
    node.api.put(CONFIG_MAP, settings("one"));
    let token = |text: &str, expires: &str| json!({"status": {"token": text, "expirationTimestamp": expires}});
    node.api.put(TOKEN, token("unused", ""));
    let spec = json!({"volumes": [{"name": "v", "projected": {"defaultMode": 0o644, "sources": [
        {"configMap": {"name": "settings", "items": [{"key": "key", "path": "map/key"}]}},
        {"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
        ]}},
        {"secret": {"name": "none", "optional": true}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
    ]}}]});
    // The API of the test stores what is posted, so the answer is the request: it must hold a token already.
    let granted =
        Arc::new(Mutex::new(vec![token("first", "2026-01-01T01:00:00Z"), token("second", "2026-01-01T01:48:00Z")]));
    let client = kiln_client::Client::new(Granting { api: node.api.clone(), granted: granted.clone() });
    let config = node.volumes.0.config.clone();
    let (volumes, fresh) = Volumes::new(client, config);
    tokio::spawn(fresh);
    let pod = pod(spec);
    volumes.mount(&pod).await.expect("mounted");
    let dir = node.path("kubernetes.io~projected/v");
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a file");
    assert_eq!((read("map/key"), read("labels"), read("memory")), ("one".into(), "a=\"1\"".into(), "64".into()));
    assert_eq!(read("token"), "first");
    node.api.put(CONFIG_MAP, settings("two"));
    node.until(&dir.join("map/key"), "two").await;
    assert_eq!(
        (read("token"), lock(&granted).len()),
        ("first".to_owned(), 1),
        "a change of another source asks for no token"
    );
    tokio::time::sleep(Duration::from_secs(48 * 60)).await;
    node.until(&dir.join("token"), "second").await;
    let mut changed = (*pod).clone();
    changed.metadata.labels = Some([("a".to_owned(), "2".to_owned())].into());
    volumes.update(&Arc::new(changed));
    node.until(&dir.join("labels"), "a=\"2\"").await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_in_time_whatever_the_clock_is_set_to() {
    // (the clock's jump after ten minutes, after how many more the second token must be there)
    for (jump, at_once) in [(3_600, true), (-3_600, false), (-86_400, false)] {
        let node = Node::new();
        node.api.put(TOKEN, json!({}));
        let spec = json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}]});
        let token = |text: &str| json!({"status": {"token": text, "expirationTimestamp": "2026-01-01T01:00:00Z"}});
        let granted = Arc::new(Mutex::new(vec![token("first"), token("second")]));
        let client = kiln_client::Client::new(Granting { api: node.api.clone(), granted: granted.clone() });
        let (steady, by) = (node.volumes.0.config.clock.clone(), Arc::new(AtomicI64::new(0)));
        let jumping = by.clone();
        let clock = move || steady.now() + jiff::SignedDuration::from_secs(jumping.load(Ordering::Relaxed));
        let config = Config { clock: Clock::new(clock), ..node.volumes.0.config.clone() };
        let (volumes, fresh) = Volumes::new(client, config);
        tokio::spawn(fresh);
        volumes.mount(&pod(spec)).await.expect("mounted");
        let file = node.path("kubernetes.io~projected/v").join("token");
        let read = || fs::read_to_string(&file).expect("a file");
        tokio::time::sleep(Duration::from_secs(600)).await;
        by.store(jump, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(read(), if at_once { "second" } else { "first" }, "{jump}");
        // Four fifths of its life are 48 minutes.
        tokio::time::sleep(Duration::from_secs(37 * 60)).await;
        assert_eq!(read(), "second", "{jump}");
    }
}

/// The API in memory, but that it grants tokens.
struct Granting {
    api: FakeApi,
    granted: Arc<Mutex<Vec<Value>>>,
}

impl kiln_client::Transport for Granting {
    fn send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> kiln_client::BoxFuture<'_, Result<http::Response<kiln_client::Body>, kiln_client::ClientError>> {
        if request.uri().path() == TOKEN {
            let asked: Value = serde_json::from_slice(request.body()).expect("a request");
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
            assert_eq!(asked["spec"], json!({"audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound}));
            let mut granted = lock(&self.granted);
            assert!(!granted.is_empty(), "one token too many is asked for");
            let answer = http::Response::new(kiln_client::full_body(granted.remove(0).to_string()));
            return Box::pin(async { Ok(answer) });
        }
        self.api.send(request)
    }
}

#[tokio::test(start_paused = true)]
async fn local_volumes_are_bound_and_their_data_survives_the_pod() {
    let mut node = Node::new();
    let data = node.root.path().join("data");
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("file"), "kept").expect("a file");
    let claim = |phase: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"uid": "c1"},
            "spec": {"volumeName": "pv"}, "status": {"phase": phase}})
    };
    let volume = |host: &str| {
        let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [host]});
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "spec": {
            "claimRef": {"uid": "c1"}, "local": {"path": data},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        }})
    };
    node.api.put("/api/v1/namespaces/ns/persistentvolumeclaims/claim", claim("Pending"));
    node.api.put("/api/v1/persistentvolumes/pv", volume("elsewhere"));
    let spec = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]});
    let mounting = tokio::spawn({
        let (volumes, pod) = (node.volumes.clone(), pod(spec));
        async move { volumes.mount(&pod).await }
    });
    assert_eq!(node.told.recv().await.expect("a report"), "error processing PVC ns/claim: PVC is not bound");
    node.api.put("/api/v1/namespaces/ns/persistentvolumeclaims/claim", claim("Bound"));
    let told = loop {
        let told = node.told.recv().await.expect("a report");
        if !told.contains("not bound") {
            break told;
        }
    };
    assert_eq!(told, "MountVolume.SetUp failed for volume \"pv\" : no matching NodeSelectorTerms");
    node.api.put("/api/v1/persistentvolumes/pv", volume("here"));
    mounting.await.expect("no panic").expect("mounted");
    let dir = node.path("kubernetes.io~local-volume/pv");
    assert_eq!(fs::read_to_string(dir.join("file")).expect("a file"), "kept");
    node.volumes.remove("u").await.expect("removed");
    assert!(!node.root.path().join("pods/u").exists());
    assert_eq!(fs::read_to_string(data.join("file")).expect("a file"), "kept");
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_what_runs_is_taken_over_and_what_is_gone_is_removed() {
    let node = Node::new();
    let memory = json!({"volumes": [{"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "d", "emptyDir": {}}]});
    node.mount(memory.clone()).await;
    let (dir, other) = (node.path("kubernetes.io~empty-dir/m"), node.root.path().join("pods/gone"));
    fs::write(dir.join("file"), "kept").expect("a file");
    let gone = other.join("volumes/kubernetes.io~empty-dir/m");
    empty_dir::set_up(&gone, &empty_dir::Medium::Memory(4096), None).expect("mounted");
    let (after, fresh) = Volumes::new(node.api.client(), node.volumes.0.config.clone());
    tokio::spawn(fresh);
    after.restore(&HashSet::from(["u".to_owned()])).await;
    assert!(!other.exists());
    after.mount(&pod(memory)).await.expect("mounted");
    assert_eq!(fs::read_to_string(dir.join("file")).expect("a file"), "kept");
    after.remove("u").await.expect("removed");
    after.remove("u").await.expect("it is gone, which is fine");
    assert_eq!(mounts::below(node.root.path()).expect("read"), []);
}

#[tokio::test(start_paused = true)]
async fn a_folder_with_something_mounted_is_never_emptied() {
    let node = Node::new();
    node.mount(json!({"volumes": [{"name": "d", "emptyDir": {}}]})).await;
    let user = node.root.path().join("user");
    fs::create_dir(&user).expect("a folder");
    fs::write(user.join("file"), "kept").expect("a file");
    // As a container with mountPropagation Bidirectional would do.
    let inner = node.path("kubernetes.io~empty-dir/d/inner");
    fs::create_dir(&inner).expect("a folder");
    mounts::bind(&user, &inner).expect("bound");
    node.volumes.unmount("u").await.expect("unmounted");
    assert_eq!(fs::read_to_string(user.join("file")).expect("a file"), "kept");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_runs_when_the_kubelet_starts_sees_what_changed_meanwhile_and_later() {
    let node = Node::new();
    node.api.put(CONFIG_MAP, settings("one"));
    let pod = pod(config_map_volume());
    node.volumes.mount(&pod).await.expect("mounted");
    node.volumes.0.stale.close();
    node.api.put(CONFIG_MAP, settings("two"));
    let (after, fresh) = Volumes::new(node.api.client(), node.volumes.0.config.clone());
    tokio::spawn(fresh);
    after.adopt(&pod);
    let file = node.path("kubernetes.io~configmap/v/key");
    node.until(&file, "two").await;
    node.api.put(CONFIG_MAP, settings("three"));
    node.until(&file, "three").await;
}
