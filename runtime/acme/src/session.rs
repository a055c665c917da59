//! An account's requests to a server: signed, each with a nonce, and followed to wherever the server leads (RFC 8555, 6 and 7.1 to 7.3).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, header};
use kiln_client::https::{Https, HttpsConfig};
use kiln_client::{BoxError, ClientError, Clock, Transport as _, read_body};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{AccountKey, AcmeError, Problem};

/// The most bytes of an answer.
const LARGEST: usize = 1 << 20;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How often a request is made whose nonce the server does not take.
const NONCES: usize = 4;
/// How long to wait for something that is under way, unless the server says how long, and at least.
const PAUSE: Duration = Duration::from_secs(2);
const LEAST: Duration = Duration::from_secs(1);
/// How long something may be under way.
const PATIENCE: Duration = Duration::from_secs(120);

/// An ACME server, and what it is told of the account.
#[derive(Debug, Clone)]
pub struct Server {
    /// The URL of its directory.
    pub directory: String,
    /// The only CAs that are believed, PEM; empty for those of the system.
    pub ca_pem: String,
    /// Whom the server writes to about the account.
    pub email: Option<String>,
}

/// Where the server has what.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    #[serde(default)]
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    external_account_required: bool,
}

/// Something at a server that changes its state.
pub(crate) trait Standing: DeserializeOwned + Send {
    /// The state's name.
    fn status(&self) -> &str;
}

/// An account at a server.
pub struct Session {
    pub(crate) key: AccountKey,
    ca_pem: String,
    clock: Clock,
    /// Connections by `host:port`.
    links: HashMap<String, Https>,
    directory: Directory,
    /// The account's URL; none until it is known.
    account: Option<String>,
    /// What the next request may be signed with.
    nonce: Option<String>,
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) location: Option<String>,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, AcmeError> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|error| AcmeError::Answer { url: self.url.clone(), why: error.to_string() })
    }

    pub(crate) fn text(self) -> Result<String, AcmeError> {
        let text = String::from_utf8(self.body.into());
        text.map_err(|error| AcmeError::Answer { url: self.url, why: error.to_string() })
    }
}

impl Session {
    /// Opens the account of a key, which is made if there is none yet; the server's terms are agreed to.
    ///
    /// # Errors
    /// [`AcmeError`]: the server can't be reached or refuses the account.
    pub async fn open(server: &Server, key: AccountKey, clock: &Clock) -> Result<Self, AcmeError> {
        let ca_pem = if server.ca_pem.is_empty() {
            let bundle = kiln_pki::files::system_cas().and_then(|pem| String::from_utf8(pem).ok());
            bundle.ok_or_else(|| ClientError::Config("this system has no CAs that it believes".to_owned()))?
        } else {
            server.ca_pem.clone()
        };
        let mut session = Self {
            key,
            ca_pem,
            clock: clock.clone(),
            links: HashMap::new(),
            directory: Directory::default(),
            account: None,
            nonce: None,
        };
        session.directory = session.get(&server.directory).await?.read()?;
        if session.directory.meta.external_account_required {
            return Err(AcmeError::ExternalAccount);
        }
        let contact: Vec<String> = server.email.iter().map(|email| format!("mailto:{email}")).collect();
        let account = json!({"termsOfServiceAgreed": true, "contact": contact});
        let url = session.directory.new_account.clone();
        let answer = session.post(&url, &account).await?;
        let missing = || AcmeError::Answer { url, why: "it names no account".to_owned() };
        session.account = Some(answer.location.ok_or_else(missing)?);
        Ok(session)
    }

    /// Where orders are made.
    pub(crate) fn orders(&self) -> String {
        self.directory.new_order.clone()
    }

    async fn get(&mut self, url: &str) -> Result<Answer, AcmeError> {
        let answer = self.send(Method::GET, url, String::new()).await?;
        self.accepted(url, answer)
    }

    /// Sends an object, signed.
    pub(crate) async fn post(&mut self, url: &str, object: &Value) -> Result<Answer, AcmeError> {
        self.signed(url, object.to_string()).await
    }

    /// What is at a URL (RFC 8555, 6.3).
    pub(crate) async fn fetch(&mut self, url: &str) -> Result<Answer, AcmeError> {
        self.signed(url, String::new()).await
    }

