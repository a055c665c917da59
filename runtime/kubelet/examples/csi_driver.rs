//! A driver of volumes for scenarios, and its own registrar: `csi_driver SOCKET FOLDER`. Its volumes are folders below FOLDER, which it
//! shows by bind mounts. It runs until it is killed.

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../src/csi/messages.rs"]
mod messages;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../src/csi/testing.rs"]
mod testing;

mod volumes {
    use std::path::Path;

    /// Whether something is mounted at just this path.
    pub(crate) fn is_mounted(path: &Path) -> bool {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        table.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == path))
    }
}

use messages::Capability;
use testing::FakeDriver;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(socket), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("csi_driver SOCKET FOLDER");
        std::process::exit(64);
    };
    let can = &[
        Capability::StageUnstageVolume,
        Capability::ExpandVolume,
        Capability::GetVolumeStats,
        Capability::VolumeCondition,
    ];
    let _driver = FakeDriver::start(socket.as_ref(), folder.as_ref(), can);
    println!("serving");
    std::future::pending::<()>().await;
}
