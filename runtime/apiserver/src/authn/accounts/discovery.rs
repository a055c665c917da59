//! What others need to check the cluster's tokens: who signs them, and the public keys.

use ::http::header::CACHE_CONTROL;
use ::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::Accounts;
use crate::http::body::Body;
use crate::http::respond;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

impl Accounts {
    /// Answers one of the two paths. An issuer that is no https URL has no such document, as in Kubernetes.
    pub(crate) fn document(&self, path: &str) -> Option<Response<Body>> {
        let issuer = self.issuer();
        if !issuer.starts_with("https://") || issuer.contains(['?', '#']) {
            return None;
        }
        let (media_type, document) = match path {
            CONFIGURATION => ("application/json", self.configuration()),
            KEYS => ("application/jwk-set+json", json!({"keys": self.jwks()})),
            _ => return None,
        };
        let mut response = respond::bytes(StatusCode::OK, media_type, document.to_string());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        Some(response)
    }

    fn jwks(&self) -> Vec<Value> {
        self.keys.iter().map(super::Key::to_jwk).collect()
    }

    fn configuration(&self) -> Value {
        let below = || format!("{}{KEYS}", self.issuer().trim_end_matches('/'));
        let mut algorithms: Vec<&str> = self.keys.iter().map(super::Key::signs_with).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        json!({
            "issuer": self.issuer(),
            "jwks_uri": self.config.jwks_uri.clone().unwrap_or_else(below),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }
}
