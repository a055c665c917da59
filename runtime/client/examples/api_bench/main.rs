//! What any Kubernetes API server does in a second, asked over TLS with the credentials of a kubeconfig:
//! `cargo run --release -p kiln-client --example api_bench -- KUBECONFIG [--seconds N]`; `ci/bench api` runs it.
//!
//! One line of JSON a figure: `{"what":"GET","connections":1,"per_second":..,"p50_ms":..,"p99_ms":..}`. Everything is
//! made in a namespace of its own, which is deleted in the end. With `--fill MAPS PODS` it only makes that many objects and
//! leaves them, for looking at the server's memory.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod measure;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use kiln_client::https::{Https, HttpsConfig};
use kiln_client::kubeconfig::Kubeconfig;
use kiln_client::{Client, ClientError, ListParams, PatchKind, Transport as _, WatchEvent};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use measure::{measure, report};

/// Connections of the second round.
const CONNECTIONS: usize = 32;
/// Objects that a LIST answers with.
const LISTED: usize = 2000;
/// Objects made for each second of deleting.
const DELETED_A_SECOND: usize = 6000;
/// Watchers of one collection, and the connections that they share.
const WATCHERS: usize = 1000;
const WATCH_CONNECTIONS: usize = 20;
/// Events that all watchers get.
const EVENTS: usize = 20;

struct Arguments {
    kubeconfig: PathBuf,
    seconds: u64,
    fill: Option<(usize, usize)>,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut arguments = Arguments { kubeconfig: words.next()?.into(), seconds: 3, fill: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => arguments.seconds = words.next()?.parse().ok()?,
            "--fill" => arguments.fill = Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?)),
            _ => return None,
        }
    }
    Some(arguments)
}

// One thread: it shares the processors with the server, and a request that wakes another thread takes a fifth longer.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ClientError> {
    let Some(arguments) = arguments() else {
        eprintln!("usage: api_bench KUBECONFIG [--seconds N] [--fill CONFIGMAPS PODS]");
        std::process::exit(2);
    };
    let server = server(&arguments.kubeconfig)?;
    let client = connect(&server)?;
    if let Some((maps, pods)) = arguments.fill {
        return fill(&server, maps, pods).await;
    }
    let namespace = format!("bench-{}", std::process::id());
    client.create::<IgnoredAny>("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await?;
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let time = Duration::from_secs(arguments.seconds);
    let done = rounds(&server, &maps, time).await;
    client.delete(&format!("/api/v1/namespaces/{namespace}"), &Value::Null).await?;
    done
}

/// All figures, one after the other.
async fn rounds(server: &HttpsConfig, maps: &str, time: Duration) -> Result<(), ClientError> {
    let client = connect(server)?;
    client.create::<IgnoredAny>(maps, &map("one")).await?;
    let one = format!("{maps}/one");
    let next = &AtomicUsize::new(0);
    let number = || next.fetch_add(1, Ordering::Relaxed);

    let reader = Https::new(server.clone())?;
    report("GET", 1, &measure(time, &[&reader], |r| drained(r, &one)).await?);
    let create = |c: Client| {
        let object = map(&format!("new-{}", number()));
        async move { c.create::<IgnoredAny>(maps, &object).await.map(drop) }
    };
    report("POST", 1, &measure(time, &[&client], |c| create(c.clone())).await?);
    let put = |c: Client| {
        let (mut object, path) = (map("one"), &one);
        object["data"]["n"] = json!(number().to_string());
        async move { c.update::<IgnoredAny>(path, &object).await.map(drop) }
    };
    report("PUT", 1, &measure(time, &[&client], |c| put(c.clone())).await?);
    for (what, kind) in [("PATCH merge", PatchKind::Merge), ("PATCH apply", PatchKind::Apply("bench"))] {
        let patch = |c: Client| {
            let (path, mut change) = (&one, json!({"data": {"p": number().to_string()}}));
            if let PatchKind::Apply(_) = kind {
                change["apiVersion"] = json!("v1");
                change["kind"] = json!("ConfigMap");
                change["metadata"] = json!({"name": "one"});
            }
            async move { c.patch::<IgnoredAny>(path, kind, &change).await.map(drop) }
        };
        report(what, 1, &measure(time, &[&client], |c| patch(c.clone())).await?);
    }
    // More than can be deleted in the time, so that no answer is that there is nothing.
    let connections: Vec<Client> = (0..CONNECTIONS).map(|_| connect(server)).collect::<Result<_, _>>()?;
    let made = DELETED_A_SECOND * time.as_secs() as usize;
    make(&connections, maps, made, map).await?;
    let gone = &AtomicUsize::new(0);
    let delete = |c: Client| async move {
        let path = format!("{maps}/filled-{}", gone.fetch_add(1, Ordering::Relaxed));
        c.delete(&path, &Value::Null).await.map(drop)
    };
    report("DELETE", 1, &measure(time, &[&client], |c| delete(c.clone())).await?);
    client.delete(maps, &Value::Null).await?;

    let many: Vec<&Client> = connections.iter().collect();
    client.create::<IgnoredAny>(maps, &map("one")).await?;
    let readers: Vec<Https> = (0..CONNECTIONS).map(|_| Https::new(server.clone())).collect::<Result<_, _>>()?;
    let readers: Vec<&Https> = readers.iter().collect();
    report("GET", CONNECTIONS, &measure(time, &readers, |r| drained(r, &one)).await?);
    report("POST", CONNECTIONS, &measure(time, &many, |c| create(c.clone())).await?);
    client.delete(maps, &Value::Null).await?;

    make(&connections, maps, LISTED, map).await?;
    report("LIST of 2000", 1, &measure(time, &[&reader], |r| drained(r, maps)).await?);
    fan_out(server, &client, maps).await
}

