//! The registry's API, as far as pulling needs it: the OCI distribution-spec with Docker's tokens.

use std::{cell::RefCell, io::Read, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use ureq::{Body, http::Response};

use super::{Reference, RegistryError};

/// The longest manifest that is read, in bytes, as registries have it.
const LONGEST: u64 = 4 << 20;
/// Kinds of manifests that are understood.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// A connection to one repository.
pub(super) struct Client<'a> {
    agent: ureq::Agent,
    reference: &'a Reference,
    credentials: Option<(&'a str, &'a str)>,
    /// What the registry wants to see, once it has said so.
    authorization: RefCell<Option<String>>,
}

/// A manifest or an index.
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) value: Value,
}

impl<'a> Client<'a> {
    pub(super) fn new(reference: &'a Reference, credentials: Option<(&'a str, &'a str)>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("kiln-imager/", env!("CARGO_PKG_VERSION")))
            .accept_encoding(ureq::config::AutoHeaderValue::None)
            .build();
        Client { agent: config.into(), reference, credentials, authorization: RefCell::default() }
    }

    /// A manifest by tag or digest; checked against its digest.
    pub(super) fn manifest(&self, version: &str) -> Result<Manifest, RegistryError> {
        let url = format!("{}/manifests/{version}", self.reference.base());
        let response = self.get(&url)?;
        let protocol = |message: String| RegistryError::Protocol { url: url.clone(), message };
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let mut bytes = Vec::new();
        let mut body = response.into_body().into_reader().take(LONGEST + 1);
        body.read_to_end(&mut bytes).map_err(|error| unreachable(&url, &error))?;
        if bytes.len() as u64 > LONGEST {
            return Err(protocol(format!("the manifest is longer than {LONGEST} bytes")));
        }
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        if version.contains(':') && version != digest {
            return Err(RegistryError::Digest { url, expected: version.to_owned(), got: digest });
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| protocol(error.to_string()))?;
        let media_type = value["mediaType"].as_str().map_or(kind, str::to_owned);
        Ok(Manifest { digest, media_type, bytes, value })
    }

    /// A blob's bytes, unchecked.
    pub(super) fn blob(&self, digest: &str) -> Result<(String, impl Read + use<>), RegistryError> {
        let url = format!("{}/blobs/{digest}", self.reference.base());
        let body = self.get(&url)?.into_body().into_reader();
        Ok((url, body))
    }

    /// Asks for a URL, and once more with what the registry wants to see.
    fn get(&self, url: &str) -> Result<Response<Body>, RegistryError> {
        let mut response = self.send(url)?;
        if response.status().as_u16() == 401 {
            let challenges: Vec<String> = response
                .headers()
                .get_all("www-authenticate")
                .iter()
                .filter_map(|challenge| challenge.to_str().ok().map(str::to_owned))
                .collect();
            if let Some(authorization) = self.answer(&challenges)? {
                *self.authorization.borrow_mut() = Some(authorization);
                response = self.send(url)?;
            }
        }
        match response.status().as_u16() {
            200 => Ok(response),
            404 => Err(RegistryError::Missing { reference: self.reference.to_string() }),
            status @ (401 | 403) => Err(RegistryError::Refused { url: url.to_owned(), status }),
            status => Err(RegistryError::Unreachable { url: url.to_owned(), reason: format!("status {status}") }),
        }
    }

    fn send(&self, url: &str) -> Result<Response<Body>, RegistryError> {
        let mut request = self.agent.get(url).header("accept", ACCEPT);
        if let Some(authorization) = &*self.authorization.borrow() {
            request = request.header("authorization", authorization);
        }
        request.call().map_err(|error| unreachable(url, &error))
    }

    /// The answer to a registry's challenge; none if there is none.
    fn answer(&self, challenges: &[String]) -> Result<Option<String>, RegistryError> {
        let basic =
            self.credentials.map(|(name, password)| format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))));
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                return self.token(rest, basic.as_deref()).map(Some);
            }
            if scheme.eq_ignore_ascii_case("basic") {
                return Ok(basic);
            }
        }
        Ok(None)
    }

    /// A token from the place that the challenge names.
    fn token(&self, challenge: &str, basic: Option<&str>) -> Result<String, RegistryError> {
        let values = parameters(challenge);
        let of = |name: &str| values.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let realm = of("realm").unwrap_or_default().to_owned();
        let protocol = |message: String| RegistryError::Protocol { url: realm.clone(), message };
        // Credentials go to no place that could be overheard.
        if !realm.starts_with("https://") && !self.reference.base().starts_with("http://") {
            return Err(protocol("the registry wants a token to be asked for in the clear".to_owned()));
        }
        let scope = format!("repository:{}:pull", self.reference.repository);
        let mut request = self.agent.get(&realm).query("scope", of("scope").unwrap_or(&scope));
        if let Some(service) = of("service") {
            request = request.query("service", service);
        }
        if let Some(basic) = basic {
            request = request.header("authorization", basic);
        }
        let response = request.call().map_err(|error| unreachable(&realm, &error))?;
        match response.status().as_u16() {
            200 => {}
            status => return Err(RegistryError::Refused { url: realm, status }),
        }
        let mut text = Vec::new();
        let mut body = response.into_body().into_reader().take(LONGEST);
        body.read_to_end(&mut text).map_err(|error| unreachable(&realm, &error))?;
        let answer: Value = serde_json::from_slice(&text).map_err(|error| protocol(error.to_string()))?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| protocol("it gives no token".to_owned()))
    }
}

pub(super) fn unreachable(url: &str, error: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Unreachable { url: url.to_owned(), reason: error.to_string() }
}

/// `key="value"` pairs behind commas (RFC 9110, 11.2).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').map_or((after, ""), |(value, after)| (value.trim_end(), after)),
        };
        found.push((key.trim().to_ascii_lowercase(), value.to_owned()));
        rest = after.trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let text =
            r#"realm="https://auth.example/token",service="registry.example", scope="repository:a/b:pull,push",x=y"#;
        let pairs = parameters(text);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("realm", "https://auth.example/token"),
                ("service", "registry.example"),
                ("scope", "repository:a/b:pull,push"),
                ("x", "y")
            ]
        );
        assert!(parameters("nothing").is_empty());
    }
}
