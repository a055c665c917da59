//! The server's own node name, bound to its board like an agent's, so that no agent can take it.
//!
//! An agent's name is bound when it asks for its certificate; the server's node asks for none.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_client::Client;
use kiln_pki::secret::{node_identity, random_bytes};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;
use crate::node::Identity;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const SECRET_TYPE: &str = "kiln.dev/node-identity";
/// Marks a name as the server's, which it keeps when its card is moved to another board.
const MARK: &str = "kiln.dev/server-node";

/// Binds the name.
///
/// # Errors
/// When the name is an agent's, or the API doesn't take it.
pub(super) async fn bind(client: &Client, identity: &Identity, ca_hash: &str) -> anyhow::Result<()> {
    let name = format!("{}.node-identity.kiln", identity.name);
    let path = format!("{SECRETS}/{name}");
    let shown = node_identity(&identity.board_id, ca_hash);
    let known: Option<Value> = client.find(&path).await.context("reading the binding of this node's name")?;
    if let Some(known) = &known {
        if is_bound_to(known, &shown) {
            return Ok(());
        }
        if known["metadata"]["annotations"][MARK] != "true" {
            let text = format!(
                "node name \"{}\" belongs to another board; give this server another node.name, or delete Secret kube-system/{name} to release it",
                identity.name
            );
            return Err(Failure::Input(text).into());
        }
    }
    let salt: [u8; 16] = random_bytes()?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": "kube-system", "annotations": { MARK: "true" } },
        "type": SECRET_TYPE,
        "data": { "salt": STANDARD.encode(salt), "hash": STANDARD.encode(hash(&salt, &shown)) },
    });
    let written = match known {
        None => client.create::<Value>(SECRETS, &secret).await,
        Some(_) => client.update::<Value>(&path, &secret).await,
    };
    written.map(|_| ()).context("binding this node's name to its board")
}

fn hash(salt: &[u8], identity: &str) -> Vec<u8> {
    Sha256::new().chain_update(salt).chain_update(identity.as_bytes()).finalize().to_vec()
}

fn is_bound_to(secret: &Value, identity: &str) -> bool {
    let bytes = |key: &str| STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap_or_default();
    hash(&bytes("salt"), identity) == bytes("hash")
}

#[cfg(test)]
mod tests {
    use kiln_client::testing::FakeApi;

    use super::*;
    use crate::node::containers::ContainerOptions;

    fn identity(board: &str) -> Identity {
        Identity {
            name: "pi".to_owned(),
            board_id: board.to_owned(),
            labels: Default::default(),
            taints: Vec::new(),
            addresses: Vec::new(),
            interface: None,
            ingress: Default::default(),
            containers: ContainerOptions::default(),
        }
    }

    #[tokio::test]
    async fn the_servers_name_stays_its_own_when_its_card_moves_to_another_board() {
        let client = FakeApi::new().client();
        bind(&client, &identity("one"), "ca").await.unwrap();
        bind(&client, &identity("one"), "ca").await.unwrap();
        bind(&client, &identity("two"), "ca").await.unwrap();
        let path = format!("{SECRETS}/pi.node-identity.kiln");
        let secret: Value = client.get(&path).await.unwrap();
        assert!(is_bound_to(&secret, &node_identity("two", "ca")));
        assert!(!is_bound_to(&secret, &node_identity("one", "ca")));
    }

    #[tokio::test]
    async fn the_server_does_not_take_an_agents_name() {
        let api = FakeApi::new();
        let path = format!("{SECRETS}/pi.node-identity.kiln");
        api.put(&path, json!({"metadata": {"name": "pi.node-identity.kiln"}, "data": {"salt": "", "hash": ""}}));
        let error = bind(&api.client(), &identity("one"), "ca").await.unwrap_err().to_string();
        assert!(error.contains("belongs to another board"), "{error}");
    }
}
