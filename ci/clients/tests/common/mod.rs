//! A whole server over TLS on the loopback, with the controllers that clients reckon with, and kube-rs' client of it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(dead_code, reason = "each test uses a part")]

#[path = "../../../../runtime/apiserver/examples/support/mod.rs"]
mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use kiln_client::{Body, BoxFuture, ClientError, Clock, Transport};
use kiln_controllers::{alone, garbage, namespace, per_namespace};
use kiln_storage::Storage;
use kube::Client;
use kube::config::AuthInfo;
use serde_json::{Value, json};
use support::Identities;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

struct InProcess(ApiServer);

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        Box::pin(async move { Ok(self.0.call(UserInfo::system("test"), request).await) })
    }
}

/// A cluster without nodes.
pub(crate) struct Cluster {
    /// An administrator's client.
    pub(crate) client: Client,
    pub(crate) api: ApiServer,
    pub(crate) storage: Arc<dyn Storage>,
    address: SocketAddr,
    ca: Vec<u8>,
    _end: DropGuard,
}

impl Cluster {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        let identities = Identities::new().unwrap();
        let storage = kiln_storage::memory::open();
        let config = Config { ca_pem: identities.ca_pem.clone(), ..Config::default() };
        let api = ApiServer::build(config, storage.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = api.clone();
        let (tls, stop) = (identities.tls.clone(), shutdown.clone());
        tokio::spawn(async move { serving.serve(listener, tls, stop).await });
        let controllers = || kiln_client::Client::new(InProcess(api.clone()));
        tokio::spawn(garbage::run(controllers(), shutdown.clone()));
        tokio::spawn(alone(controllers(), Clock::system(), shutdown.clone(), |informers, context| {
            let both =
                (namespace::build(informers, context), per_namespace::default_service_accounts(informers, context));
            async { _ = tokio::join!(both.0, both.1) }
        }));
        let admin = json!({
            "client-certificate-data": base64(&identities.admin_pem),
            "client-key-data": base64(&identities.admin_key.serialize_pem()),
        });
        let ca = identities.ca.to_vec();
        let client = client(address, &ca, admin);
        Self { client, api, storage, address, ca, _end: shutdown.drop_guard() }
    }

    /// A client that bears a token.
    pub(crate) fn bearer(&self, token: &str) -> Client {
        client(self.address, &self.ca, json!({"token": token}))
    }

    /// A client without credentials.
    pub(crate) fn plain(&self) -> Client {
        client(self.address, &self.ca, json!({}))
    }
}

fn client(address: SocketAddr, ca: &[u8], auth: Value) -> Client {
    let mut config = kube::Config::new(format!("https://{address}").parse().unwrap());
    config.root_cert = Some(vec![ca.to_vec()]);
    config.auth_info = serde_json::from_value::<AuthInfo>(auth).unwrap();
    // What the server answers is what is looked at here.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it never came to this: {what}"))
}

/// An object of a type, out of JSON.
pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Code and reason of the Status that a call was refused with.
pub(crate) fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("not refused by the server: {other:?}"),
    }
}
