//! The pods' network on the node itself: a bridge with addresses from the Node's range, by the CNI plugins that the machine has.
//! Routes between nodes, and what leaves the cluster, are not made here; whoever makes them says how large packets may be.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::sync::watch;

/// The file that the runtime reads.
const FILE: &str = "10-kiln.conflist";
/// The bridge that pods are at.
pub const BRIDGE: &str = "cni0";

/// Where and how the network of pods is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that the runtime reads networks from.
    pub folder: PathBuf,
    /// The folder in which addresses that are taken are noted.
    pub addresses: PathBuf,
    /// The folders of plugins.
    pub plugins: Vec<PathBuf>,
    /// Bytes of the largest packet; until it is known, no network is written.
    pub mtu: watch::Receiver<Option<u32>>,
}

/// Writes the network for the Node's ranges of pod addresses, if it is not so already. A network that somebody else has put
/// into the folder is left alone, and ours is not written.
///
/// # Errors
/// When the file cannot be written.
pub fn write(config: &Config, ranges: &[String]) -> std::io::Result<()> {
    let path = config.folder.join(FILE);
    let Some(mtu) = *config.mtu.borrow() else { return Ok(()) };
    if ranges.is_empty() || has_other(&config.folder)? {
        return Ok(());
    }
    let text = format!("{:#}\n", conflist(config, ranges, mtu));
    match fs::read_to_string(&path) {
        Ok(known) if known == text => return Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(&config.folder)?;
    // Moved into place, so that the runtime never sees a half.
    let new = config.folder.join(format!(".{FILE}"));
    fs::write(&new, text)?;
    fs::rename(new, path)
}

fn has_other(folder: &Path) -> std::io::Result<bool> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        files => files?,
    };
    let is_network = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        matches!(extension, "conf" | "conflist" | "json")
    };
    let others = files.filter_map(Result::ok).map(|file| file.path());
    Ok(others.into_iter().any(|path| is_network(&path) && path.file_name() != Some(FILE.as_ref())))
}

fn conflist(config: &Config, ranges: &[String], mtu: u32) -> Value {
    let has = |plugin: &str| config.plugins.iter().any(|folder| folder.join(plugin).is_file());
    let has_iptables = crate::containerd::find_program("iptables").is_some();
    let is_v6 = |range: &String| range.contains(':');
    let subnets: Vec<Value> = ranges.iter().map(|range| json!([{ "subnet": range }])).collect();
    let default = |range: &String| json!({"dst": if is_v6(range) { "::/0" } else { "0.0.0.0/0" }});
    let routes: Vec<Value> = ranges.iter().map(default).collect();
    let mut plugins = vec![json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "hairpinMode": true,
        // That would hide pods from pods of other nodes.
        "ipMasq": false,
        "mtu": mtu,
        "ipam": {"type": "host-local", "dataDir": config.addresses, "ranges": subnets, "routes": routes},
    })];
    if has("portmap") && has_iptables {
        plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    }
    json!({"cniVersion": "1.0.0", "name": "kiln", "plugins": plugins})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_has_the_nodes_ranges_and_yields_to_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mtu, receiver) = watch::channel(None);
        let config = Config {
            folder: folder.path().join("net.d"),
            addresses: folder.path().join("networks"),
            plugins: Vec::new(),
            mtu: receiver,
        };
        let path = config.folder.join(FILE);
        write(&config, &[]).expect("nothing to do");
        assert!(!path.exists());
        let ranges = ["10.42.1.0/24".to_owned(), "fd00::/64".to_owned()];
        write(&config, &ranges).expect("nothing to do");
        assert!(!path.exists(), "the size of packets is not known");
        mtu.send_replace(Some(1450));
        write(&config, &ranges).expect("a file");
        let network: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        assert_eq!(network["plugins"][0]["mtu"], 1450);
        let ipam = &network["plugins"][0]["ipam"];
        assert_eq!(ipam["ranges"], json!([[{"subnet": "10.42.1.0/24"}], [{"subnet": "fd00::/64"}]]));
        assert_eq!(ipam["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
        fs::remove_file(&path).expect("gone");
        fs::write(config.folder.join("05-other.conflist"), "{}").expect("a file");
        write(&config, &ranges).expect("nothing to do");
        assert!(!path.exists());
    }
}
