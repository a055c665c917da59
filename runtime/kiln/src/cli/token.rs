//! `kiln token`: join tokens, kept by the API as Kubernetes bootstrap tokens.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kiln_client::{Client, ListParams};
use kiln_node_config::Token;
use kiln_pki::{ca_hash, certificate_der, secret};
use serde::Serialize;
use serde_json::{Value, json};

use super::kubeconfig::Admin;
use super::{Common, Format, Output, duration, output};
use crate::service::block_on;

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln token create                                  a token for a day
  kiln token create --single-use --node pi-1         for one card, scrubbed from it after the join
  kiln token create --ttl 0 --description 'the lab'  without end
  kiln token list
  kiln token delete abcdef";

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";
const GROUP: &str = "system:bootstrappers:kiln:default-node-token";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of all three.
#[derive(Debug, Args)]
struct Access {
    #[command(flatten)]
    common: Common,
    /// Kubeconfig to use instead of the one in the data folder
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token and print it; its secret is shown this once
    Create {
        /// How long it is good for, as 30m, 24h or 7d; 0: without end
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
        ttl: Duration,
        /// Good for one node only, which may come back with it when its card is written anew
        #[arg(long)]
        single_use: bool,
        /// Good for a node of this name only
        #[arg(long, value_name = "NAME", value_parser = kiln_node_config::validate::node_name)]
        node: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        #[command(flatten)]
        access: Access,
    },
    /// List the tokens, without their secrets
    List {
        #[command(flatten)]
        access: Access,
    },
    /// Delete tokens; nodes that joined with them stay
    Delete {
        /// Ids, or whole tokens
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        access: Access,
    },
}

/// Does one of the three.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    match options.verb {
        Verb::Create { ttl, single_use, node, description, access } => {
            let wish = Wish { ttl, single_use, node, description };
            block_on(create(&access, &wish))
        }
        Verb::List { access } => block_on(list(&access)),
        Verb::Delete { ids, access } => block_on(delete(&access, &ids)),
    }
}

impl Access {
    fn admin(&self) -> anyhow::Result<Admin> {
        Admin::load(&self.common.data_dir, self.kubeconfig.as_deref())
    }
}

/// What a new token is to be.
struct Wish {
    ttl: Duration,
    single_use: bool,
    node: Option<String>,
    description: String,
}

async fn create(access: &Access, wish: &Wish) -> anyhow::Result<()> {
    let admin = access.admin()?;
    let hash = ca_hash(&certificate_der(&admin.https.ca_pem)?);
    let (id, secret) = secret::new_token()?;
    let token = Token::new(&hash, &id, &secret)?;
    let expires = (!wish.ttl.is_zero()).then(|| Timestamp::try_from(SystemTime::now() + wish.ttl)).transpose()?;
    let object = TokenSecret {
        id: &id,
        secret_sha256: &secret::hash(&secret),
        description: &wish.description,
        expires: expires.map(rfc3339),
        single_use: wish.single_use,
        node: wish.node.as_deref(),
    };
    admin.client()?.create::<Value>(TokenSecret::PATH, &object.to_object()).await.context("making the token")?;
    match access.output.format {
        Format::Text => println!("{token}"),
        Format::Json => output::json(&json!({
            "token": token.to_string(),
            "id": id,
            "expires": expires.map(rfc3339),
            "singleUse": wish.single_use,
            "node": wish.node,
            "description": wish.description,
        }))?,
    }
    Ok(())
}

/// A bootstrap token's Secret.
pub(crate) struct TokenSecret<'a> {
    /// Public id.
    pub(crate) id: &'a str,
    /// Hex SHA-256 of the secret.
    pub(crate) secret_sha256: &'a str,
    /// What it is for.
    pub(crate) description: &'a str,
    /// RFC 3339; `None`: without end.
    pub(crate) expires: Option<String>,
    /// Good for one node only.
    pub(crate) single_use: bool,
    /// Good for a node of this name only.
    pub(crate) node: Option<&'a str>,
}

