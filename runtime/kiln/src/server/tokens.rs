//! The join tokens that came with the card (`bootstrap-tokens.json`, made by `imager cluster init`) or by flags.

use std::path::Path;

use anyhow::Context as _;
use kiln_client::Client;
use kiln_node_config::Token;
use kiln_pki::files;
use kiln_pki::secret::hash;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::TokenSecret;
use crate::exit::Failure;

/// One entry of the file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    id: String,
    secret_sha256: String,
    #[serde(default)]
    description: String,
    expires: Option<String>,
    #[serde(default)]
    single_use: bool,
    node: Option<String>,
}

/// Creates a Secret for each token of the file, if there is one; those that exist stay as they are.
///
/// # Errors
/// When the file is wrong, or the API doesn't take them.
pub(super) async fn import(client: &Client, cluster_dir: &Path) -> anyhow::Result<()> {
    let path = cluster_dir.join("bootstrap-tokens.json");
    let Some(text) = files::read(&path)? else {
        return Ok(());
    };
    let entries: Vec<Entry> =
        serde_json::from_str(&text).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
    for entry in &entries {
        let secret = TokenSecret {
            id: &entry.id,
            secret_sha256: &entry.secret_sha256,
            description: &entry.description,
            expires: entry.expires.clone(),
            single_use: entry.single_use,
            node: entry.node.as_deref(),
        };
        create(client, &secret).await?;
    }
    Ok(())
}

/// Lets agents join with a token that came by a flag, for as long as the cluster lasts.
///
/// # Errors
/// When the API doesn't take it.
pub(super) async fn add(client: &Client, token: &Token, description: &str) -> anyhow::Result<()> {
    let secret = TokenSecret {
        id: token.id(),
        secret_sha256: &hash(token.secret()),
        description,
        expires: None,
        single_use: false,
        node: None,
    };
    create(client, &secret).await
}

/// What is said of a text that is no token.
pub(super) const NO_TOKEN: &str = "--agent-token is no token of this cluster; write 6 and 16 characters of a-z and 0-9 with a dot between, as abcdef.0123456789abcdef";

/// Whether a text has the form of an id and a secret.
pub(super) fn is_short(text: &str) -> bool {
    parse(text, &"0".repeat(64)).is_some()
}

/// A token for agents as a flag has it: whole, or only its id and secret, as `abcdef.0123456789abcdef`.
pub(super) fn parse(text: &str, ca_hash: &str) -> Option<Token> {
    let whole = Token::parse(text).ok().filter(|token| token.ca_hash() == ca_hash);
    whole.or_else(|| {
        let (id, secret) = text.trim().split_once('.')?;
        Token::new(ca_hash, id, secret).ok()
    })
}

async fn create(client: &Client, secret: &TokenSecret<'_>) -> anyhow::Result<()> {
    match client.create::<Value>(TokenSecret::PATH, &secret.to_object()).await {
        Ok(_) => tracing::info!(id = secret.id, "join token imported"),
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(error).with_context(|| format!("importing the join token {}", secret.id)),
    }
    Ok(())
}
