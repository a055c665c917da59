//! From names to a certificate: the order, the proofs, and the end (RFC 8555, 7.4 and 7.5).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::error::Identifier;
use crate::key::encoded;
use crate::session::Standing;
use crate::{AcmeError, Problem, Session, marks};

/// What is asked for, and how it stands.
#[derive(Debug)]
pub struct Order {
    url: String,
    /// Where the request for the certificate goes.
    finalize: String,
    /// Names that are to be proven yet.
    proofs: Vec<Proof>,
    answers: BTreeMap<String, String>,
}

/// A name that is to be proven.
#[derive(Debug)]
struct Proof {
    name: String,
    authorization: String,
    challenge: String,
}

#[derive(Deserialize)]
struct OrderObject {
    status: String,
    finalize: String,
    #[serde(default)]
    authorizations: Vec<String>,
    certificate: Option<String>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Authorization {
    status: String,
    identifier: Identifier,
    #[serde(default)]
    challenges: Vec<Challenge>,
}

#[derive(Deserialize)]
struct Challenge {
    #[serde(rename = "type")]
    kind: String,
    url: String,
    #[serde(default)]
    token: String,
    error: Option<Problem>,
}

impl Standing for OrderObject {
    fn status(&self) -> &str {
        &self.status
    }
}

impl Standing for Authorization {
    fn status(&self) -> &str {
        &self.status
    }
}

impl Order {
    /// What each of the names is to answer, by the tokens.
    pub fn answers(&self) -> &BTreeMap<String, String> {
        &self.answers
    }
}

impl Session {
    /// Orders a certificate.
    ///
    /// # Errors
    /// [`AcmeError`]: the server refuses a name, or would have it proven in another way than over HTTP.
    pub async fn order(&mut self, names: &[String]) -> Result<Order, AcmeError> {
        let identifiers: Vec<_> = names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let answer = self.post(&self.orders(), &json!({"identifiers": identifiers})).await?;
        let missing = || AcmeError::Answer { url: answer.url.clone(), why: "it names no order".to_owned() };
        let url = answer.location.clone().ok_or_else(missing)?;
        let object: OrderObject = answer.read()?;
        let mut order = Order { url, finalize: object.finalize, proofs: Vec::new(), answers: BTreeMap::new() };
        for authorization in object.authorizations {
            let found: Authorization = self.fetch(&authorization).await?.read()?;
            let name = found.identifier.value;
            if found.status == "valid" {
                continue;
            }
            let over_http = found.challenges.into_iter().find(|challenge| challenge.kind == "http-01");
            let challenge = over_http.filter(|challenge| marks::is_token(&challenge.token)).ok_or_else(|| {
                let why = format!("{name} can't be proven over HTTP, or its token is none");
                AcmeError::Answer { url: authorization.clone(), why }
            })?;
            let answer = self.key.authorization(&challenge.token);
            order.answers.insert(challenge.token, answer);
            order.proofs.push(Proof { name, authorization, challenge: challenge.url });
        }
        Ok(order)
    }

    /// Has the server look at each name, where the answers are served by now.
    ///
    /// # Errors
    /// [`AcmeError::Unproven`] with what the server found, or another failure.
    pub async fn prove(&mut self, order: &Order) -> Result<(), AcmeError> {
        for Proof { challenge, .. } in &order.proofs {
            self.post(challenge, &json!({})).await?;
        }
        for Proof { name, authorization, .. } in &order.proofs {
            let found: Authorization = self.settled(authorization, ["pending", "processing"]).await?;
            if found.status != "valid" {
                let problem = found.challenges.into_iter().find_map(|challenge| challenge.error);
                return Err(AcmeError::Unproven { name: name.clone(), problem: problem.unwrap_or_default() });
            }
        }
        Ok(())
    }

    /// Has the certificate signed; answers it with those between it and the CA, PEM. `request` is PKCS#10, DER.
    ///
    /// # Errors
    /// [`AcmeError`]: the server refuses the request.
    pub async fn certificate(&mut self, order: Order, request: &[u8]) -> Result<String, AcmeError> {
        let failed =
            |found: OrderObject| AcmeError::Refused { problem: found.error.unwrap_or_default(), retry_after: None };
        let found: OrderObject = self.settled(&order.url, ["pending", "processing"]).await?;
        if found.status != "ready" {
            return Err(failed(found));
        }
        self.post(&order.finalize, &json!({"csr": encoded(request)})).await?;
        let found: OrderObject = self.settled(&order.url, ["ready", "processing"]).await?;
        match found.certificate {
            Some(url) if found.status == "valid" => self.fetch(&url).await?.text(),
            _ => Err(failed(found)),
        }
    }
}
