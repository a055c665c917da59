//! Who may ask for a node's client certificate: the board that the name is bound to, and the token that is not spent.
//!
//! A name is bound on its first request by a Secret that keeps a salted hash of what the board derives from its serial, so
//! a board that is flashed anew gets its name back and a stranger does not. A token for single use is spent by the first
//! name it is used for, and serves the same board under the same name ever after.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{Status, meta, names, random};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Plugin;
use crate::authn::token::{self, field, hex};
use crate::registry::access::csr;
use crate::verbs::Cx;
use crate::verbs::store::Stored;

/// The header with the board's identity, hex.
const HEADER: &str = "kiln-node-identity";
/// Signer of nodes' client certificates.
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of other client certificates.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// The annotation that tells an agent to scrub its token.
const SINGLE_USE: &str = "kiln.dev/single-use-token";
const SECRET_TYPE: &str = "kiln.dev/node-identity";
/// How often two requests with one token may meet before one gives up.
const ATTEMPTS: usize = 3;

/// What a request takes possession of once it is stored.
pub(crate) struct Claim {
    node: String,
    /// Identity to bind the name to.
    bind: Option<String>,
    /// Id of the single-use token to spend.
    spend: Option<String>,
}

fn secret_name(node: &str) -> String {
    format!("{node}.node-identity.kiln")
}

/// Checks a certificate request before it is stored.
pub(crate) async fn check(cx: &Cx<'_>, object: &mut Value) -> Result<Option<Claim>, Status> {
    if cx.resource.group != "certificates.k8s.io" || cx.resource.plural != "certificatesigningrequests" {
        return Ok(None);
    }
    // The agent trusts this annotation, so nobody else sets it.
    if let Some(annotations) = meta::metadata_mut(object).get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(SINGLE_USE);
    }
    // What can't be read is refused by validation, which says more.
    let Ok(subject) = csr::subject(object) else { return Ok(None) };
    let signer = meta::text(object, &["spec", "signerName"]);
    let is_restricted = cx.runs(Plugin::CertificateSubjectRestriction);
    if is_restricted && signer == CLIENT && subject.organizations.iter().any(|o| o == "system:masters") {
        return Err(refuse(cx, &format!("use of {CLIENT} signer with system:masters group is not allowed")));
    }
    if signer != NODE_CLIENT {
        return Ok(None);
    }
    let Some(node) = subject.common_name.strip_prefix("system:node:").filter(|n| !n.is_empty()) else {
        return Ok(None);
    };
    if let Some(why) = names::dns1123_subdomain(&secret_name(node)).into_iter().next() {
        return Err(refuse(cx, &format!("{node:?} is no name for a node: {why}")));
    }
    // A node that shows its certificate has proved more than the header would.
    if cx.user.node_name() == Some(node) {
        return Ok(None);
    }
    let shown = shown_identity(cx)?;
    let bound = cx.server.store().read("", "secrets", token::NAMESPACE, &secret_name(node)).await?;
    if let Some(bound) = &bound {
        require_match(cx, node, shown.as_deref(), &bound.object)?;
    }
    let spend = match token::id_of(cx.user) {
        None => None,
        Some(id) => {
            let secret = token_secret(cx, id).await?;
            if is_single_use(&secret.object) {
                meta::set_annotation(object, SINGLE_USE, "true");
            }
            let fresh = require_token(cx, id, &secret.object, node, shown.is_some() && bound.is_some())?;
            fresh.then(|| id.to_owned())
        }
    };
    Ok(Some(Claim { node: node.to_owned(), bind: shown.filter(|_| bound.is_none()), spend }))
}

/// Spends the token and binds the name. Checked again, since others may have come between.
pub(crate) async fn record(cx: &Cx<'_>, claim: Claim) -> Result<(), Status> {
    if let Some(id) = &claim.spend {
        spend(cx, id, &claim.node).await?;
    }
    let Some(identity) = &claim.bind else { return Ok(()) };
    let salt: [u8; 16] = random::bytes().map_err(Status::internal)?;
    let secret = json!({
        "metadata": {"name": secret_name(&claim.node), "namespace": token::NAMESPACE},
        "type": SECRET_TYPE,
        "data": {"salt": STANDARD.encode(salt), "hash": STANDARD.encode(hash(&salt, identity))},
    });
    match cx.server.store().create("", "secrets", secret).await {
        Err(status) if status.is(Reason::AlreadyExists) => {
            let bound = cx.server.store().read("", "secrets", token::NAMESPACE, &secret_name(&claim.node)).await?;
            match bound {
                Some(bound) => require_match(cx, &claim.node, Some(identity), &bound.object),
                None => Err(Status::modified(&cx.resource.group_resource(), &claim.node)),
            }
        }
        done => done,
    }
}

