//! The API without sockets, for the parts that run in the server itself.

use std::sync::Arc;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, UserInfo};
use kiln_client::{Body, BoxFuture, Client, ClientError, Transport};
use kiln_controllers::account_tokens::Fill;
use serde_json::Value;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// Calls the API server as one user.
struct InProcess {
    server: ApiServer,
    user: UserInfo,
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        let (server, user) = (self.server.clone(), self.user.clone());
        // On a stack of its own, as behind a socket: what calls is deep already. It ends with its caller.
        let task = AbortOnDropHandle::new(tokio::spawn(async move { server.call(user, request).await }));
        Box::pin(async move { task.await.map_err(lost) })
    }
}

/// A request that the server's fault, or its end, cut off.
fn lost(error: JoinError) -> ClientError {
    ClientError::Connect { server: "the API server in this process".into(), why: error.to_string() }
}

/// A client that is this user.
pub(super) fn client(server: &ApiServer, user: UserInfo) -> Client {
    Client::new(InProcess { server: server.clone(), user })
}

/// How the controller of tokens has them made.
pub(super) fn fill_token(server: &ApiServer) -> Fill {
    let server = server.clone();
    Arc::new(move |mut secret: Value| {
        let server = server.clone();
        Box::pin(async move {
            let namespace = secret["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            server.fill_token_secret(&namespace, &mut secret).await.map(|()| secret)
        })
    })
}