/// Reads the whole answer of a GET, and does nothing with it: what is measured is the server.
async fn drained(reader: &Https, path: &str) -> Result<(), ClientError> {
    let failed = |why: String| ClientError::Request { request: format!("GET {path}"), why };
    let request = Request::get(path).header(header::ACCEPT, "application/json").body(Bytes::new());
    let answer = reader.send(request.map_err(|error| failed(error.to_string()))?).await?;
    if !answer.status().is_success() {
        return Err(failed(answer.status().to_string()));
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Times from the start of a write to the moment at which each of the watchers has its event.
async fn fan_out(server: &HttpsConfig, client: &Client, maps: &str) -> Result<(), ClientError> {
    let by_name = ListParams { fields: "metadata.name=watched".to_owned(), ..ListParams::default() };
    client.create::<IgnoredAny>(maps, &map("watched")).await?;
    let list = client.list::<IgnoredAny>(maps, &by_name).await?;
    let connections: Vec<Client> = (0..WATCH_CONNECTIONS).map(|_| connect(server)).collect::<Result<_, _>>()?;
    let (sender, mut events) = mpsc::channel::<Instant>(WATCHERS);
    let mut watchers = JoinSet::new();
    for n in 0..WATCHERS {
        let (client, sender) = (connections[n % WATCH_CONNECTIONS].clone(), sender.clone());
        let (maps, by_name, revision) = (maps.to_owned(), by_name.clone(), list.resource_version.clone());
        let mut watch = client.watch::<IgnoredAny>(&maps, &by_name, &revision, Duration::from_secs(600)).await?;
        watchers.spawn(async move {
            while let Ok(Some(event)) = watch.next().await {
                let change = matches!(event, WatchEvent::Modified(_));
                if change && sender.send(Instant::now()).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut times = Vec::with_capacity(WATCHERS * EVENTS);
    let began = Instant::now();
    for n in 0..EVENTS {
        let start = Instant::now();
        let patch = json!({"data": {"n": n.to_string()}});
        client.patch::<IgnoredAny>(&format!("{maps}/watched"), PatchKind::Merge, &patch).await?;
        for _ in 0..WATCHERS {
            if let Some(at) = events.recv().await {
                times.push(at - start);
            }
        }
    }
    report("event to each of 1000 watchers", WATCH_CONNECTIONS, &measure::Figures { times, took: began.elapsed() });
    Ok(())
}

/// Makes objects in the namespace `default` and leaves them.
async fn fill(server: &HttpsConfig, maps: usize, pods: usize) -> Result<(), ClientError> {
    let connections: Vec<Client> = (0..CONNECTIONS).map(|_| connect(server)).collect::<Result<_, _>>()?;
    make(&connections, "/api/v1/namespaces/default/configmaps", maps, map).await?;
    make(&connections, "/api/v1/namespaces/default/pods", pods, pod).await
}

/// Makes that many objects over all connections.
async fn make(connections: &[Client], path: &str, count: usize, object: fn(&str) -> Value) -> Result<(), ClientError> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut makers = JoinSet::new();
    for client in connections {
        let (client, next, path) = (client.clone(), Arc::clone(&next), path.to_owned());
        makers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return Ok::<_, ClientError>(());
                }
                client.create::<IgnoredAny>(&path, &object(&format!("filled-{n}"))).await?;
            }
        });
    }
    while let Some(made) = makers.join_next().await {
        made.map_err(|error| ClientError::Config(error.to_string()))??;
    }
    Ok(())
}

fn server(kubeconfig: &Path) -> Result<HttpsConfig, ClientError> {
    Kubeconfig::load(kubeconfig)?.https(None, kubeconfig)
}

/// A client with a connection of its own.
fn connect(server: &HttpsConfig) -> Result<Client, ClientError> {
    Ok(Client::new(Https::new(server.clone())?))
}

/// A ConfigMap of the size that is usual.
fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "bench", "part-of": "kiln"}},
        "data": {"config.yaml": "key: value\n".repeat(40), "mode": "fast"}})
}

/// A Pod of the size that is usual.
fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "bench", "pod-template-hash": "5d9f8c7b6d"}},
        "spec": {"nodeName": "nowhere", "containers": [{"name": "main", "image": "registry.example/app:1.2.3",
            "args": ["--port", "8080"], "env": [{"name": "MODE", "value": "fast"}],
            "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}}]}})
}