impl TokenSecret<'_> {
    /// Where they are created.
    pub(crate) const PATH: &'static str = "/api/v1/namespaces/kube-system/secrets";

    /// The object as it is created.
    pub(crate) fn to_object(&self) -> Value {
        let mut data = serde_json::Map::new();
        let mut set = |key: &str, text: &str| data.insert(key.to_owned(), STANDARD.encode(text).into());
        set("token-id", self.id);
        set("token-secret-sha256", self.secret_sha256);
        set("usage-bootstrap-authentication", "true");
        set("auth-extra-groups", GROUP);
        if !self.description.is_empty() {
            set("description", self.description);
        }
        if let Some(expires) = &self.expires {
            set("expiration", expires);
        }
        if self.single_use {
            set("kiln-single-use", "true");
        }
        if let Some(node) = self.node {
            set("kiln-node", node);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": format!("{NAME_PREFIX}{}", self.id), "namespace": "kube-system" },
            "type": SECRET_TYPE,
            "data": data,
        })
    }
}

/// Whole seconds, as Kubernetes writes times.
fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A token as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    expires: Option<String>,
    single_use: bool,
    node: Option<String>,
    used_by: Option<String>,
    description: Option<String>,
}

impl Listed {
    fn read(secret: &Value) -> Option<Self> {
        let field = |key: &str| {
            let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
            String::from_utf8(bytes).ok().filter(|t| !t.is_empty())
        };
        let name = secret["metadata"]["name"].as_str()?;
        Some(Listed {
            id: name.strip_prefix(NAME_PREFIX)?.to_owned(),
            expires: field("expiration"),
            single_use: field("kiln-single-use").as_deref() == Some("true"),
            node: field("kiln-node"),
            used_by: field("kiln-used-by"),
            description: field("description"),
        })
    }
}

async fn list(access: &Access) -> anyhow::Result<()> {
    let client = access.admin()?.client()?;
    let tokens = all(&client).await?;
    if access.output.format == Format::Json {
        return output::json(&tokens);
    }
    let now = Timestamp::now();
    let mut rows = vec![["ID", "EXPIRES", "SINGLE USE", "NODE", "USED BY", "DESCRIPTION"].map(str::to_owned).to_vec()];
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for token in tokens {
        let expires = match token.expires {
            None => "never".to_owned(),
            Some(text) => text.parse().map_or(text, |t| output::relative(t, now)),
        };
        let single_use = if token.single_use { "yes" } else { "no" }.to_owned();
        rows.push(vec![token.id, expires, single_use, dash(token.node), dash(token.used_by), dash(token.description)]);
    }
    output::table(&rows)
}

async fn all(client: &Client) -> anyhow::Result<Vec<Listed>> {
    let params = ListParams { fields: format!("type={SECRET_TYPE}"), ..ListParams::default() };
    let secrets = client.list::<Value>(TokenSecret::PATH, &params).await.context("listing tokens")?;
    Ok(secrets.items.iter().filter_map(Listed::read).collect())
}

async fn delete(access: &Access, ids: &[String]) -> anyhow::Result<()> {
    let client = access.admin()?.client()?;
    for text in ids {
        // Whole tokens are taken too, since that is what people have at hand.
        let id = Token::parse(text).map_or_else(|_| text.clone(), |t| t.id().to_owned());
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
            anyhow::bail!("`{text}` is neither a token nor a token's id (6 characters of a-z and 0-9)");
        }
        let path = format!("{}/{NAME_PREFIX}{id}", TokenSecret::PATH);
        client.delete(&path, &Value::Null).await.with_context(|| format!("deleting token {id}"))?;
        if access.output.format == Format::Text {
            println!("token {id} deleted");
        }
    }
    if access.output.format == Format::Json {
        output::json(&json!({ "deleted": ids.len() }))?;
    }
    Ok(())
}
