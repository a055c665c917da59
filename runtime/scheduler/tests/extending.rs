//! Extenders: programs beside the scheduler that have a say, here one that listens on loopback.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod real;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kiln_scheduler::Config;
use real::{PODS, World};
use serde_json::{Value, json};

/// Answers each request by its path and body; answers where it listens.
fn serve(answer: impl Fn(&str, Value) -> Value + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                if path.is_empty() {
                    path = line.split(' ').nth(1).unwrap().to_owned();
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = answer(&path, serde_json::from_slice(&body).unwrap()).to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
            write!(stream.get_mut(), "{head} {}\r\n\r\n{answer}", answer.len()).unwrap();
        }
    });
    format!("http://{address}/scheduler/")
}

fn config(extender: &str) -> Config {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders:\n";
    Config::parse(&format!("{head}- {extender}\n")).unwrap()
}

async fn three_nodes(config: &Config) -> World {
    let world = World::with(config).await;
    for name in ["a", "b", "c"] {
        world.four(name).await;
    }
    world
}

#[tokio::test]
async fn an_extender_refuses_nodes_and_gives_points_and_any_event_has_it_asked_again() {
    let open = Arc::<AtomicBool>::default();
    let is_open = Arc::clone(&open);
    let url = serve(move |path, asked| {
        let names: Vec<String> = serde_json::from_value(asked["NodeNames"].clone()).unwrap();
        match path {
            "/scheduler/filter" if asked["Pod"]["metadata"]["name"] == "late" && !is_open.load(Ordering::SeqCst) => {
                let failed: Value =
                    names.into_iter().map(|name| (name, json!("too old"))).collect::<serde_json::Map<_, _>>().into();
                json!({"NodeNames": [], "FailedNodes": failed, "Error": ""})
            }
            "/scheduler/filter" => {
                let left: Vec<_> = names.into_iter().filter(|name| name != "a").collect();
                json!({"Nodes": null, "NodeNames": left, "FailedNodes": {"a": "too old"}, "Error": ""})
            }
            "/scheduler/points" => {
                names.iter().map(|name| json!({"Host": name, "Score": if name == "c" { 10 } else { 0 }})).collect()
            }
            _ => json!({"Error": path}),
        }
    });
    let extender = format!(
        "{{urlPrefix: '{url}', filterVerb: filter, prioritizeVerb: points, weight: 100, nodeCacheCapable: true, httpTimeout: 30s}}"
    );
    let world = three_nodes(&config(&extender)).await;
    for name in ["one", "two"] {
        world.pod(name, json!({"cpu": "1"}), json!({})).await;
        assert_eq!(world.node_of(name).await, "c");
    }
    world.pod("late", json!({"cpu": "1"}), json!({})).await;
    let words = "0/3 nodes are available: 3 too old. preemption: 0/3 nodes are available: \
                 3 No preemption victims found for incoming pod.";
    assert_eq!(world.refusal_of("late").await, words);
    open.store(true, Ordering::SeqCst);
    world.change("/api/v1/nodes/b", json!({"metadata": {"labels": {"new": "yes"}}})).await;
    assert_eq!(world.node_of("late").await, "c");
}

#[tokio::test]
async fn an_extender_binds_the_pods_that_are_its_concern_and_sees_whole_nodes() {
    let bound = Arc::<Mutex<Vec<Value>>>::default();
    let noted = Arc::clone(&bound);
    let url = serve(move |path, asked| match path {
        "/scheduler/bind" => {
            noted.lock().unwrap().push(asked);
            json!({"Error": "not today"})
        }
        _ => {
            let nodes = asked["Nodes"]["items"].as_array().unwrap().iter();
            let left: Vec<_> = nodes.filter(|node| node["metadata"]["name"] == "b").collect();
            json!({"nodes": {"items": left}, "failedNodes": null})
        }
    });
    let managed = "managedResources: [{name: example.com/gpu, ignoredByScheduler: true}]";
    let extender = format!("{{urlPrefix: '{url}', filterVerb: filter, bindVerb: bind, httpTimeout: 30s, {managed}}}");
    let world = three_nodes(&config(&extender)).await;
    // Another's pods are bound as ever.
    world.pod("plain", json!({"cpu": "1"}), json!({})).await;
    world.node_of("plain").await;
    let pod = world
        .pod(
            "gpu",
            json!({"cpu": "1"}),
            json!({"containers": [{"name": "c", "image": "i",
        "resources": {"limits": {"example.com/gpu": "1"}}}]}),
        )
        .await;
    let event = world.event("gpu", "FailedScheduling").await;
    assert_eq!(event["note"], "not today");
    let asked = bound.lock().unwrap()[0].clone();
    let expected = json!({"PodName": "gpu", "PodNamespace": "default", "PodUID": pod["metadata"]["uid"], "Node": "b"});
    assert_eq!(asked, expected);
    let now: Value = world.client.get(&format!("{PODS}/gpu")).await.unwrap();
    assert_eq!(now["spec"]["nodeName"], Value::Null);
}

#[tokio::test]
async fn an_extender_that_is_away_stops_pods_unless_it_may_be_ignored() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (ignorable, placed) in [(true, true), (false, false)] {
        let extender = format!("{{urlPrefix: 'http://{nobody}', filterVerb: filter, ignorable: {ignorable}}}");
        let world = three_nodes(&config(&extender)).await;
        world.pod("p", json!({"cpu": "1"}), json!({})).await;
        if placed {
            world.node_of("p").await;
        } else {
            let event = world.event("p", "FailedScheduling").await;
            assert!(event["note"].as_str().unwrap().contains("Connection refused"), "{event}");
        }
    }
}
