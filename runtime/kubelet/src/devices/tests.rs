//! Plugins over sockets, as the kubelet meets them.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_grpc::{Connection, Options, frame, take};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::messages::*;
use super::*;

const NAME: &str = "example.org/stick";
/// How long what happens by itself may take.
const SOON: Duration = Duration::from_secs(10);

type Told = mpsc::UnboundedSender<Bytes>;

/// A plugin: it prefers the last of its devices, and notes what it is asked.
struct Plugin {
    told: watch::Receiver<Option<Told>>,
    asked: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plugin {
    fn start(folder: &Path, socket: &str) -> Self {
        let listener = UnixListener::bind(folder.join(socket)).expect("a socket");
        let (watching, told) = watch::channel(None);
        let watching = Arc::new(watching);
        let (note, asked) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (watching, note) = (watching.clone(), note.clone());
                let service = service_fn(move |request| {
                    let (watching, note) = (watching.clone(), note.clone());
                    async move { Ok::<_, Infallible>(serve(request, &watching, &note).await) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move { _ = server.serve_connection(TokioIo::new(stream), service).await });
            }
        });
        Self { told, asked, task }
    }

    /// Tells of all devices.
    async fn tell(&mut self, devices: &[(&str, &str)]) {
        let device = |&(id, health): &(&str, &str)| PluginDevice { id: id.to_owned(), health: health.to_owned() };
        let message = frame(&ListAndWatchResponse { devices: devices.iter().map(device).collect() });
        let told = tokio::time::timeout(SOON, self.told.wait_for(Option::is_some)).await.expect("in time");
        told.expect("it runs").as_ref().expect("it is watched").send(message).expect("somebody listens");
    }

