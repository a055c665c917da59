//! Extenders: programs beside the scheduler that have a say, here one that listens on loopback.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod extender;
mod real;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use extender::{config, listen, serve};
use kiln_pki::Authority;
use real::{PODS, World};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// Opens TLS for one that shows a certificate of a CA of its own; and the CA, in the base64 of its PEM.
fn tls() -> (impl Fn(TcpStream) -> Option<StreamOwned<ServerConnection, TcpStream>> + Send + 'static, String) {
    let now = SystemTime::now();
    let ca = Authority::create(now).unwrap();
    let issued = ca.issue_server("extender", &["127.0.0.1".to_owned()], now).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let open = move |mut stream: TcpStream| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        // One that does not believe the certificate hangs up.
        connection.complete_io(&mut stream).ok()?;
        Some(StreamOwned::new(connection, stream))
    };
    (open, STANDARD.encode(ca.certificate_pem()))
}

async fn three_nodes(extender: &str) -> World {
    let world = World::with(&config(&[extender])).await;
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
    let world = three_nodes(&extender).await;
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
    let world = three_nodes(&extender).await;
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
        let world = three_nodes(&extender).await;
        world.pod("p", json!({"cpu": "1"}), json!({})).await;
        if placed {
            world.node_of("p").await;
        } else {
            let event = world.event("p", "FailedScheduling").await;
            assert!(event["note"].as_str().unwrap().contains("Connection refused"), "{event}");
        }
    }
}

#[tokio::test]
async fn an_extender_that_should_bind_and_fails_is_passed_over_if_it_may_be() {
    let url = serve(|_, _| json!({"Error": "not today"}));
    let world = three_nodes(&format!("{{urlPrefix: '{url}', bindVerb: bind, ignorable: true}}")).await;
    world.pod("p", json!({"cpu": "1"}), json!({})).await;
    world.node_of("p").await;
}

#[tokio::test]
async fn an_extender_behind_tls_is_believed_by_the_ca_that_is_named_or_if_nobody_asks() {
    let (open, ca) = tls();
    let address = listen(open, |_, asked| json!({"NodeNames": asked["NodeNames"]}));
    let (_, other) = tls();
    let rows = [
        (format!("tlsConfig: {{caData: {ca}}}"), true),
        (format!("tlsConfig: {{caData: {ca}, serverName: localhost}}"), false),
        (format!("tlsConfig: {{caData: {other}}}"), false),
        ("tlsConfig: {insecure: true}".to_owned(), true),
        ("enableHTTPS: true".to_owned(), true),
    ];
    for (tls, placed) in rows {
        let extender = format!("{{urlPrefix: 'https://{address}', filterVerb: filter, nodeCacheCapable: true, {tls}}}");
        let world = three_nodes(&extender).await;
        world.pod("p", json!({"cpu": "1"}), json!({})).await;
        if placed {
            world.node_of("p").await;
        } else {
            let event = world.event("p", "FailedScheduling").await;
            assert!(event["note"].as_str().unwrap().contains("certificate"), "{tls}: {event}");
        }
    }
}
