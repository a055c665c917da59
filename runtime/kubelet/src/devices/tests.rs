//! Plugins over sockets, as the kubelet meets them.

use std::path::Path;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::messages::HEALTHY;
use super::testing::{Plugin, SOON, register};
use super::*;

const NAME: &str = "example.org/stick";
fn pod(uid: &str, spec: &Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": uid, "uid": uid}, "spec": spec});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn container(name: &str, sticks: u32) -> Value {
    json!({"name": name, "resources": {"limits": {NAME: sticks.to_string(), "cpu": "1"}}})
}

/// No pod is over.
fn none() -> HashSet<String> {
    HashSet::new()
}

/// What the status of a pod's container says of its devices.
fn health(devices: &Devices, uid: &str) -> Value {
    let status = json!({"containerStatuses": [
        {"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0},
    ]});
    let mut status = serde_json::from_value(status).expect("a status");
    devices.show_health(uid, &mut status);
    serde_json::to_value(status).expect("JSON")["containerStatuses"][0]["allocatedResourcesStatus"].clone()
}

async fn until(devices: &Devices, wanted: Option<(usize, usize)>) {
    let mut changes = devices.subscribe();
    let seen = async {
        while devices.capacity().get(NAME).copied() != wanted {
            changes.changed().await.expect("the devices are there");
        }
    };
    tokio::time::timeout(SOON, seen).await.expect("in time");
}

fn started(folder: &Path) -> (Devices, JoinHandle<()>) {
    let devices = Devices::new(folder.to_owned());
    let running = devices.clone();
    (devices, tokio::spawn(async move { running.run().await }))
}

#[tokio::test]
async fn what_a_plugin_offers_reaches_containers_and_outlives_the_kubelet() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join(FOLDER);
    let (devices, running) = started(&folder);
    // Its socket is there before the kubelet's is swept and made: the folder is the kubelet's.
    assert!(
        tokio::time::timeout(SOON, register(&folder, "v1beta1", NAME, "stick.sock")).await.expect("in time").is_err()
    );
    let mut plugin = Plugin::start(&folder, "stick.sock");
    register(&folder, "v1beta1", NAME, "stick.sock").await.expect("registered");
    plugin.tell(&[("a", HEALTHY), ("b", HEALTHY), ("c", "Unhealthy"), ("cdi", HEALTHY)]).await;
    until(&devices, Some((4, 3))).await;

    let first = pod("first", &json!({"containers": [container("main", 1)]}));
    devices.allocate(&first, &none()).await.expect("allocated");
    assert_eq!(plugin.asked(), ["GetPreferredAllocation 1 of a,b,cdi with ", "Allocate cdi"]);
    let mut config = ContainerConfig {
        envs: vec![KeyValue { key: "OWN".to_owned(), value: b"pod".to_vec() }],
        ..ContainerConfig::default()
    };
    devices.add(&first, "main", &mut config).await.expect("added");
    assert_eq!(plugin.asked(), ["PreStartContainer cdi"]);
    let envs: Vec<_> = config.envs.iter().map(|env| (env.key.as_str(), &env.value[..])).collect();
    assert_eq!(envs, [("OWN", &b"pod"[..]), ("STICKS", &b"cdi"[..])]);
    assert_eq!((config.mounts[0].container_path.as_str(), config.mounts[0].readonly), ("/sticks", true));
    assert_eq!(
        (config.devices[0].container_path.as_str(), config.devices[0].permissions.as_str()),
        ("/dev/stick", "rw")
    );
    assert_eq!(
        (config.annotations["stick"].as_str(), config.cdi_devices[0].name.as_str()),
        ("yes", "example.org/stick=cdi")
    );

    let many = pod("many", &json!({"containers": [container("main", 3)]}));
    let why = "requested number of devices unavailable for example.org/stick. Requested: 3, Available: 2";
    assert_eq!(devices.allocate(&many, &none()).await, Err(why.to_owned()));

    // A kubelet after this one: what is given away stays so, and the plugin comes again.
    running.abort();
    _ = running.await;
    drop(plugin);
    let (devices, running) = started(&folder);
    assert_eq!(devices.capacity()[NAME], (0, 0));
    let why = "no healthy devices present; cannot allocate unhealthy devices example.org/stick";
    assert_eq!(devices.allocate(&many, &none()).await, Err(why.to_owned()));
    assert!(register(&folder, "v1beta1", NAME, "none.sock").await.is_err());
    let mut plugin = Plugin::start(&folder, "again.sock");
    register(&folder, "v1beta1", NAME, "again.sock").await.expect("registered");
    plugin.tell(&[("a", HEALTHY), ("cdi", HEALTHY)]).await;
    until(&devices, Some((2, 2))).await;
    let mut config = ContainerConfig::default();
    devices.add(&first, "main", &mut config).await.expect("added");
    assert_eq!(config.devices.len(), 1);
    let second = pod("second", &json!({"containers": [container("main", 1)]}));
    devices.allocate(&second, &none()).await.expect("allocated");
    assert_eq!(plugin.asked(), ["PreStartContainer cdi", "Allocate a"]);
    // The first one is over: nothing of it is told any more.
    let third = pod("third", &json!({"containers": [container("main", 1)]}));
    devices.allocate(&third, &["first".to_owned()].into()).await.expect("allocated");
    assert_eq!(plugin.asked(), ["Allocate cdi"]);

    let said = |health| json!([{"name": NAME, "resources": [{"resourceID": "a", "health": health}]}]);
    assert_eq!(health(&devices, "second"), said("Healthy"));
    drop(plugin);
    until(&devices, Some((2, 0))).await;
    assert_eq!(health(&devices, "second"), said("Unhealthy"));
    assert_eq!(health(&devices, "other"), Value::Null);
    // All pods of the node are known now: the others are gone.
    devices.retain(&["second".to_owned()].into());
    assert_eq!(devices.owners(), ["second"]);
    devices.release("second");
    assert!(devices.owners().is_empty());
    running.abort();
}

