//! `metrics.k8s.io`: what nodes and pods use right now, for `kubectl top` and for scaling. Nothing is stored and nothing is
//! scraped unless someone asks: then each node's kubelet is asked for `/metrics/resource` through the dialer. A rate needs two
//! samples; the one that the last question left is the first of them if it is young enough, else a second one is taken a
//! moment later.

mod sample;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{Response, StatusCode};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Limited};
use kiln_apimachinery::{LabelSelector, Status, meta, time};
use kiln_storage::ListOptions;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::sample::{Container, Sample, Used};
use crate::http::body::Body;
use crate::http::respond;
use crate::registry::Resource;
use crate::subresources::ask_kubelet;
use crate::verbs::store::Stored;
use crate::verbs::{Cx, errors};

pub(crate) const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "metrics.k8s.io/v1beta1";
const VERBS: &[&str] = &["get", "list"];

/// An answer that is not older than this is given again.
const FRESH: Duration = Duration::from_secs(15);
/// A sample older than this says nothing of now.
const STALE: Duration = Duration::from_secs(120);
/// How far two samples are apart at least.
const APART: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a node's answer.
const MAX_ANSWER: usize = 16 << 20;

/// The rows of the table of kinds.
pub(crate) fn rows() -> Vec<Resource> {
    let row = |kind, plural| Resource::new(GROUP, "v1beta1", kind, plural).verbs(VERBS);
    vec![row("NodeMetrics", "nodes").cluster(), row("PodMetrics", "pods")]
}

/// The samples of all nodes that were asked for lately.
#[derive(Default)]
pub(crate) struct Samples(Mutex<HashMap<String, Pair>>);

/// A node's last two samples.
#[derive(Clone)]
struct Pair {
    at: Instant,
    last: Arc<Sample>,
    before: Option<Arc<Sample>>,
}

/// Answers a request on the group.
pub(crate) async fn serve(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let pods = cx.resource.plural == "pods";
    let listing = cx.info.verb == "list";
    if listing && !matches!(cx.query.get("fieldSelector"), None | Some("")) && cx.info.name.is_empty() {
        return Err(Status::bad_request("field selectors are not supported"));
    }
    let objects = objects(cx, if pods { "pods" } else { "nodes" }).await?;
    let mut items = if pods { of_pods(cx, &objects).await } else { of_nodes(cx, &objects).await };
    if listing {
        let kind = if pods { "PodMetricsList" } else { "NodeMetricsList" };
        let list = json!({"kind": kind, "apiVersion": VERSION, "metadata": {}, "items": items});
        return Ok(respond::json(StatusCode::OK, &list));
    }
    let absent = || Status::not_found(&cx.resource.group_resource(), &cx.info.name);
    let mut item = items.pop().ok_or_else(absent)?;
    item["kind"] = cx.resource.kind.as_str().into();
    item["apiVersion"] = VERSION.into();
    Ok(respond::json(StatusCode::OK, &item))
}

/// The objects that are asked for.
async fn objects(cx: &Cx<'_>, plural: &str) -> Result<Vec<Value>, Status> {
    if !cx.info.name.is_empty() {
        let found = cx.server.store().read("", plural, cx.namespace(), &cx.info.name).await?;
        return Ok(found.into_iter().map(|s| s.object).collect());
    }
    let selector = LabelSelector::parse(cx.query.get("labelSelector").unwrap_or_default())
        .map_err(|e| Status::bad_request(format!("unable to parse requirement: {e}")))?;
    let resource = cx.server.registry().any_version("", plural).ok_or_else(Status::no_such_path)?;
    let page = cx.server.storage().list(&resource.prefix(cx.namespace()), ListOptions::default()).await;
    let mut objects = Vec::new();
    for record in page.map_err(errors::storage)?.records {
        let object = Stored::parse(record)?.object;
        if selector.matches(&meta::labels(&object)) {
            objects.push(object);
        }
    }
    Ok(objects)
}

async fn of_nodes(cx: &Cx<'_>, nodes: &[Value]) -> Vec<Value> {
    let pairs = join_all(nodes.iter().map(|node| pair(cx, meta::name(node)))).await;
    let item = |(node, pair): (&Value, Option<Pair>)| {
        let pair = pair?;
        let before = &pair.before.as_ref()?.node;
        let used = pair.last.node.since(before)?;
        let mut item = item(cx, node, &pair);
        item["usage"] = usage(&used);
        Some(item)
    };
    nodes.iter().zip(pairs).filter_map(item).collect()
}

