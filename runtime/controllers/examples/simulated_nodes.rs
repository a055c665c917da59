//! Nodes that are not there, for trying workloads on a server alone: `simulated_nodes KUBECONFIG NAME...` registers the nodes,
//! keeps their leases, and says of each pod what a kubelet would. Ends with its standard input.

#![allow(clippy::print_stdout, reason = "its output says when it is ready")]

#[path = "../tests/apps_world/kubelets.rs"]
mod kubelets;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use kiln_apimachinery::time;
use kiln_client::https::Https;
use kiln_client::kubeconfig::Kubeconfig;
use kiln_client::{Client, ClientError, Clock, PatchKind};
use kubelets::Kubelets;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let mut words = std::env::args().skip(1);
    let file = words.next().unwrap_or_default();
    let names: Vec<String> = words.collect();
    let config = Kubeconfig::load(Path::new(&file))?.https(None, Path::new(&file))?;
    let (client, clock, shutdown) = (Client::new(Https::new(config)?), Clock::system(), CancellationToken::new());
    for name in &names {
        register(&client, name, &clock).await?;
    }
    let kubelets = Kubelets::new(client.clone(), clock.clone(), names.clone());
    tokio::spawn(kubelets.run(shutdown.clone()));
    println!("{} nodes", names.len());
    let ends = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        _ = ends => {}
        () = keep_leases(&client, &names, &clock) => {}
    }
    shutdown.cancel();
    Ok(())
}

async fn register(client: &Client, name: &str, clock: &Clock) -> Result<(), ClientError> {
    let path = format!("/api/v1/nodes/{name}");
    let node =
        json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}}});
    match client.create::<Value>("/api/v1/nodes", &node).await {
        Err(error) if !error.is_already_exists() => return Err(error),
        _ => {}
    }
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    let status = json!({"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True",
        "reason": "KubeletReady", "lastHeartbeatTime": time::rfc3339(clock.now()),
        "lastTransitionTime": time::rfc3339(clock.now())}]});
    client.patch::<Value>(&format!("{path}/status"), PatchKind::Strategic, &json!({"status": status})).await?;
    Ok(())
}

/// Shows every ten seconds that the nodes live.
async fn keep_leases(client: &Client, names: &[String], clock: &Clock) {
    loop {
        for name in names {
            let lease = json!({"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": name,
                "leaseDurationSeconds": 40, "renewTime": time::rfc3339_micro(clock.now())}});
            let renewed = client.patch::<Value>(&format!("{LEASES}/{name}"), PatchKind::Merge, &lease).await;
            if renewed.is_err() {
                // It is made at first; if the server is away, the next time does.
                _ = client.create::<Value>(LEASES, &lease).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}
