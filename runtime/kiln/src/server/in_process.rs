//! The API without sockets, for the parts that run in the server itself.

use bytes::Bytes;
use kiln_apiserver::{ApiServer, UserInfo};
use kiln_client::{Body, BoxFuture, Client, ClientError, Transport};

/// Calls the API server as one user.
struct InProcess {
    server: ApiServer,
    user: UserInfo,
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        Box::pin(async move { Ok(self.server.call(self.user.clone(), request).await) })
    }
}

/// A client that is this user.
pub(super) fn client(server: &ApiServer, user: UserInfo) -> Client {
    Client::new(InProcess { server: server.clone(), user })
}
