//! Credentials of container registries, as Docker writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Name and password of an entry of `auths` in Docker's `config.json`: two fields, or one text for both.
pub fn registry_login(entry: &Value) -> (String, String) {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((name, password)) => (name.to_owned(), password.to_owned()),
        None => (text("username"), text("password")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_password_may_stand_in_one_text() {
        let pair = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        let both = serde_json::json!({"auth": STANDARD.encode("me:se:cret"), "username": "you"});
        assert_eq!(registry_login(&both), pair("me", "se:cret"));
        assert_eq!(registry_login(&serde_json::json!({"username": "you", "password": "p"})), pair("you", "p"));
    }
}
