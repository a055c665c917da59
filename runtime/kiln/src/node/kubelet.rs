//! The kubelet, with what this binary knows about the node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use kiln_client::{Client, Clock};
use kiln_join::AddressWatch;
use kiln_kubelet::{Config, Machine, Progress};
use kiln_node_config::validate::Taint;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Identity;
use crate::service::Report;

/// What the imager wrote about the image; not there on any other Linux.
const IMAGE: &str = "/etc/kiln/image.json";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    board: Option<String>,
    container_runtime: Option<String>,
}

/// Registers this machine and keeps its Node fresh until the shutdown. `client` is the node; `server` is the API's URL as it is
/// reported.
///
/// # Errors
/// When the machine can't be read.
pub(crate) async fn run(
    client: Client,
    identity: &Identity,
    data_dir: &Path,
    server: String,
    report: Arc<Report>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let image = image(Path::new(IMAGE))?;
    let config = Config {
        node_name: identity.name.clone(),
        labels: identity.labels.clone(),
        taints: identity.taints.iter().map(taint).collect(),
        node_ips: identity.addresses.clone(),
        board: image.board,
        container_runtime_version: image.container_runtime.unwrap_or_default(),
        clock: Clock::system(),
    };
    let machine = Machine::here(data_dir, remote(&server), address_news()).context("reading this machine")?;
    let tell = |progress| match progress {
        Progress::WaitingForAddress => report.working("waiting for a network address"),
        Progress::Failing(why) => report.failing(&why),
        Progress::Registered => report.joined(&server),
    };
    kiln_kubelet::run(client, config, machine, tell, shutdown).await;
    Ok(())
}

/// As a Node has it.
fn taint(taint: &Taint) -> Value {
    match taint.value.as_str() {
        "" => json!({ "key": taint.key, "effect": taint.effect }),
        value => json!({ "key": taint.key, "value": value, "effect": taint.effect }),
    }
}

/// Says when the machine's addresses may have changed, for as long as anyone listens.
fn address_news() -> watch::Receiver<()> {
    let mut kernel = AddressWatch::start();
    let (sender, receiver) = watch::channel(());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = kernel.changed() => sender.send_replace(()),
            }
        }
    });
    receiver
}

fn image(path: &Path) -> anyhow::Result<Image> {
    match kiln_pki::files::read(path)? {
        None => Ok(Image::default()),
        Some(text) => serde_json::from_str(&text).with_context(|| path.display().to_string()),
    }
}

/// The server's address, if it is one and on another machine; of a link-local one the interface matters too.
fn remote(server: &str) -> Option<SocketAddr> {
    let address: SocketAddr = server.strip_prefix("https://")?.trim_end_matches('/').parse().ok()?;
    (!address.ip().is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_tells_board_and_runtime_and_another_linux_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.json");
        assert_eq!(image(&path).unwrap().board, None);
        std::fs::write(&path, r#"{"schema":1,"board":"rpi4","containerRuntime":"containerd://1.7.24"}"#).unwrap();
        let image = image(&path).unwrap();
        assert_eq!(
            (image.board.as_deref(), image.container_runtime.as_deref()),
            (Some("rpi4"), Some("containerd://1.7.24"))
        );
    }

    #[test]
    fn only_a_server_elsewhere_says_which_address_leads_to_it() {
        assert_eq!(remote("https://10.0.2.2:6443"), Some(([10, 0, 2, 2], 6443).into()));
        assert_eq!(remote("https://[fe80::1%2]:6443"), "[fe80::1%2]:6443".parse().ok());
        assert_eq!(remote("https://127.0.0.1:6443"), None);
        assert_eq!(remote("https://pi.local:6443"), None);
    }
}