    fn asked(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

async fn serve(
    request: Request<Incoming>,
    watching: &watch::Sender<Option<Told>>,
    note: &mpsc::UnboundedSender<String>,
) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>> {
    let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let (sender, messages) = mpsc::unbounded_channel();
    let note = |text: String| _ = note.send(format!("{call} {text}"));
    match call.as_str() {
        "GetDevicePluginOptions" => {
            let options = PluginOptions { pre_start_required: true, get_preferred_allocation_available: true };
            sender.send(frame(&options)).expect("open");
        }
        "ListAndWatch" => _ = watching.send_replace(Some(sender.clone())),
        "GetPreferredAllocation" => {
            let asked: PreferredAllocationRequest = read(body);
            let asked = &asked.containers[0];
            note(format!("{} of {} with {}", asked.size, asked.available.join(","), asked.must_include.join(",")));
            let ids = asked.available.iter().rev().take(1).cloned().collect();
            sender.send(frame(&PreferredAllocationResponse { containers: vec![DeviceIds { ids }] })).expect("open");
        }
        "Allocate" => {
            let asked: AllocateRequest = read(body);
            let ids = asked.containers[0].ids.join(",");
            note(ids.clone());
            let allocation = Allocation {
                envs: [("STICKS".to_owned(), ids), ("OWN".to_owned(), "plugin".to_owned())].into(),
                mounts: vec![MountSpec {
                    container_path: "/sticks".into(),
                    host_path: "/opt/sticks".into(),
                    read_only: true,
                }],
                devices: vec![DeviceSpec {
                    container_path: "/dev/stick".into(),
                    host_path: "/dev/null".into(),
                    permissions: "rw".into(),
                }],
                annotations: [("stick".to_owned(), "yes".to_owned())].into(),
                cdi_devices: vec![CdiName { name: "example.org/stick=0".to_owned() }],
            };
            sender.send(frame(&AllocateResponse { containers: vec![allocation] })).expect("open");
        }
        "PreStartContainer" => {
            note(read::<DeviceIds>(body).ids.join(","));
            sender.send(frame(&Empty {})).expect("open");
        }
        other => panic!("{other} is no call of a plugin"),
    }
    drop(sender);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let messages = futures_util::stream::unfold(messages, |mut messages| async move {
        messages.recv().await.map(|message: Bytes| (Ok(Frame::data(message)), messages))
    });
    let frames = messages.chain(futures_util::stream::once(async { Ok(Frame::trailers(trailers)) }));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn read<M: prost::Message + Default>(body: Bytes) -> M {
    take(&mut BytesMut::from(&body[..])).expect("a message").unwrap_or_default()
}

/// Presents a plugin, as it does itself.
async fn register(folder: &Path, version: &str, resource: &str, endpoint: &str) -> Result<(), String> {
    let stream = loop {
        // The socket is made in time; nobody tells when.
        match UnixStream::connect(folder.join("kubelet.sock")).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let options = Options { probe: None, window: 1 << 16, headers: &[] };
    let connection = Connection::start(stream, "http://localhost".to_owned(), options).await.expect("HTTP/2");
    let [version, endpoint, resource_name] = [version, endpoint, resource].map(str::to_owned);
    let request = RegisterRequest { version, endpoint, resource_name };
    let answer: Result<Empty, _> = connection.unary("/v1beta1.Registration/Register", &request).await;
    answer.map(drop).map_err(|error| error.to_string())
}

fn pod(uid: &str, spec: &Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": uid, "uid": uid}, "spec": spec});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn container(name: &str, sticks: u32) -> Value {
    json!({"name": name, "resources": {"limits": {NAME: sticks.to_string(), "cpu": "1"}}})
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
    plugin.tell(&[("a", HEALTHY), ("b", HEALTHY), ("c", "Unhealthy"), ("d", HEALTHY)]).await;
    until(&devices, Some((4, 3))).await;

    let first = pod("first", &json!({"containers": [container("main", 1)]}));
    devices.allocate(&first, &[]).await.expect("allocated");
    assert_eq!(plugin.asked(), ["GetPreferredAllocation 1 of a,b,d with ", "Allocate d"]);
    let mut config = ContainerConfig {
        envs: vec![KeyValue { key: "OWN".to_owned(), value: b"pod".to_vec() }],
        ..ContainerConfig::default()
    };
    devices.add(&first, "main", &mut config).await.expect("added");
    assert_eq!(plugin.asked(), ["PreStartContainer d"]);
    let envs: Vec<_> = config.envs.iter().map(|env| (env.key.as_str(), &env.value[..])).collect();
    assert_eq!(envs, [("OWN", &b"pod"[..]), ("STICKS", &b"d"[..])]);
    assert_eq!((config.mounts[0].container_path.as_str(), config.mounts[0].readonly), ("/sticks", true));
    assert_eq!(
        (config.devices[0].container_path.as_str(), config.devices[0].permissions.as_str()),
        ("/dev/stick", "rw")
    );
    assert_eq!(
        (config.annotations["stick"].as_str(), config.cdi_devices[0].name.as_str()),
        ("yes", "example.org/stick=0")
    );

    let many = pod("many", &json!({"containers": [container("main", 3)]}));
    let why = "requested number of devices unavailable for example.org/stick. Requested: 3, Available: 2";
    assert_eq!(devices.allocate(&many, std::slice::from_ref(&first)).await, Err(why.to_owned()));

    // A kubelet after this one: what is given away stays so, and the plugin comes again.
    running.abort();
    _ = running.await;
    drop(plugin);
    let (devices, running) = started(&folder);
    assert_eq!(devices.capacity()[NAME], (0, 0));
    let why = "no healthy devices present; cannot allocate unhealthy devices example.org/stick";
    assert_eq!(devices.allocate(&many, std::slice::from_ref(&first)).await, Err(why.to_owned()));
    assert!(register(&folder, "v1beta1", NAME, "none.sock").await.is_err());
    let mut plugin = Plugin::start(&folder, "again.sock");
    register(&folder, "v1beta1", NAME, "again.sock").await.expect("registered");
    plugin.tell(&[("a", HEALTHY), ("d", HEALTHY)]).await;
    until(&devices, Some((2, 2))).await;
    let mut config = ContainerConfig::default();
    devices.add(&first, "main", &mut config).await.expect("added");
    assert_eq!(config.devices.len(), 1);
    let second = pod("second", &json!({"containers": [container("main", 1)]}));
    devices.allocate(&second, std::slice::from_ref(&first)).await.expect("allocated");
    assert_eq!(plugin.asked(), ["PreStartContainer d", "Allocate a"]);
    // The first one is over: nothing of it is told any more.
    let third = pod("third", &json!({"containers": [container("main", 1)]}));
    devices.allocate(&third, &[second]).await.expect("allocated");
    assert_eq!(plugin.asked(), ["Allocate d"]);

    drop(plugin);
    until(&devices, Some((2, 0))).await;
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
    devices.allocate(&pod("u", &spec), &[]).await.expect("allocated");
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
