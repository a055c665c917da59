//! Where plugins present themselves: the socket `kubelet.sock` in their folder. Plugins watch for it to be made, and come anew then.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::BytesMut;
use kiln_grpc::{Code, frame, take};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::messages::{Empty, RegisterRequest};
use super::{Devices, checkpoint, plugin, wire};

const SOCKET: &str = "kubelet.sock";
const VERSION: &str = "v1beta1";

/// Serves without end.
///
/// # Errors
/// If there can be no socket.
pub(super) async fn run(devices: &Devices) -> io::Result<()> {
    let folder = &devices.0.folder;
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
    sweep(folder)?;
    let listener = UnixListener::bind(folder.join(SOCKET))?;
    let mut tasks = JoinSet::new();
    loop {
        let stream = tokio::select! {
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a device plugin could not connect");
                    continue;
                }
            },
        };
        let devices = devices.clone();
        tasks.spawn(async move {
            let answer = |request| async {
                match register(&devices, request).await {
                    Ok(()) => Ok(frame(&Empty {})),
                    Err(why) => Err((Code::UNKNOWN.0, why)),
                }
            };
            if let Err(error) = wire::serve(stream, answer).await {
                tracing::debug!(%error, "a device plugin's connection broke");
            }
        });
    }
}

/// Removes what is left in the folder: plugins that go on see their socket go, and present themselves anew.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != checkpoint::FILE && !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

async fn register(devices: &Devices, mut request: BytesMut) -> Result<(), String> {
    let asked: RegisterRequest = take(&mut request)?.ok_or("the request is not whole")?;
    let resource = asked.resource_name;
    let refused = |why: String| {
        tracing::warn!(resource, "a device plugin is refused: {why}");
        why
    };
    if asked.version != VERSION {
        return Err(refused(format!(
            "requested API version {:?} is not supported by kubelet. Supported version is [{VERSION:?}]",
            asked.version
        )));
    }
    if !is_extended(&resource) {
        return Err(refused(format!("the ResourceName {resource:?} is invalid")));
    }
    if asked.endpoint.is_empty() || asked.endpoint.contains('/') {
        return Err(refused(format!("the endpoint {:?} is no name of a socket in this folder", asked.endpoint)));
    }
    let socket = devices.0.folder.join(&asked.endpoint);
    let options = plugin::options(&socket).await.map_err(refused)?;
    let turn = devices.table().register(&resource, socket.clone(), options);
    tracing::info!(resource, "a device plugin has come");
    devices.save();
    let devices = devices.clone();
    tokio::spawn(async move {
        let why = follow(&devices, &resource, turn, &socket).await;
        devices.table().lose(&resource, turn, Instant::now());
        devices.tell();
        tracing::info!(resource, why, "a device plugin has gone");
    });
    Ok(())
}

/// Takes down what a plugin tells, until it ends or another one stands for its resource. Answers why.
async fn follow(devices: &Devices, resource: &str, turn: u64, socket: &Path) -> String {
    let mut watch = match plugin::Watch::open(socket).await {
        Ok(watch) => watch,
        Err(why) => return why,
    };
    loop {
        match watch.next().await {
            Ok(Some(told)) => {
                if !devices.table().set_devices(resource, turn, told) {
                    return "another one has come".to_owned();
                }
                devices.tell();
            }
            Ok(None) => return "it ended the stream".to_owned(),
            Err(why) => return why,
        }
    }
}

/// Whether a name is that of an extended resource: with a domain that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    let is_word = |text: &str, more: &str| {
        let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        ends && text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let is_own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let is_domain = domain.len() <= 253 && domain.split('.').all(|label| is_word(label, "-"));
    !is_own && !domain.starts_with("requests.") && is_domain && is_word(rest, "-_.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_resources_have_a_domain_that_is_not_kubernetes_own() {
        for name in ["example.org/stick", "nvidia.com/gpu", "squat.ai/video", "smarter-devices/i2c-1"] {
            assert!(is_extended(name), "{name}");
        }
        for name in
            ["cpu", "kubernetes.io/stick", "x.kubernetes.io/stick", "requests.org/x", "example.org/", "a b/c", "a/b/c"]
        {
            assert!(!is_extended(name), "{name}");
        }
    }
}
