//! Service accounts: of the Secrets they list, the names count.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer};

pub(crate) struct Accounts;

impl Strategy for Accounts {
    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        name_only(object);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, _old: &Value) {
        name_only(new);
    }
}

fn name_only(account: &mut Value) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten() {
        *secret = match meta::text(secret, &["name"]) {
            "" => json!({}),
            name => json!({"name": name}),
        };
    }
}
