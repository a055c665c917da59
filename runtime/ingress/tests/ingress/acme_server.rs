//! An ACME server (RFC 8555) that takes nothing on trust: signatures, nonces and URLs are verified, and names by what is served there.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kiln_client::Clock;
use kiln_controllers::acme::Server;
use kiln_pki::Authority;
use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::Reply;

/// How long certificates are valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3_600);

/// A code, headers and a body.
type Answer = (u16, Vec<(&'static str, String)>, String);

/// A refusal: its kind and why.
struct Fault(&'static str, String);

/// The server. Cloning it gives another handle of the same.
#[derive(Clone)]
pub(crate) struct AcmeServer {
    url: String,
    authority: Arc<Authority>,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Where all names lead.
    names_at: SocketAddr,
    nonces: HashSet<String>,
    given: usize,
    /// So many nonces are yet to be refused.
    refused: usize,
    /// Coordinates of their keys.
    accounts: Vec<[String; 2]>,
    proofs: Vec<Proof>,
    orders: Vec<Order>,
}

struct Proof {
    name: String,
    token: String,
    status: &'static str,
    error: Value,
}

struct Order {
    proofs: Vec<usize>,
    chain: Option<String>,
}

fn decoded(value: &Value) -> Result<Vec<u8>, Fault> {
    let text = value.as_str().ok_or_else(|| Fault("malformed", "a part lacks".to_owned()))?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| Fault("malformed", error.to_string()))
}

fn parsed(bytes: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault("malformed", error.to_string()))
}

fn point(jwk: &Value) -> [String; 2] {
    ["x", "y"].map(|name| jwk[name].as_str().unwrap_or_default().to_owned())
}

impl AcmeServer {
    /// A server to whom all names lead to an address.
    pub(crate) async fn start(names_at: SocketAddr, clock: Clock) -> Self {
        let authority = Authority::create(SystemTime::now()).unwrap();
        let issued = authority.issue_server("acme", &["127.0.0.1".to_owned()], SystemTime::now()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls.with_no_client_auth().with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let state = State {
            names_at,
            nonces: HashSet::new(),
            given: 0,
            refused: 0,
            accounts: Vec::new(),
            proofs: Vec::new(),
            orders: Vec::new(),
        };
        let server = Self { url, authority: Arc::new(authority), clock, state: Arc::new(Mutex::new(state)) };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = service_fn(|request| server.clone().serve(request));
                    // The end of a connection is the client's affair.
                    _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        server
    }

    /// As the controller is told of it.
    pub(crate) fn config(&self) -> Server {
        Server {
            directory: format!("{}/directory", self.url),
            ca_pem: self.authority.certificate_pem().to_owned(),
            email: Some("me@example.org".to_owned()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Has all names lead to another address.
    pub(crate) fn lead_to(&self, address: SocketAddr) {
        self.state().names_at = address;
    }

    /// Refuses so many nonces; answers how many were yet to be.
    pub(crate) fn refuse_nonces(&self, count: usize) -> usize {
        std::mem::replace(&mut self.state().refused, count)
    }

    /// How many accounts there are, and orders.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.accounts.len(), state.orders.len())
    }

    fn nonce(&self) -> String {
        let mut state = self.state();
        state.given += 1;
        let nonce = format!("nonce{}", state.given);
        state.nonces.insert(nonce.clone());
        nonce
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let is_jose = parts.headers.get("content-type").is_some_and(|kind| kind == "application/jose+json");
        let answer = match (parts.method, path.as_str()) {
            (Method::GET, "/directory") => Ok((200, Vec::new(), self.directory())),
            (Method::HEAD, "/nonce") => Ok((200, Vec::new(), String::new())),
            (Method::POST, path) if is_jose => self.post(path, &body).await,
            _ => Err(Fault("malformed", format!("nothing is at {path}"))),
        };
        let (code, headers, body) = answer.unwrap_or_else(|Fault(kind, detail)| {
            let problem = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail});
            (400, Vec::new(), problem.to_string())
        });
        let mut response = Response::builder().status(code).header("replay-nonce", self.nonce());
        for (name, value) in headers {
            response = response.header(name, value);
        }
        Ok(response.body(Full::from(body)).unwrap())
    }

    fn directory(&self) -> String {
        let at = |path: &str| format!("{}/{path}", self.url);
        json!({"newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order")}).to_string()
    }

    /// The number of the account that signed a request, and the payload.
    fn verified(&self, path: &str, body: &[u8]) -> Result<(usize, Vec<u8>), Fault> {
        let jws = parsed(body)?;
        let (header, payload) = (parsed(&decoded(&jws["protected"])?)?, decoded(&jws["payload"])?);
        let mut state = self.state();
        let is_known = state.nonces.remove(header["nonce"].as_str().unwrap_or_default());
        if !is_known || state.refused > 0 {
            state.refused = state.refused.saturating_sub(1);
            return Err(Fault("badNonce", "this nonce is none".to_owned()));
        }
        if header["url"] != json!(format!("{}{path}", self.url)) || header["alg"] != "ES256" {
            return Err(Fault("malformed", format!("the header {header} is not of {path}")));
        }
        let account = match header["kid"].as_str() {
            Some(kid) => {
                let number = kid.strip_prefix(&format!("{}/account/", self.url)).and_then(|text| text.parse().ok());
                number.filter(|number| *number < state.accounts.len())
            }
            None if path == "/account" => {
                let key = point(&header["jwk"]);
                let known = state.accounts.iter().position(|known| *known == key);
                Some(known.unwrap_or_else(|| {
                    state.accounts.push(key);
                    state.accounts.len() - 1
                }))
            }
            None => None,
        };
        let account = account.ok_or_else(|| Fault("accountDoesNotExist", format!("no account in {header}")))?;
        let [x, y] = &state.accounts[account];
        let key = [vec![4], decoded(&json!(x))?, decoded(&json!(y))?].concat();
        let signed = [&jws["protected"], &jws["payload"]].map(|part| part.as_str().unwrap_or_default()).join(".");
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
        let verified = key.verify(signed.as_bytes(), &decoded(&jws["signature"])?);
        verified.map_err(|_| Fault("unauthorized", "the signature is wrong".to_owned()))?;
        Ok((account, payload))
    }

    async fn post(&self, path: &str, body: &[u8]) -> Result<Answer, Fault> {
        let (account, payload) = self.verified(path, body)?;
        let (kind, number) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let number: usize = number.parse().unwrap_or_default();
        let at = |kind: &str, number: usize| format!("{}/{kind}/{number}", self.url);
        match kind {
            "account" => {
                let asked = parsed(&payload)?;
                if asked["termsOfServiceAgreed"] != true || asked["contact"] != json!(["mailto:me@example.org"]) {
                    return Err(Fault("userActionRequired", asked.to_string()));
                }
                Ok((201, vec![("location", at("account", account))], json!({"status": "valid"}).to_string()))
            }
            "order" if path == "/order" => {
                let asked = parsed(&payload)?;
                let names = asked["identifiers"].as_array().into_iter().flatten();
                let names: Vec<String> =
                    names.map(|name| name["value"].as_str().unwrap_or_default().to_owned()).collect();
                let number = self.state().order(names);
                Ok((201, vec![("location", at("order", number))], self.order(number)))
            }
            "order" => Ok((200, Vec::new(), self.order(number))),
            "proof" => Ok((200, Vec::new(), self.proof(number))),
            "challenge" => {
                self.look(number, account).await;
                Ok((200, Vec::new(), json!({"status": "processing"}).to_string()))
            }
            "finalize" => {
                self.finalize(number, &decoded(&parsed(&payload)?["csr"])?)?;
                Ok((200, Vec::new(), self.order(number)))
            }
            "certificate" => Ok((200, Vec::new(), self.state().orders[number].chain.clone().unwrap_or_default())),
            _ => Err(Fault("malformed", format!("nothing is at {path}"))),
        }
    }

    fn order(&self, number: usize) -> String {
        let state = self.state();
        let order = &state.orders[number];
        let has = |status: &str| order.proofs.iter().any(|proof| state.proofs[*proof].status == status);
        let status = match &order.chain {
            Some(_) => "valid",
            None if has("invalid") => "invalid",
            None if has("pending") => "pending",
            None => "ready",
        };
        let at = |kind: &str, number: usize| format!("{}/{kind}/{number}", self.url);
        json!({
            "status": status,
            "authorizations": order.proofs.iter().map(|proof| at("proof", *proof)).collect::<Vec<_>>(),
            "finalize": at("finalize", number),
            "certificate": order.chain.is_some().then(|| at("certificate", number)),
        })
        .to_string()
    }

    fn proof(&self, number: usize) -> String {
        let state = self.state();
        let Proof { name, token, status, error } = &state.proofs[number];
        let url = format!("{}/challenge/{number}", self.url);
        let over_http = json!({"type": "http-01", "url": url, "token": token, "status": status, "error": error});
        let over_dns = json!({"type": "dns-01", "url": "https://127.0.0.1/", "token": "other", "status": "pending"});
        let identifier = json!({"type": "dns", "value": name});
        json!({"status": status, "identifier": identifier, "challenges": [over_dns, over_http]}).to_string()
    }

    /// Looks for the proof of a name.
    async fn look(&self, number: usize, account: usize) {
        let (address, name, token, [x, y]) = {
            let state = self.state();
            let Proof { name, token, .. } = &state.proofs[number];
            (state.names_at, name.clone(), token.clone(), state.accounts[account].clone())
        };
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let expected = format!("{token}.{}", BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes())));
        let found = served(address, &name, &format!("/.well-known/acme-challenge/{token}")).await;
        let (status, error) = match found {
            Ok(text) if text == expected => ("valid", Value::Null),
            Ok(text) => ("invalid", json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": text})),
            Err(error) => ("invalid", json!({"type": "urn:ietf:params:acme:error:connection", "detail": error})),
        };
        let mut state = self.state();
        (state.proofs[number].status, state.proofs[number].error) = (status, error);
    }

    fn finalize(&self, number: usize, request: &[u8]) -> Result<(), Fault> {
        let mut state = self.state();
        let State { orders, proofs, .. } = &mut *state;
        let proofs: Vec<&Proof> = orders[number].proofs.iter().map(|proof| &proofs[*proof]).collect();
        if proofs.iter().any(|proof| proof.status != "valid") {
            return Err(Fault("orderNotReady", "not all names are proven".to_owned()));
        }
        let wrong = |error: String| Fault("badCSR", error);
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request.to_vec()));
        let mut request = request.map_err(|error| wrong(error.to_string()))?;
        let asked: HashSet<String> = request.params.subject_alt_names.iter().map(|name| format!("{name:?}")).collect();
        let is_proven = |name: &String| proofs.iter().any(|proof| name.contains(&format!("\"{}\"", proof.name)));
        if asked.len() != proofs.len() || !asked.iter().all(is_proven) {
            return Err(wrong(format!("{asked:?} are not the names of the order")));
        }
        let now = Duration::from_secs(u64::try_from(self.clock.now().as_second()).unwrap());
        request.params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now;
        request.params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + LIFETIME;
        let key = KeyPair::from_pem(&self.authority.key_pem()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(self.authority.certificate_pem(), key).unwrap();
        let certificate = request.signed_by(&issuer).unwrap().pem();
        orders[number].chain = Some(certificate + self.authority.certificate_pem());
        Ok(())
    }
}

impl State {
    /// Adds an order; answers its number.
    fn order(&mut self, names: Vec<String>) -> usize {
        let first = self.proofs.len();
        for name in names {
            let token = format!("token_{}-{}", self.orders.len(), self.proofs.len());
            self.proofs.push(Proof { name, token, status: "pending", error: Value::Null });
        }
        self.orders.push(Order { proofs: (first..self.proofs.len()).collect(), chain: None });
        self.orders.len() - 1
    }
}

/// What is served at an address for a host, without TLS.
async fn served(address: SocketAddr, host: &str, path: &str) -> Result<String, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", host).body(Full::<Bytes>::default()).unwrap();
    let reply = Reply::read(sender.send_request(request).await.map_err(|error| error.to_string())?).await;
    if reply.status.is_success() { Ok(reply.text) } else { Err(reply.text) }
}
