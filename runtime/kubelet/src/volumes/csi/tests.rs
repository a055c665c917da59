//! Volumes of a driver, over an API in memory. Mounts need root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Pod};
use kiln_apimachinery::quantity::Quantity;
use kiln_client::Clock;
use kiln_client::testing::FakeApi;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::super::{Config, Dirs, MeasuredBy, Mounted, Place, VolumeAt, VolumeError, Volumes, mounts};
use super::InUse;
use crate::csi::messages::Capability;
use crate::csi::testing::FakeDriver;
use crate::csi::{Driver, Drivers};

const NAME: &str = "fake.csi.example.org";
const UNIQUE: &str = "kubernetes.io/csi/fake.csi.example.org^handle";
const CLAIM: &str = "/api/v1/namespaces/ns/persistentvolumeclaims/claim";
const VOLUME: &str = "/api/v1/persistentvolumes/pv";
const CSI_DRIVER: &str = "/apis/storage.k8s.io/v1/csidrivers/fake.csi.example.org";
const ALL: &[Capability] = &[Capability::StageUnstageVolume, Capability::ExpandVolume];

struct Node {
    api: FakeApi,
    root: TempDir,
    volumes: Volumes,
    driver: FakeDriver,
    in_use: InUse,
    object: watch::Sender<Option<Arc<ApiNode>>>,
    told: mpsc::UnboundedReceiver<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        mounts::unmount_below(self.root.path()).expect("unmounted");
    }
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let driver = FakeDriver::start(&root.path().join("csi.sock"), &root.path().join("data"), ALL);
        let api = FakeApi::new();
        let (object, node) = watch::channel(None);
        let (tell, told) = mpsc::unbounded_channel();
        let drivers = Drivers::default();
        drivers.set(NAME, Driver { socket: driver.socket.clone(), version: vec![1, 0, 0] });
        let in_use = InUse::default();
        let config = Config {
            dirs: Dirs::new(root.path()),
            allocatable: Arc::new(|| [("memory".to_owned(), Quantity::whole(64 << 20))].into()),
            labels: Arc::new(BTreeMap::new),
            node_name: "n".to_owned(),
            node,
            drivers,
            in_use: in_use.clone(),
            clock: Clock::system(),
            report: Arc::new(move |_, error: &VolumeError| _ = tell.send(error.to_string())),
        };
        let (volumes, fresh) = Volumes::new(api.client(), config);
        tokio::spawn(fresh);
        Self { api, root, volumes, driver, in_use, object, told }
    }

    /// A kubelet after this one.
    fn restarted(&self) -> Volumes {
        let (volumes, fresh) = Volumes::new(self.api.client(), self.volumes.0.config.clone());
        tokio::spawn(fresh);
        volumes
    }

    fn claim(&self, size: &str) {
        self.api.put(
            CLAIM,
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "claim", "namespace": "ns", "uid": "c1"}, "spec": {"volumeName": "pv"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}),
        );
        self.api.put(
            VOLUME,
            json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "pv"}, "spec": {
            "claimRef": {"uid": "c1"}, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
            "csi": {"driver": NAME, "volumeHandle": "handle", "volumeAttributes": {"kind": "fast"},
                "nodeStageSecretRef": {"namespace": "secrets", "name": "s"}}}}),
        );
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"password": "c2VjcmV0"}});
        self.api.put("/api/v1/namespaces/secrets/secrets/s", secret);
    }

    fn csi_driver(&self, spec: Value) {
        self.api.put(CSI_DRIVER, json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "spec": spec}));
    }

    fn attached(&self) {
        let name = "csi-".to_owned() + &super::places::hex(&format!("handle{NAME}n"));
        let place = format!("/apis/storage.k8s.io/v1/volumeattachments/{name}");
        self.api.put(
            &place,
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
            "spec": {"attacher": NAME, "nodeName": "n", "source": {"persistentVolumeName": "pv"}},
            "status": {"attached": true, "attachmentMetadata": {"device": "sdb"}}}),
        );
        let node =
            json!({"status": {"volumesInUse": [UNIQUE], "volumesAttached": [{"name": UNIQUE, "devicePath": ""}]}});
        self.object.send_replace(serde_json::from_value(node).ok().map(Arc::new));
    }

    fn mount_of(&self, uid: &str, volume: &str) -> PathBuf {
        self.root.path().join(format!("pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount"))
    }

    async fn mount(&self, pod: &Arc<Pod>) -> Mounted {
        self.volumes.mount(pod).await.expect("mounted")["v"].clone()
    }
}

fn pod(uid: &str, volume: Value) -> Arc<Pod> {
    let mut volume = volume;
    volume["name"] = json!("v");
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("pod-{uid}"), "namespace": "ns", "uid": uid},
            "spec": {"containers": [{"name": "c"}], "volumes": [volume], "serviceAccountName": "sa",
                "securityContext": {"fsGroup": 4321}},
        }))
        .expect("a pod"),
    )
}