    /// What is at a URL, once it is in none of these states.
    pub(crate) async fn settled<T: Standing>(&mut self, url: &str, under_way: [&str; 2]) -> Result<T, AcmeError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.fetch(url).await?;
            let found: T = answer.read()?;
            if !under_way.contains(&found.status()) {
                return Ok(found);
            }
            let next = Instant::now() + answer.retry_after.unwrap_or(PAUSE).max(LEAST);
            if next > end {
                return Err(AcmeError::Slow(url.to_owned()));
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// Sends a payload, signed; again with another nonce where the server does not take the first (RFC 8555, 6.5).
    async fn signed(&mut self, url: &str, payload: String) -> Result<Answer, AcmeError> {
        let mut tries = 0;
        loop {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce().await?,
            };
            let mut header = json!({"alg": "ES256", "nonce": nonce, "url": url});
            match &self.account {
                Some(account) => header["kid"] = json!(account),
                None => header["jwk"] = self.key.jwk(),
            }
            let body = self.key.sign(&header, &payload)?;
            let answer = self.send(Method::POST, url, body).await?;
            tries += 1;
            match self.accepted(url, answer) {
                // The refusal has brought a nonce that is good.
                Err(AcmeError::Refused { problem, .. }) if problem.is("badNonce") && tries < NONCES => {}
                done => return done,
            }
        }
    }

    async fn new_nonce(&mut self) -> Result<String, AcmeError> {
        let url = self.directory.new_nonce.clone();
        let answer = self.send(Method::HEAD, &url, String::new()).await?;
        self.accepted(&url, answer)?;
        self.nonce.take().ok_or_else(|| AcmeError::Answer { url, why: "it brings no nonce".to_owned() })
    }

    /// The answer, if it is none that refuses.
    fn accepted(&self, url: &str, answer: Response<Bytes>) -> Result<Answer, AcmeError> {
        let (parts, body) = answer.into_parts();
        let retry_after = self.retry_after(&parts.headers);
        if !parts.status.is_success() {
            return Err(AcmeError::Refused { problem: Problem::read(parts.status, &body), retry_after });
        }
        let location = text(&parts.headers, header::LOCATION.as_str()).map(str::to_owned);
        Ok(Answer { url: url.to_owned(), location, retry_after, body })
    }

    /// How long the server wants to be left alone: seconds, or a time of day.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = text(headers, header::RETRY_AFTER.as_str())?;
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        // One that is over is no wait.
        Some(Duration::try_from(time.duration_since(self.clock.now())).unwrap_or_default())
    }

    /// Sends a request and keeps the nonce that the answer brings.
    async fn send(&mut self, method: Method, url: &str, body: String) -> Result<Response<Bytes>, AcmeError> {
        let mut request = Request::builder().method(method).uri(url);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/jose+json");
        }
        let request = request.body(Bytes::from(body)).map_err(|_| AcmeError::Url(url.to_owned()))?;
        let exchange = exchange(self.link(url)?, url, request);
        let answer = tokio::time::timeout(ANSWER, exchange).await.map_err(|_| AcmeError::Slow(url.to_owned()))??;
        if let Some(nonce) = text(answer.headers(), "replay-nonce") {
            self.nonce = Some(nonce.to_owned());
        }
        Ok(answer)
    }

    /// The connections to the server of a URL.
    fn link(&mut self, url: &str) -> Result<Https, AcmeError> {
        let wrong = || AcmeError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
        if let Some(known) = self.links.get(authority.as_str()) {
            return Ok(known.clone());
        }
        let server = format!("https://{authority}");
        let https = Https::new(HttpsConfig { server, ca_pem: self.ca_pem.clone(), ..HttpsConfig::default() })?;
        self.links.insert(authority.to_string(), https.clone());
        Ok(https)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("account", &self.account).finish_non_exhaustive()
    }
}

/// The whole answer to a request.
async fn exchange(link: Https, url: &str, request: Request<Bytes>) -> Result<Response<Bytes>, AcmeError> {
    let (parts, body) = link.send(request).await?.into_parts();
    let whole = read_body(body, LARGEST).await;
    let unusable = |error: BoxError| AcmeError::Answer { url: url.to_owned(), why: error.to_string() };
    Ok(Response::from_parts(parts, whole.map_err(unusable)?))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
