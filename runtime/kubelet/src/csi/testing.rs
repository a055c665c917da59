//! A driver for tests: its volumes are folders of this machine, or files as block devices, which it shows by bind mounts. It is its own
//! registrar.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_grpc::{frame, take};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use prost::Message;
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

use super::messages::*;

/// What the driver was asked: the call's name, the volume, and what else matters.
type Calls = Arc<Mutex<Vec<(String, HashMap<String, String>)>>>;

pub(crate) struct FakeDriver {
    pub(crate) socket: PathBuf,
    calls: Calls,
    task: JoinHandle<()>,
}

impl Drop for FakeDriver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeDriver {
    /// Listens at a socket; `root` holds the volumes.
    pub(crate) fn start(socket: &Path, root: &Path, capabilities: &'static [Capability]) -> Self {
        let (calls, root) = (Calls::default(), root.to_owned());
        let noted = calls.clone();
        let task = serve(socket, move |call, body| answer(call, body, &root, capabilities, &noted));
        Self { socket: socket.to_owned(), calls, task }
    }

    /// What it was asked since the last time, without what changes nothing.
    pub(crate) fn calls(&self) -> Vec<(String, HashMap<String, String>)> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The names of these calls.
    pub(crate) fn names(&self) -> Vec<String> {
        self.calls().into_iter().map(|(name, _)| name).collect()
    }
}

pub(crate) type Answer = Result<Bytes, (u16, String)>;

/// Answers all calls at a socket. The answer's arguments are the call's last name, and the request.
pub(crate) fn serve(socket: &Path, answer: impl Fn(&str, Bytes) -> Answer + Send + Sync + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        // Those who are connected are cut off when the server ends.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    Ok::<_, Infallible>(respond(answer(&call, body)))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            connections.spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    })
}

