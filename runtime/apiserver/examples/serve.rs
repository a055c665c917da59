//! An API server in memory on 127.0.0.1, with a CA of its own, for trying clients against:
//! `cargo run -p kiln-apiserver --example serve -- 127.0.0.1:7443 /tmp/kubeconfig`. The kubeconfig is an administrator's.

#[allow(dead_code, reason = "each example uses its own part")]
mod support;

use std::error::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apiserver::{ApiServer, Config};
use support::Identities;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (address, path) = args.next().zip(args.next()).ok_or("usage: serve ADDRESS KUBECONFIG")?;
    let identities = Identities::new()?;
    let encode = |pem: &str| STANDARD.encode(pem);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster:\n    server: https://{address}\n    \
         certificate-authority-data: {}\nusers:\n- name: c\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
         contexts:\n- name: c\n  context: {{cluster: c, user: c}}\n",
        encode(&identities.ca_pem),
        encode(&identities.admin_pem),
        encode(&identities.admin_key.serialize_pem()),
    );
    std::fs::write(path, kubeconfig)?;

    let config = Config { ca_pem: identities.ca_pem.clone(), ..Config::default() };
    let api = ApiServer::build(config, kiln_storage::memory::open()).await?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    api.serve(listener, identities.tls, shutdown).await;
    Ok(())
}