async fn of_pods(cx: &Cx<'_>, pods: &[Value]) -> Vec<Value> {
    let mut names: Vec<&str> = pods.iter().map(|p| meta::text(p, &["spec", "nodeName"])).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|n| !n.is_empty());
    let pairs = join_all(names.iter().map(|name| pair(cx, name))).await;
    let pairs: BTreeMap<&str, Pair> = names.into_iter().zip(pairs).filter_map(|(n, p)| Some((n, p?))).collect();
    let item = |pod: &Value| {
        let pair = pairs.get(meta::text(pod, &["spec", "nodeName"]))?;
        let before = pair.before.as_ref()?;
        let (namespace, name) = (meta::namespace(pod), meta::name(pod));
        let of = |c: &&Container| c.namespace == namespace && c.pod == name;
        let containers: Vec<Value> = pair
            .last
            .containers
            .iter()
            .filter(of)
            .filter_map(|c| {
                let earlier = before.containers.iter().filter(of).find(|b| b.name == c.name);
                // One that was started in between has run for no longer than this.
                let used = c
                    .used
                    .since(&earlier.map_or(Used { cpu: 0.0, ..c.used }, |e| e.used))
                    .or_else(|| earlier.is_none().then_some((0.0, c.used.memory)))?;
                Some(json!({"name": c.name, "usage": usage(&used)}))
            })
            .collect();
        let mut item = item(cx, pod, pair);
        item["containers"] = containers.into();
        (!item["containers"].as_array()?.is_empty()).then_some(item)
    };
    pods.iter().filter_map(item).collect()
}

/// Metadata and times of an object's figures.
fn item(cx: &Cx<'_>, object: &Value, pair: &Pair) -> Value {
    let now = time::rfc3339(cx.server.now());
    let mut metadata = json!({"name": meta::name(object), "creationTimestamp": now});
    if !meta::namespace(object).is_empty() {
        metadata["namespace"] = meta::namespace(object).into();
    }
    if let Some(labels) = meta::at(object, &["metadata", "labels"]).filter(|l| l.is_object()) {
        metadata["labels"] = labels.clone();
    }
    let window = pair.before.as_ref().map_or(0, |before| pair.last.node.time - before.node.time);
    json!({"metadata": metadata, "timestamp": now, "window": format!("{}.{:03}s", window / 1000, window % 1000)})
}

/// CPUs and bytes as quantities.
fn usage(&(cpu, memory): &(f64, f64)) -> Value {
    let nano = (cpu * 1e9).round().max(0.0);
    json!({"cpu": format!("{nano:.0}n"), "memory": format!("{:.0}Ki", (memory / 1024.0).floor())})
}

/// Two samples of a node, the last of them fresh; `None` if it can't be asked.
async fn pair(cx: &Cx<'_>, node: &str) -> Option<Pair> {
    let kept = || cx.server.samples().0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = kept().get(node).cloned();
    if let Some(known) = known.as_ref().filter(|k| k.at.elapsed() < FRESH && k.before.is_some()) {
        return Some(known.clone());
    }
    let ask = || async {
        match tokio::time::timeout(PATIENCE, scrape(cx, node)).await {
            Ok(Ok(sample)) => Some(Arc::new(sample)),
            Ok(Err(error)) => {
                tracing::debug!(node, %error, "a node does not tell what it uses");
                None
            }
            Err(_) => None,
        }
    };
    let before = match known.filter(|k| (APART..STALE).contains(&k.at.elapsed())) {
        Some(known) => known.last,
        None => {
            let first = ask().await?;
            tokio::time::sleep(APART).await;
            first
        }
    };
    let pair = Pair { last: ask().await?, before: Some(before), at: Instant::now() };
    let mut kept = kept();
    kept.retain(|_, pair| pair.at.elapsed() < STALE);
    kept.insert(node.to_owned(), pair.clone());
    Some(pair)
}

async fn scrape(cx: &Cx<'_>, node: &str) -> Result<Sample, Status> {
    let answer = ask_kubelet(cx, node, "/metrics/resource".to_owned()).await?;
    if answer.status() != StatusCode::OK {
        return Err(Status::internal(format!("the kubelet answered {}", answer.status())));
    }
    let text = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(Status::internal)?;
    Ok(Sample::parse(&String::from_utf8_lossy(&text.to_bytes()), cx.server.now().as_millisecond()))
}
