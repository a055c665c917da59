//! Serves the names of some Services for a benchmark: `dns_bench ADDRESS:PORT SERVICES`. Prints `ready` when they are known.

use std::net::SocketAddr;

use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let at: SocketAddr = words.next().ok_or("an address is missing")?.parse()?;
    let services: u32 = words.next().ok_or("a number of Services is missing")?.parse()?;
    let api = FakeApi::new();
    api.put("/api/v1/namespaces/default", json!({"metadata": {"name": "default"}}));
    for number in 0..services {
        let (name, ip) = (format!("s{number}"), std::net::Ipv4Addr::from(0x0a2b_0100 + number).to_string());
        let object = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": "TCP"}]},
        });
        api.put(&format!("/api/v1/namespaces/default/services/{name}"), object);
    }
    let mut informers = Informers::new(api.client());
    let serve = kiln_dns::testing::serve("cluster.local", &mut informers, at).await?;
    let synced = informers.of::<k8s_openapi::api::core::v1::Service>().store();
    tokio::spawn(informers.run(CancellationToken::new()));
    synced.synced().await;
    println!("ready");
    serve.await;
    Ok(())
}
