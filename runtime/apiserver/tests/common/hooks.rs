//! A webhook on the loopback, whose answers a test gives.
#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses its own part of these, and may unwrap")]

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Answer = dyn Fn(&mut Value) -> (u16, Bytes) + Send + Sync;

/// A webhook that is served.
pub(crate) struct Hook {
    port: u16,
    ca: String,
    /// The reviews that came, in their order.
    pub(crate) seen: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    /// Serves until the test ends. `answer` makes the `response` of a review.
    pub(crate) async fn serve(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let whole = move |review: &mut Value| {
            let mut response = answer(review);
            if response.get("uid").is_none() {
                response["uid"] = review["request"]["uid"].clone();
            }
            let mut told = review.clone();
            told.as_object_mut().unwrap().remove("request");
            told["response"] = response;
            (200, Bytes::from(told.to_string()))
        };
        Self::raw(2100, whole).await
    }

    /// One whose certificate ends with a year, and whose `answer` is code and body.
    pub(crate) async fn raw(year: i32, answer: impl Fn(&mut Value) -> (u16, Bytes) + Send + Sync + 'static) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        tokio::spawn({
            let seen = seen.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (acceptor, answer, seen) = (acceptor.clone(), answer.clone(), seen.clone());
                    tokio::spawn(async move {
                        // A client that does not trust the webhook goes away.
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                            let (answer, seen) = (answer.clone(), seen.clone());
                            async move {
                                let body = request.into_body().collect().await.unwrap().to_bytes();
                                let mut review: Value = serde_json::from_slice(&body).unwrap();
                                let (code, body) = answer(&mut review);
                                seen.lock().unwrap().push(review["request"].take());
                                let response = Response::builder().status(code).body(Full::new(body));
                                Ok::<_, std::convert::Infallible>(response.unwrap())
                            }
                        });
                        let served = hyper::server::conn::http1::Builder::new();
                        // The end of a connection is the client's affair.
                        drop(served.serve_connection(TokioIo::new(stream), service).await);
                    });
                }
            }
        });
        Self { port, ca: STANDARD.encode(cert.pem()), seen }
    }

    /// Its `clientConfig`.
    pub(crate) fn client(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/hook", self.port), "caBundle": self.ca})
    }
}

/// The response that lets a request pass with a patch.
pub(crate) fn patched(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}