fn respond(answer: Answer) -> Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>> {
    let mut trailers = HeaderMap::new();
    let mut set = |name: &'static str, value: String| trailers.insert(name, value.parse().expect("a value"));
    let mut frames = Vec::new();
    match answer {
        Ok(bytes) => {
            set("grpc-status", "0".to_owned());
            frames.push(Ok(Frame::data(bytes)));
        }
        Err((code, message)) => {
            set("grpc-status", code.to_string());
            set("grpc-message", message);
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Response::builder().header("content-type", "application/grpc").body(body).expect("a response")
}

pub(crate) fn read<M: Message + Default>(body: Bytes) -> M {
    take(&mut BytesMut::from(&body[..])).expect("a message").unwrap_or_default()
}

fn bind(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
    } else {
        fs::write(to, "").expect("a file");
    }
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bound");
}

fn is_block(capability: Option<&VolumeCapability>) -> bool {
    matches!(capability.and_then(|capability| capability.access_type.as_ref()), Some(AccessType::Block(_)))
}

/// Makes a device of a volume's file: what its attributes name, or a new one that is noted beside the file.
fn attach(file: &Path, context: &HashMap<String, String>) {
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    let device = context.get("device").cloned().unwrap_or_else(|| {
        fs::File::create(file).and_then(|file| file.set_len(1 << 20)).expect("a file");
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().expect("losetup");
        String::from_utf8(made.stdout).expect("a path")
    });
    fs::write(file.with_extension("device"), device.trim()).expect("noted");
}

/// Undoes [`attach`].
fn detach(file: &Path) {
    let noted = file.with_extension("device");
    if let Ok(device) = fs::read_to_string(&noted) {
        // Fails for a device that was not made here.
        _ = Command::new("losetup").args(["--detach", &device]).output();
        fs::remove_file(noted).expect("removed");
    }
}

fn answer(call: &str, body: Bytes, root: &Path, capabilities: &[Capability], noted: &Calls) -> Answer {
    let note = |said: &[(&str, String)]| {
        let said = said.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        noted.lock().unwrap_or_else(PoisonError::into_inner).push((call.to_owned(), said));
    };
    let data = |handle: &str| {
        let folder = root.join(handle);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    };
    match call {
        "GetInfo" => Ok(frame(&PluginInfo {
            kind: "CSIPlugin".to_owned(),
            name: "fake.csi.example.org".to_owned(),
            endpoint: String::new(),
            supported_versions: vec!["1.0.0".to_owned()],
        })),
        "NotifyRegistrationStatus" => {
            let status: RegistrationStatus = read(body);
            note(&[("registered", status.plugin_registered.to_string()), ("error", status.error)]);
            Ok(frame(&Empty {}))
        }
        "NodeGetInfo" => Ok(frame(&NodeGetInfoResponse {
            node_id: "machine-1".to_owned(),
            max_volumes_per_node: 7,
            accessible_topology: Some(Topology {
                segments: [("topology.fake/node".to_owned(), "here".to_owned())].into(),
            }),
        })),
        "NodeGetCapabilities" => {
            let of = |kind: &Capability| NodeServiceCapability { rpc: Some(Rpc { kind: *kind as i32 }) };
            Ok(frame(&NodeGetCapabilitiesResponse { capabilities: capabilities.iter().map(of).collect() }))
        }
        "NodeStageVolume" => {
            let asked: NodeStageVolumeRequest = read(body);
            let secret = asked.secrets.get("password").cloned().unwrap_or_default();
            let device = asked.publish_context.get("device").cloned().unwrap_or_default();
            note(&[("volume", asked.volume_id.clone()), ("secret", secret), ("device", device)]);
            if is_block(asked.volume_capability.as_ref()) {
                attach(&root.join(&asked.volume_id), &asked.volume_context);
            } else {
                bind(&data(&asked.volume_id), Path::new(&asked.staging_target_path));
            }
            Ok(frame(&Empty {}))
        }
        "NodePublishVolume" => {
            let asked: NodePublishVolumeRequest = read(body);
            if asked.volume_context.contains_key("fails") {
                note(&[]);
                return Err((3, "no such thing".to_owned()));
            }
            let mut said: Vec<(&str, String)> = vec![("volume", asked.volume_id.clone())];
            for key in ["csi.storage.k8s.io/pod.name", "csi.storage.k8s.io/ephemeral", "kind"] {
                said.extend(asked.volume_context.get(key).map(|value| (key, value.clone())));
            }
            note(&said);
            let staged = Path::new(&asked.staging_target_path);
            let from = if is_block(asked.volume_capability.as_ref()) {
                let device = root.join(&asked.volume_id).with_extension("device");
                fs::read_to_string(device).expect("it is staged").into()
            } else if asked.staging_target_path.is_empty() {
                data(&asked.volume_id)
            } else {
                staged.to_owned()
            };
            let target = Path::new(&asked.target_path);
            if !crate::volumes::is_mounted(target) {
                bind(&from, target);
            }
            Ok(frame(&Empty {}))
        }
        "NodeUnpublishVolume" => {
            let asked: NodeUnpublishVolumeRequest = read(body);
            note(&[("volume", asked.volume_id)]);
            _ = umount2(asked.target_path.as_str(), MntFlags::MNT_DETACH);
            _ = fs::remove_dir(&asked.target_path).or_else(|_| fs::remove_file(&asked.target_path));
            Ok(frame(&Empty {}))
        }
        "NodeUnstageVolume" => {
            let asked: NodeUnstageVolumeRequest = read(body);
            detach(&root.join(&asked.volume_id));
            note(&[("volume", asked.volume_id)]);
            _ = umount2(asked.staging_target_path.as_str(), MntFlags::MNT_DETACH);
            Ok(frame(&Empty {}))
        }
        "NodeGetVolumeStats" => {
            let asked: NodeGetVolumeStatsRequest = read(body);
            let is_there = Path::new(&asked.volume_path).exists();
            let usage =
                |total, used, unit: Unit| VolumeUsage { available: total - used, total, used, unit: unit as i32 };
            Ok(frame(&NodeGetVolumeStatsResponse {
                usage: vec![usage(1 << 30, 1 << 20, Unit::Bytes), usage(1000, 1, Unit::Inodes)],
                volume_condition: Some(VolumeCondition { abnormal: !is_there, message: String::new() }),
            }))
        }
        "NodeExpandVolume" => {
            let asked: NodeExpandVolumeRequest = read(body);
            let bytes = asked.capacity_range.map_or(0, |range| range.required_bytes);
            note(&[("bytes", bytes.to_string())]);
            Ok(frame(&NodeExpandVolumeResponse { capacity_bytes: bytes }))
        }
        other => Err((12, format!("no such call: {other}"))),
    }
}
