//! The node's way to the API, which outlives its certificate and the server's address.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use kiln_client::https::{Auth, Https, HttpsConfig};
use kiln_client::{Body, BoxFuture, Client, ClientError, Transport};
use tokio::sync::Notify;

use crate::{Credentials, Endpoint, JoinError};

/// A transport whose inner one can be replaced. Requests under way stay on the one they began on.
pub(crate) struct Connection {
    inner: RwLock<Arc<dyn Transport>>,
    /// Told whenever the server can't be reached.
    pub(crate) trouble: Notify,
}

impl Connection {
    pub(crate) fn new(transport: Https) -> Arc<Self> {
        Arc::new(Connection { inner: RwLock::new(Arc::new(transport)), trouble: Notify::new() })
    }

    pub(crate) fn replace(&self, transport: Https) {
        // The lock guards one pointer, which is whole even if a writer panicked.
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(transport);
    }
}

/// A handle that is a [`Transport`].
#[derive(Clone)]
pub(crate) struct Handle(pub(crate) Arc<Connection>);

impl Transport for Handle {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        let inner = Arc::clone(&self.0.inner.read().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move {
            let answer = inner.send(request).await;
            if matches!(answer, Err(ClientError::Connect { .. })) {
                self.0.trouble.notify_one();
            }
            answer
        })
    }
}

/// HTTPS to the server of these credentials, as their node.
pub(crate) fn as_node(credentials: &Credentials) -> Result<Https, JoinError> {
    let auth = Auth::Certificate {
        certificate_pem: credentials.client.certificate_pem.clone(),
        key_pem: credentials.client.key_pem.clone(),
    };
    https(&credentials.server, &credentials.ca_pem, auth)
}

/// A client that shows the token. The one place where a secret meets the network: the CA was compared with the token's hash
/// before.
pub(crate) fn with_token(server: &str, ca_pem: &str, bearer: String) -> Result<Client, JoinError> {
    https(server, ca_pem, Auth::Bearer(bearer)).map(Client::new)
}

fn https(server: &str, ca_pem: &str, auth: Auth) -> Result<Https, JoinError> {
    let config = HttpsConfig {
        server: server.to_owned(),
        ca_pem: ca_pem.to_owned(),
        auth,
        tls_server_name: Endpoint::without_zone(server).map(str::to_owned),
        ..HttpsConfig::default()
    };
    Https::new(config).map_err(|e| JoinError::Api(e.to_string()))
}
