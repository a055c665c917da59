//! A plugin for tests: its devices are null devices, it prefers the last of them, and notes what it is asked.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_grpc::{Connection, Options, frame, take};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::messages::*;

/// How long what happens by itself may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

type Told = mpsc::UnboundedSender<Bytes>;

/// The plugin.
pub(crate) struct Plugin {
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
    /// Listens in the folder of plugins.
    pub(crate) fn start(folder: &Path, socket: &str) -> Self {
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

    /// Tells of all devices, once somebody listens.
    pub(crate) async fn tell(&mut self, devices: &[(&str, &str)]) {
        let device = |&(id, health): &(&str, &str)| PluginDevice { id: id.to_owned(), health: health.to_owned() };
        let message = frame(&ListAndWatchResponse { devices: devices.iter().map(device).collect() });
        let told = tokio::time::timeout(SOON, self.told.wait_for(Option::is_some)).await.expect("in time");
        told.expect("it runs").as_ref().expect("it is watched").send(message).expect("somebody listens");
    }

    /// Waits until nobody listens to it any more.
    pub(crate) async fn left(&self) {
        let told = self.told.borrow().clone();
        if let Some(told) = told {
            told.closed().await;
        }
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&mut self) -> Vec<String> {
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
            // Not every runtime knows such devices.
            let cdi = asked.containers[0].ids.iter().filter(|id| id.starts_with("cdi"));
            let cdi = cdi.map(|id| CdiName { name: format!("example.org/stick={id}") });
            let allocation = Allocation {
                envs: [("STICKS".to_owned(), ids), ("OWN".to_owned(), "plugin".to_owned())].into(),
                mounts: vec![MountSpec { container_path: "/sticks".into(), host_path: "/usr".into(), read_only: true }],
                devices: vec![DeviceSpec {
                    container_path: "/dev/stick".into(),
                    host_path: "/dev/null".into(),
                    permissions: "rw".into(),
                }],
                annotations: [("stick".to_owned(), "yes".to_owned())].into(),
                cdi_devices: cdi.collect(),
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
pub(crate) async fn register(folder: &Path, version: &str, resource: &str, endpoint: &str) -> Result<(), String> {
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
