//! A device plugin for scenarios: `device_plugin FOLDER RESOURCE ID...` offers null devices by these ids below the kubelet's folder of
//! plugins. When the kubelet is restarted it presents itself again. It runs until it is killed.

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../src/devices/messages.rs"]
mod messages;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../src/devices/testing.rs"]
mod testing;

use std::path::PathBuf;

use messages::HEALTHY;
use testing::{Plugin, register};

/// The name of its socket.
const SOCKET: &str = "scenario.sock";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(resource)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("device_plugin FOLDER RESOURCE ID...");
        std::process::exit(64);
    };
    let ids: Vec<String> = arguments.collect();
    let devices: Vec<_> = ids.iter().map(|id| (id.as_str(), HEALTHY)).collect();
    loop {
        // The kubelet before this one left it, or has removed it.
        _ = std::fs::remove_file(folder.join(SOCKET));
        let mut plugin = Plugin::start(&folder, SOCKET);
        if let Err(why) = register(&folder, "v1beta1", &resource, SOCKET).await {
            // A kubelet that starts removes sockets first.
            println!("not registered: {why}");
            continue;
        }
        plugin.tell(&devices).await;
        println!("registered");
        plugin.left().await;
    }
}
