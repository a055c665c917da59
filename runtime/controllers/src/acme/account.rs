//! The key of the account, in a Secret.

use k8s_openapi::api::core::v1::Secret;
use kiln_acme::{AccountKey, AcmeError};
use kiln_client::path;
use kiln_pki::PrivateKey;
use serde_json::json;

use super::{Controller, Trouble, encode};
use crate::reconcile::Failure;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kiln-acme-account";
const KEY: &str = "key.pem";

impl Controller {
    /// The account's key, which is made if there is none.
    pub(super) async fn account_key(&self) -> Result<AccountKey, Trouble> {
        let at = path::<Secret>(NAMESPACE, NAME);
        let secret = match self.client.find::<Secret>(&at).await.map_err(Failure::from)? {
            Some(secret) => secret,
            None => {
                let key = PrivateKey::generate().map_err(Failure::from)?.to_pem();
                let secret = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "type": "Opaque",
                    "metadata": {"name": NAME},
                    "data": {KEY: encode(&key)},
                });
                match self.client.create::<Secret>(&path::<Secret>(NAMESPACE, ""), &secret).await {
                    // Another server was faster.
                    Err(error) if error.is_already_exists() => self.client.get(&at).await.map_err(Failure::from)?,
                    made => made.map_err(Failure::from)?,
                }
            }
        };
        let pem = secret.data.as_ref().and_then(|data| std::str::from_utf8(&data.get(KEY)?.0).ok());
        let missing = || AcmeError::Key(format!("the Secret {NAMESPACE}/{NAME} has no {KEY}"));
        Ok(AccountKey::from_pem(pem.ok_or_else(missing)?)?)
    }
}