#[tokio::test]
async fn containers_after_an_init_container_have_its_devices() {
    let root = tempfile::tempdir().expect("a folder");
    let (devices, running) = started(root.path());
    assert!(register(root.path(), "v1", NAME, "stick.sock").await.is_err());
    let mut plugin = Plugin::start(root.path(), "stick.sock");
    register(root.path(), "v1beta1", NAME, "stick.sock").await.expect("registered");
    plugin.tell(&[("a", HEALTHY), ("b", HEALTHY), ("c", HEALTHY)]).await;
    until(&devices, Some((3, 3))).await;
    let mut sidecar = container("sidecar", 1);
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({"initContainers": [container("init", 2), sidecar], "containers": [container("main", 1)]});
    devices.allocate(&pod("u", &spec), &none()).await.expect("allocated");
    let allocated: Vec<_> = plugin.asked().into_iter().filter(|call| call.starts_with("Allocate")).collect();
    assert_eq!(allocated, ["Allocate a,c", "Allocate a", "Allocate c"]);
    running.abort();
}

#[tokio::test]
async fn who_does_not_present_itself_rightly_is_told_why() {
    let root = tempfile::tempdir().expect("a folder");
    let (_devices, running) = started(root.path());
    for (version, resource, endpoint, why) in [
        ("v1alpha1", NAME, "s", "requested API version \"v1alpha1\" is not supported by kubelet."),
        ("v1beta1", "cpu", "s", "the ResourceName \"cpu\" is invalid"),
        ("v1beta1", NAME, "../s", "the endpoint \"../s\" is no name of a socket in this folder"),
        ("v1beta1", NAME, "s", "failed to get device plugin options: failed to dial device plugin: "),
    ] {
        let told = register(root.path(), version, resource, endpoint).await.expect_err("refused");
        assert!(told.contains(why), "{told}");
    }
    running.abort();
}
