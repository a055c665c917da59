//! The ingress by itself, for `ci/bench ingress`: every request goes to the endpoints that the arguments name. Prints the addresses
//! that it serves, and ends with its standard input.

use std::net::SocketAddr;
use std::sync::Arc;

use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use kiln_ingress::{CONTROLLER, Config, Listening};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// An API with one Ingress, which has a rule for all paths of a host besides 1,000 others.
fn api(endpoints: &[SocketAddr]) -> FakeApi {
    let (api, networking) = (FakeApi::new(), "/apis/networking.k8s.io/v1");
    let class = json!({"metadata": {"name": "kiln"}, "spec": {"controller": CONTROLLER}});
    api.put(&format!("{networking}/ingressclasses/kiln"), class);
    let ports = json!([{"port": 80}]);
    api.put("/api/v1/namespaces/ns/services/web", json!({"metadata": {"name": "web"}, "spec": {"ports": ports}}));
    for (number, endpoint) in endpoints.iter().enumerate() {
        let slice = json!({
            "metadata": {"name": format!("web-{number}"), "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [endpoint.ip()]}],
            "ports": [{"port": endpoint.port()}],
        });
        api.put(&format!("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/web-{number}"), slice);
    }
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let rule = |host: String| {
        let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
        json!({"host": host, "http": {"paths": paths}})
    };
    let mut rules: Vec<_> = (0..1_000).map(|number| rule(format!("host-{number}.example.com"))).collect();
    rules.push(rule("bench.example.com".to_owned()));
    let ingress = json!({"metadata": {"name": "web"}, "spec": {"ingressClassName": "kiln", "rules": rules}});
    api.put(&format!("{networking}/namespaces/ns/ingresses/web"), ingress);
    api
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    let (mut informers, shutdown) = (Informers::new(api(&endpoints).client()), CancellationToken::new());
    let config = Config {
        node: "bench".to_owned(),
        address: Some([127, 0, 0, 1].into()),
        http_port: 0,
        https_port: 0,
        connections: 20_000,
        trusted: Vec::new(),
        access_log: false,
        external_names: kiln_ingress::ExternalNames::No,
        metrics: None,
        tell: Arc::new(|port| match port {
            Listening::Http(address) => println!("http {address}"),
            Listening::Https(address) => println!("https {address}"),
            Listening::Failed(error) => eprintln!("{error}"),
        }),
    };
    let ingress = kiln_ingress::build(&mut informers, config, shutdown.clone())?;
    let running = tokio::spawn(async move { tokio::join!(informers.run(shutdown.clone()), ingress) });
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    running.abort();
    Ok(())
}
