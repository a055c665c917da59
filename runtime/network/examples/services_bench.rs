//! Measures the service proxy in a network namespace of its own (as root), against an API in memory: how long the first
//! programming of many Services takes, how long one endpoint's change, and the memory of the process and of the kernel. Prints one
//! line of JSON.
//!
//! ```text
//! services_bench [--services 1000] [--endpoints 10] [--changes 200]
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use kiln_client::testing::FakeApi;
use kiln_client::{Clock, Informers};
use kiln_network::services::{Config, build};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn argument(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    match arguments.nth(1) {
        Some(text) => Ok(text.parse()?),
        None => Ok(default),
    }
}

/// A number of KiB in a file of /proc, as MiB.
fn mebibytes(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    line.unwrap_or(0.0) / 1024.0
}

fn memory() -> (f64, f64) {
    (mebibytes("/proc/self/status", "VmRSS:"), mebibytes("/proc/meminfo", "Slab:"))
}

fn service(number: usize) -> Value {
    let address = format!("10.43.{}.{}", number / 250, number % 250 + 1);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{number}"), "namespace": "ns", "uid": number.to_string()},
           "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]}})
}

/// The endpoints of a Service; the last one's address ends with `last`.
fn slice(number: usize, endpoints: usize, last: usize) -> Value {
    let endpoint = |of: usize| {
        let at = if of + 1 == endpoints { last } else { of };
        json!({"addresses": [format!("10.{}.{}.{}", 64 + number / 250, number % 250, at + 1)], "nodeName": format!("n{of}"),
               "conditions": {"ready": true, "serving": true, "terminating": false},
               "targetRef": {"kind": "Pod", "namespace": "ns", "name": format!("s{number}-{of}"), "uid": format!("{number}-{of}")}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
           "metadata": {"name": format!("s{number}-x"), "namespace": "ns", "uid": format!("e{number}"),
                        "labels": {"kubernetes.io/service-name": format!("s{number}")}},
           "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>()})
}

fn slice_path(number: usize) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/s{number}-x")
}

async fn run(services: usize, endpoints: usize, changes: usize) -> Result<Value, Box<dyn Error>> {
    let api = FakeApi::new();
    for number in 0..services {
        api.put(&format!("/api/v1/namespaces/ns/services/s{number}"), service(number));
        api.put(&slice_path(number), slice(number, endpoints, endpoints - 1));
    }
    let before = memory();
    let (tell, mut told) = mpsc::unbounded_channel();
    let shutdown = CancellationToken::new();
    let began = Instant::now();
    let mut informers = Informers::new(api.client());
    let config = Config {
        node: "n0".to_owned(),
        pod_networks: vec!["10.64.0.0/10".parse()?],
        service_networks: vec!["10.43.0.0/16".parse()?],
        masquerade: true,
        health: None,
    };
    let tell = move |messages| _ = tell.send((Instant::now(), messages));
    let proxy = build(&mut informers, config, Clock::system(), shutdown.clone(), Box::new(tell));
    let running = tokio::spawn(async move { tokio::join!(informers.run(shutdown), proxy) });
    let (synced, first) = told.recv().await.ok_or("the proxy ended")?;
    let after = memory();
    let (mut times, mut messages) = (Vec::new(), 0);
    for change in 0..changes {
        let number = change * 7 % services;
        let put = Instant::now();
        api.put(&slice_path(number), slice(number, endpoints, 200 + change / services % 50));
        let (done, count) = told.recv().await.ok_or("the proxy ended")?;
        times.push(done - put);
        messages = messages.max(count);
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, Duration::as_secs_f64) * 1000.0;
    running.abort();
    Ok(json!({
        "services": services, "endpoints": endpoints,
        "first_sync_ms": (synced - began).as_secs_f64() * 1000.0, "first_sync_messages": first,
        "change_p50_ms": at(50), "change_p99_ms": at(99), "change_messages": messages,
        "rss_mib": after.0 - before.0, "kernel_slab_mib": after.1 - before.1,
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (services, endpoints) = (argument("--services", 1000)?, argument("--endpoints", 10)?);
    let changes = argument("--changes", 200)?;
    // Threads that are made from here on are in the namespace too.
    unshare(CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(run(services, endpoints, changes))?);
    Ok(())
}