fn of_claim(uid: &str) -> Arc<Pod> {
    pod(uid, json!({"persistentVolumeClaim": {"claimName": "claim"}}))
}

fn is_left(root: &Path) -> bool {
    let plugins = root.join("plugins/kubernetes.io/csi").join(NAME);
    fs::read_dir(plugins).is_ok_and(|mut entries| entries.next().is_some())
}

#[tokio::test]
async fn a_claims_volume_is_attached_staged_once_published_to_each_pod_and_taken_back() {
    let node = Node::new();
    node.claim("1Gi");
    node.csi_driver(json!({"attachRequired": true, "podInfoOnMount": true, "fsGroupPolicy": "File"}));
    let mut in_use = node.in_use.subscribe();
    let mounting = tokio::spawn({
        let (volumes, pod) = (node.volumes.clone(), of_claim("a"));
        async move { volumes.mount(&pod).await }
    });
    in_use.wait_for(|names| names.contains(UNIQUE)).await.expect("it is said to be in use");
    assert_eq!(node.driver.names(), Vec::<String>::new(), "nothing is done before it is attached");
    node.attached();
    let mounted = mounting.await.expect("no panic").expect("mounted")["v"].clone();
    let target = node.mount_of("a", "pv");
    assert_eq!(mounted, Mounted { place: Place::Path(target.clone()), read_only: false, relabel: true });
    let calls = node.driver.calls();
    assert_eq!(
        calls.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["NodeStageVolume", "NodePublishVolume"]
    );
    assert_eq!((calls[0].1["secret"].as_str(), calls[0].1["device"].as_str()), ("secret", "sdb"));
    let published = (&calls[1].1["csi.storage.k8s.io/pod.name"], &calls[1].1["kind"]);
    assert_eq!(published, (&"pod-a".to_owned(), &"fast".to_owned()));
    assert_eq!(fs::metadata(&target).expect("it is there").gid(), 4321, "it belongs to the pod's group");
    fs::write(target.join("file"), "kept").expect("written");
    let by = MeasuredBy::Driver { socket: node.driver.socket.clone(), handle: "handle".to_owned(), path: target };
    let claim = Some(("ns".to_owned(), "claim".to_owned()));
    let expected = VolumeAt { uid: "a".to_owned(), name: "v".to_owned(), claim, by };
    assert_eq!(node.volumes.measurable(), [expected], "its driver knows how full it is");
    node.mount(&of_claim("b")).await;
    assert_eq!(node.driver.names(), ["NodePublishVolume"]);
    node.mount(&of_claim("b")).await;
    assert_eq!(node.driver.names(), Vec::<String>::new(), "what is there is left alone");
    node.volumes.remove("a").await.expect("removed");
    assert_eq!(node.driver.names(), ["NodeUnpublishVolume"]);
    assert_eq!(fs::read_to_string(node.mount_of("b", "pv").join("file")).expect("a file"), "kept");
    node.volumes.remove("b").await.expect("removed");
    assert_eq!(node.driver.names(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    assert!(node.in_use.borrow().is_empty());
    assert!(!is_left(node.root.path()), "nothing is left of what was staged");
    assert_eq!(mounts::below(node.root.path()).expect("read"), []);
    assert_eq!(fs::read_to_string(node.root.path().join("data/handle/file")).expect("a file"), "kept");
}

#[tokio::test]
async fn a_block_device_is_published_to_a_path_of_its_own_for_each_pod() {
    let node = Node::new();
    node.claim("1Gi");
    let mut volume = node.api.object(VOLUME).expect("it is there");
    volume["spec"]["volumeMode"] = json!("Block");
    volume["spec"]["csi"]["volumeAttributes"]["device"] = json!("/dev/zero");
    node.api.put(VOLUME, volume);
    node.csi_driver(json!({"attachRequired": false, "fsGroupPolicy": "File"}));
    let devices = node.root.path().join("plugins/kubernetes.io/csi/volumeDevices");
    let place = |uid: &str| devices.join("publish/pv").join(uid);
    for (uid, calls) in [("a", &["NodeStageVolume", "NodePublishVolume"][..]), ("b", &["NodePublishVolume"])] {
        let mounted = node.mount(&of_claim(uid)).await;
        assert_eq!(mounted, Mounted { place: Place::Device(place(uid)), read_only: false, relabel: true });
        assert_eq!(node.driver.names(), calls);
        let rdev = |path: &Path| fs::metadata(path).expect("it is there").rdev();
        assert_eq!(rdev(&place(uid)), rdev(Path::new("/dev/zero")));
    }
    let measured = node.volumes.measurable();
    let by = MeasuredBy::Driver { socket: node.driver.socket.clone(), handle: "handle".to_owned(), path: place("a") };
    assert_eq!(measured[0].by, by);
    node.mount(&of_claim("a")).await;
    assert_eq!(node.driver.names(), Vec::<String>::new(), "what is there is left alone");
    node.volumes.remove("a").await.expect("removed");
    assert_eq!(node.driver.names(), ["NodeUnpublishVolume"]);
    // By a kubelet that did not set it up.
    node.restarted().remove("b").await.expect("removed");
    assert_eq!(node.driver.names(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
    assert!(!devices.join("publish/pv").exists() && !devices.join("staging/pv").exists(), "nothing is left");
    assert_eq!(mounts::below(node.root.path()).expect("read"), []);
}

#[tokio::test]
async fn volumes_are_taken_back_by_a_kubelet_that_did_not_set_them_up_once_the_driver_is_there() {
    let node = Node::new();
    node.claim("1Gi");
    node.csi_driver(json!({"attachRequired": true, "fsGroupPolicy": "None"}));
    node.attached();
    node.mount(&of_claim("a")).await;
    node.in_use.send_replace(std::collections::BTreeSet::new());
    node.driver.calls();
    let after = node.restarted();
    assert!(node.in_use.borrow().contains(UNIQUE), "it must not be detached");
    let drivers = &node.volumes.0.config.drivers;
    let known = node.driver.socket.clone();
    drivers.set(NAME, Driver { socket: "/nonexistent".into(), version: vec![1, 0, 0] });
    let refused = after.remove("a").await.expect_err("nobody answers").to_string();
    assert!(refused.contains("Unmounter.TearDownAt failed: rpc error: code = Unavailable"), "{refused}");
    after.restore(&std::collections::HashSet::new()).await;
    drivers.set(NAME, Driver { socket: known, version: vec![1, 0, 0] });
    let mut in_use = node.in_use.subscribe();
    in_use.wait_for(|names| !names.contains(UNIQUE)).await.expect("it is unstaged");
    assert_eq!(node.driver.names(), ["NodeUnpublishVolume", "NodeUnstageVolume"]);
}

#[tokio::test]
async fn a_volume_of_the_pod_itself_needs_a_driver_that_says_it_can_and_is_told_of_the_pod() {
    let mut node = Node::new();
    let pod = pod("a", json!({"csi": {"driver": NAME, "volumeAttributes": {"kind": "inline"}}}));
    let mounting = tokio::spawn({
        let (volumes, pod) = (node.volumes.clone(), pod.clone());
        async move { volumes.mount(&pod).await }
    });
    assert_eq!(
        node.told.recv().await.expect("a report"),
        "MountVolume.SetUp failed for volume \"v\" : kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: \
         volume mode \"Ephemeral\" not supported by driver fake.csi.example.org (no CSIDriver object)"
    );
    node.csi_driver(json!({"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"], "fsGroupPolicy": "File"}));
    let mounted = mounting.await.expect("no panic").expect("mounted")["v"].clone();
    assert_eq!(mounted.place, Place::Path(node.mount_of("a", "v")));
    let calls = node.driver.calls();
    let [(name, said)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((name.as_str(), said["csi.storage.k8s.io/ephemeral"].as_str()), ("NodePublishVolume", "true"));
    let handle = "csi-".to_owned() + &super::places::hex("av");
    assert_eq!(said["volume"], handle);
    node.volumes.remove("a").await.expect("removed");
    assert_eq!(node.driver.names(), ["NodeUnpublishVolume"]);
}

#[tokio::test]
async fn a_file_system_grows_with_its_volume_and_the_claim_says_so() {
    let node = Node::new();
    node.claim("2Gi");
    node.csi_driver(json!({"attachRequired": false, "fsGroupPolicy": "None"}));
    node.mount(&of_claim("a")).await;
    let calls = node.driver.calls();
    assert_eq!(
        calls.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["NodeStageVolume", "NodePublishVolume", "NodeExpandVolume"]
    );
    assert_eq!(calls[2].1["bytes"], (2_i64 << 30).to_string());
    assert_eq!(node.api.object(CLAIM).expect("it is there")["status"]["capacity"]["storage"], "2Gi");
    node.volumes.remove("a").await.expect("removed");
}

#[tokio::test]
async fn a_drivers_refusal_is_told_in_its_words() {
    let mut node = Node::new();
    node.csi_driver(json!({"volumeLifecycleModes": ["Ephemeral"], "fsGroupPolicy": "None"}));
    let pod = pod("a", json!({"csi": {"driver": NAME, "volumeAttributes": {"fails": "yes"}}}));
    let mounting = tokio::spawn({
        let (volumes, pod) = (node.volumes.clone(), pod.clone());
        async move { volumes.mount(&pod).await }
    });
    assert_eq!(
        node.told.recv().await.expect("a report"),
        "MountVolume.SetUp failed for volume \"v\" : rpc error: code = InvalidArgument desc = no such thing"
    );
    mounting.abort();
    node.volumes.remove("a").await.expect("removed");
}
