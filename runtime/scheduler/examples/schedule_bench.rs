//! How fast a server gives pods their nodes, asked over TLS with the credentials of a kubeconfig:
//! `cargo run --release -p kiln-scheduler --example schedule_bench -- KUBECONFIG [--nodes N] [--pods N]
//! [--pid PID]`; `ci/bench schedule` runs it.
//!
//! Nodes are made that nobody runs, then pods of a few kinds, as fast as the server takes them. One line of JSON comes out:
//! `{"nodes":500,"pods":5000,"made_s":..,"bound_s":..,"per_second":..}`, both times from the first pod's making. With
//! the server's process also its memory and the seconds of processors that it used meanwhile. What was made is deleted in the end.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kiln_client::https::Https;
use kiln_client::kubeconfig::Kubeconfig;
use kiln_client::{Client, ClientError, ListParams, WatchEvent};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const CONNECTIONS: usize = 16;
/// The longest that is waited for the last pod.
const PATIENCE: Duration = Duration::from_secs(600);

struct Arguments {
    kubeconfig: PathBuf,
    nodes: usize,
    pods: usize,
    pid: Option<u32>,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut arguments = Arguments { kubeconfig: words.next()?.into(), nodes: 500, pods: 5000, pid: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--nodes" => arguments.nodes = words.next()?.parse().ok()?,
            "--pods" => arguments.pods = words.next()?.parse().ok()?,
            "--pid" => arguments.pid = Some(words.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(arguments)
}

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let Some(arguments) = arguments() else {
        eprintln!("usage: schedule_bench KUBECONFIG [--nodes N] [--pods N] [--pid PID]");
        std::process::exit(2);
    };
    let server = Kubeconfig::load(&arguments.kubeconfig)?.https(None, &arguments.kubeconfig)?;
    let connect = || Ok::<_, ClientError>(Client::new(Https::new(server.clone())?));
    let client = connect()?;
    let connections: Vec<Client> = (0..CONNECTIONS).map(|_| connect()).collect::<Result<_, _>>()?;
    let namespace = format!("bench-{}", std::process::id());
    client.create::<IgnoredAny>("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await?;
    // Pods can be made once the namespace has its account.
    let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
    while client.find::<IgnoredAny>(&account).await?.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    make(&connections, "/api/v1/nodes", arguments.nodes, node).await?;

    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let used = arguments.pid.and_then(processor_seconds);
    let began = Instant::now();
    let watching = tokio::spawn(all_bound(client.clone(), pods.clone(), arguments.pods));
    make(&connections, &pods, arguments.pods, pod).await?;
    let made = began.elapsed().as_secs_f64();
    let last = watching.await.map_err(|error| ClientError::Config(error.to_string()))??;
    let bound = last.duration_since(began).as_secs_f64();
    let mut result = json!({
        "nodes": arguments.nodes,
        "pods": arguments.pods,
        "made_s": made,
        "bound_s": bound,
        "per_second": arguments.pods as f64 / bound,
    });
    if let (Some(pid), Some(used)) = (arguments.pid, used) {
        result["processor_s"] = json!(processor_seconds(pid).map(|now| now - used));
        result["rss_mib"] = json!(resident_mib(pid));
    }
    println!("{result}");

    let now = json!({"gracePeriodSeconds": 0});
    client.delete(&pods, &now).await?;
    client.delete(&format!("/api/v1/namespaces/{namespace}"), &Value::Null).await?;
    for at in 0..arguments.nodes {
        client.delete(&format!("/api/v1/nodes/{}", name("node", at)), &Value::Null).await?;
    }
    Ok(())
}

/// Seconds of processors that a process has used; clock ticks are hundredths on Linux.
fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// Resident MiB of a process.
fn resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

/// What of a pod is looked at.
#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

/// When the last of so many pods had its node.
async fn all_bound(client: Client, pods: String, count: usize) -> Result<Instant, ClientError> {
    let mut watch = client.watch::<Pod>(&pods, &ListParams::default(), "0", PATIENCE).await?;
    let mut bound = std::collections::HashSet::new();
    while let Some(event) = watch.next().await? {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
            && pod.spec.node_name.is_some()
            && bound.insert(pod.metadata.name)
            && bound.len() == count
        {
            return Ok(Instant::now());
        }
    }
    Err(ClientError::Config(format!("only {} of {count} pods have a node", bound.len())))
}

/// Makes that many objects over all connections.
async fn make(connections: &[Client], path: &str, count: usize, object: fn(usize) -> Value) -> Result<(), ClientError> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut makers = JoinSet::new();
    for client in connections {
        let (client, next, path) = (client.clone(), Arc::clone(&next), path.to_owned());
        makers.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return Ok::<_, ClientError>(());
                }
                client.create::<IgnoredAny>(&path, &object(at)).await?;
            }
        });
    }
    while let Some(made) = makers.join_next().await {
        made.map_err(|error| ClientError::Config(error.to_string()))??;
    }
    Ok(())
}

fn name(kind: &str, at: usize) -> String {
    format!("bench-{kind}-{at:05}")
}

/// A node in one of three zones that says it is ready.
fn node(at: usize) -> Value {
    let has = json!({"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "32Gi"});
    json!({
        "metadata": {"name": name("node", at), "labels": {
            "kubernetes.io/hostname": name("node", at),
            "kubernetes.io/arch": "arm64",
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": format!("zone-{}", at % 3),
        }},
        "status": {"allocatable": has, "capacity": has,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]},
    })
}

/// A pod of one of ten deployments. Nobody keeps the nodes ready: it tolerates whatever comes of that.
fn pod(at: usize) -> Value {
    let app = format!("app-{}", at % 10);
    json!({
        "metadata": {"name": name("pod", at), "labels": {"app": app, "pod-template-hash": "5d9f8c7b6d"}},
        "spec": {
            "containers": [{"name": "main", "image": "registry.example/app:1.2.3",
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}],
            "tolerations": [{"operator": "Exists"}],
        },
    })
}
