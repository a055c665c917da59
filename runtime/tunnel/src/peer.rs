//! Streams that one server of a cluster has from another: for nodes that have their tunnel there, and for that server's own.

use http::StatusCode;

use crate::dial::{Identity, TunnelError, ask};
use crate::{Connection, DialError, STREAM, STREAM_PATH, Target};

/// Asks the server that `identity` names for a stream to something on a node.
///
/// # Errors
/// [`DialError::Refused`] if the node was reached and its target was not; [`DialError::NoTunnel`] if that server knows no way to
/// the node either, or can't be reached itself.
pub async fn borrow(identity: &Identity, node: &str, target: &Target) -> Result<Connection, DialError> {
    let path = match target {
        Target::Kubelet => format!("{STREAM_PATH}?node={node}"),
        // The zone of a link-local address.
        Target::Address(address) => format!("{STREAM_PATH}?node={node}&address={}", address.replace('%', "%25")),
    };
    match ask(&identity.server, identity, &path, STREAM).await {
        Ok(dialled) => Ok(dialled.connection),
        Err(TunnelError::Refused(StatusCode::BAD_GATEWAY, why)) => Err(DialError::Refused(why)),
        Err(error) => {
            tracing::debug!(server = identity.server, node, %error, "another server has no stream");
            Err(DialError::NoTunnel(node.to_owned()))
        }
    }
}
