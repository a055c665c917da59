//! Certificates by the Kubernetes certificates API: a request is created, the cluster's signer answers it, the answer is watched
//! for. A node's first client certificate is asked for with the join token, everything later with that certificate.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use kiln_client::{Client, ClientError, ListParams, WatchEvent};
use kiln_pki::{NODE_USER_PREFIX, NODES_GROUP, PrivateKey, Signer, secret};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{JoinError, Pair};

/// Where requests are created.
const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// The header by which a server ties a node's name to its board.
pub const IDENTITY_HEADER: &str = "Kiln-Node-Identity";
/// The annotation by which a server says that the token was single-use.
const SINGLE_USE: &str = "kiln.dev/single-use-token";
/// How long the signer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client certificate for a node.
pub struct ClientCertificate {
    /// The certificate with its new key.
    pub pair: Pair,
    /// Whether the token that asked for it was single-use, and is spent now.
    pub token_spent: bool,
}

/// Asks for a client certificate `system:node:<node>` with a new key. `identity` is the board's identity towards this cluster
/// (see [`secret::node_identity`]).
///
/// # Errors
/// [`JoinError::Token`], [`JoinError::Forbidden`] with the server's rule, or another failure of the exchange.
pub async fn client_certificate(client: &Client, node: &str, identity: &str) -> Result<ClientCertificate, JoinError> {
    let user = format!("{NODE_USER_PREFIX}{node}");
    let key = PrivateKey::generate()?;
    let csr = key.request(&user, Some(NODES_GROUP), &[])?;
    let signed = request(client, Signer::KubeletClient, node, &csr, Some(identity)).await?;
    let token_spent = signed.object["metadata"]["annotations"][SINGLE_USE] == "true";
    Ok(ClientCertificate { pair: checked(signed.certificate_pem, &key, &user)?, token_spent })
}

/// Asks for a serving certificate for a node under `names` (host names and addresses) with a new key; `client` must be the node.
///
/// # Errors
/// [`JoinError::Forbidden`] with the server's rule, or another failure of the exchange.
pub async fn serving_certificate(client: &Client, node: &str, names: &[String]) -> Result<Pair, JoinError> {
    let user = format!("{NODE_USER_PREFIX}{node}");
    let key = PrivateKey::generate()?;
    let csr = key.request(&user, Some(NODES_GROUP), names)?;
    let signed = request(client, Signer::KubeletServing, node, &csr, None).await?;
    checked(signed.certificate_pem, &key, &user)
}

fn checked(certificate_pem: String, key: &PrivateKey, user: &str) -> Result<Pair, JoinError> {
    let pair = Pair::new(certificate_pem, key.to_pem())?;
    if pair.certificate.common_name != user {
        return Err(JoinError::Api(format!(
            "the server signed a certificate for `{}` where `{user}` was asked for",
            pair.certificate.common_name
        )));
    }
    Ok(pair)
}

/// A request that was answered.
struct Signed {
    object: Value,
    certificate_pem: String,
}

async fn request(
    client: &Client,
    signer: Signer,
    node: &str,
    csr_pem: &str,
    identity: Option<&str>,
) -> Result<Signed, JoinError> {
    let name = format!("{node}-{}", secret::random_text(8)?);
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        "spec": {
            "request": STANDARD.encode(csr_pem),
            "signerName": signer.name(),
            "usages": signer.usages(),
        },
    });
    let mut builder = Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::CONTENT_TYPE, "application/json");
    if let Some(identity) = identity {
        builder = builder.header(IDENTITY_HEADER, identity);
    }
    let unmade = |why: String| JoinError::Api(format!("the certificate request can't be written: {why}"));
    let body = serde_json::to_vec(&object).map_err(|e| unmade(e.to_string()))?;
    let post = builder.body(Bytes::from(body)).map_err(|e| unmade(e.to_string()))?;
    let created: Value = client.send(post).await.map_err(refused)?;
    tracing::info!(csr = name, signer = signer.name(), "certificate requested");
    let deadline = Instant::now() + PATIENCE;
    match tokio::time::timeout_at(deadline, answer(client, &name, created)).await {
        Ok(signed) => signed,
        Err(_) => Err(JoinError::NoCertificate(PATIENCE)),
    }
}

/// Follows the request until it is answered, however often the watch ends in between.
async fn answer(client: &Client, name: &str, mut object: Value) -> Result<Signed, JoinError> {
    let params = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
    loop {
        if let Some(signed) = verdict(&object)? {
            return Ok(signed);
        }
        let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let mut watch = client.watch::<Value>(PATH, &params, &revision, PATIENCE).await.map_err(refused)?;
        while let Some(event) = watch.next().await.map_err(refused)? {
            match event {
                WatchEvent::Added(changed) | WatchEvent::Modified(changed) => {
                    if let Some(signed) = verdict(&changed)? {
                        return Ok(signed);
                    }
                }
                WatchEvent::Deleted(_) => {
                    return Err(JoinError::Request { what: "deleted", message: format!("`{name}` is gone") });
                }
                WatchEvent::Bookmark(_) => {}
            }
        }
        object = client.get(&format!("{PATH}/{name}")).await.map_err(refused)?;
    }
}

/// The certificate, the refusal, or neither yet.
fn verdict(object: &Value) -> Result<Option<Signed>, JoinError> {
    let status = &object["status"];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let what = match condition["type"].as_str() {
            Some("Denied") => "denied",
            Some("Failed") => "failed",
            _ => continue,
        };
        let text = |key: &str| condition[key].as_str().filter(|t| !t.is_empty());
        let message = text("message").or(text("reason")).unwrap_or("no reason is given").to_owned();
        return Err(JoinError::Request { what, message });
    }
    let Some(encoded) = status["certificate"].as_str().filter(|c| !c.is_empty()) else {
        return Ok(None);
    };
    let unreadable = |why: String| JoinError::Api(format!("the certificate that the server gave can't be read: {why}"));
    let pem = STANDARD.decode(encoded).map_err(|e| unreadable(e.to_string()))?;
    let certificate_pem = String::from_utf8(pem).map_err(|e| unreadable(e.to_string()))?;
    Ok(Some(Signed { object: object.clone(), certificate_pem }))
}

fn refused(error: ClientError) -> JoinError {
    match error.status().map(|s| (s.code, s.message.clone())) {
        Some((401, _)) => JoinError::Token,
        Some((403, message)) => JoinError::Forbidden(message),
        _ => JoinError::Api(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_request_gives_the_servers_reason() {
        let object = json!({"status": {"conditions": [{"type": "Denied", "message": "not you"}]}});
        let error = verdict(&object).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("the certificate request was denied: not you"));
    }

    #[test]
    fn an_approved_request_without_a_certificate_is_still_open() {
        let object = json!({"status": {"conditions": [{"type": "Approved"}]}});
        assert!(matches!(verdict(&object), Ok(None)));
    }
}