async fn spend(cx: &Cx<'_>, id: &str, node: &str) -> Result<(), Status> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let secret = token_secret(cx, id).await?;
        // Spent meanwhile: only by the same name, which the identity then decides.
        if !require_token(cx, id, &secret.object, node, true)? {
            return Ok(());
        }
        let mut spent = secret.object.clone();
        meta::child(&mut spent, "data").insert("kiln-used-by".into(), STANDARD.encode(node).into());
        match cx.server.store().replace("", "secrets", &secret, &spent).await {
            Err(status) if status.is(Reason::Conflict) && attempt < ATTEMPTS => {}
            done => return done,
        }
    }
}

async fn token_secret(cx: &Cx<'_>, id: &str) -> Result<Stored, Status> {
    let found = cx.server.store().read("", "secrets", token::NAMESPACE, &token::secret_name(id)).await?;
    found.ok_or_else(|| refuse(cx, &format!("bootstrap token {id:?} no longer exists")))
}

fn is_single_use(secret: &Value) -> bool {
    field(secret, "kiln-single-use").as_deref() == Some("true")
}

/// Checks that a token may be used for this name; true if that spends it.
fn require_token(cx: &Cx<'_>, id: &str, secret: &Value, node: &str, proved: bool) -> Result<bool, Status> {
    if let Some(only) = field(secret, "kiln-node").filter(|n| !n.is_empty() && n != node) {
        return Err(refuse(
            cx,
            &format!("bootstrap token {id:?} is for node {only:?} and may not be used for {node:?}"),
        ));
    }
    if !is_single_use(secret) {
        return Ok(false);
    }
    match field(secret, "kiln-used-by").filter(|n| !n.is_empty()) {
        None => Ok(true),
        Some(used) if used == node && proved => Ok(false),
        Some(used) if used == node => {
            let why = format!(
                "bootstrap token {id:?} was used by node {used:?} and serves only the same board; create a new token"
            );
            Err(refuse(cx, &why))
        }
        Some(used) => {
            let why = format!(
                "bootstrap token {id:?} was used by node {used:?} and may not be used for {node:?}; create a new token"
            );
            Err(refuse(cx, &why))
        }
    }
}

fn require_match(cx: &Cx<'_>, node: &str, shown: Option<&str>, bound: &Value) -> Result<(), Status> {
    let bytes = |key: &str| STANDARD.decode(meta::text(bound, &["data", key])).unwrap_or_default();
    let good = shown.is_some_and(|identity| bool::from(hash(&bytes("salt"), identity).ct_eq(bytes("hash").as_slice())));
    if good && meta::text(bound, &["type"]) == SECRET_TYPE {
        return Ok(());
    }
    let why = format!(
        "node name {node:?} belongs to another board; delete Secret {}/{} to release it",
        token::NAMESPACE,
        secret_name(node)
    );
    Err(refuse(cx, &why))
}

fn hash(salt: &[u8], identity: &str) -> Vec<u8> {
    Sha256::new().chain_update(salt).chain_update(identity.as_bytes()).finalize().to_vec()
}

/// The identity in the header, in lower case; an error if there is one that is no HMAC-SHA256 in hex.
fn shown_identity(cx: &Cx<'_>) -> Result<Option<String>, Status> {
    let Some(value) = cx.headers.get(HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    if text.len() == hex(&[0; 32]).len() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Some(text));
    }
    Err(Status::bad_request("the header Kiln-Node-Identity must be 64 hex digits"))
}

fn refuse(cx: &Cx<'_>, why: &str) -> Status {
    let mut status = Status::forbidden(&cx.resource.group_resource(), "", why);
    status.message = why.to_owned();
    status
}
