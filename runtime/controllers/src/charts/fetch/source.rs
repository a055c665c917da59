//! Asks servers for files, over HTTPS or HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header};
use kiln_client::https::{Auth, Https, HttpsConfig, Trust};
use kiln_client::{Body, Transport as _, read_body};
use kiln_pki::tls::any_certificate;

use super::failed;
use crate::reconcile::Failure;

/// The largest archive or index.
const LARGEST: usize = 64 << 20;
const REDIRECTS: usize = 10;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The host and port of a URL.
pub(super) fn host(url: &str) -> Option<String> {
    Some(url.parse::<Uri>().ok()?.authority()?.to_string())
}

/// How archives are asked for.
pub(super) struct Source {
    /// The CAs that are believed, PEM; those of the system if there are none.
    pub(super) ca: String,
    /// Any certificate is believed, whatever CAs are given.
    pub(super) is_insecure: bool,
}

/// What a server is told of who asks and how.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) headers: HeaderMap,
    pub(super) auth: Auth,
}

impl Source {
    /// What is at a URL.
    pub(super) async fn get(&self, url: &str, login: &Login) -> Result<Bytes, Failure> {
        let answer = self.ask(url, login).await?;
        match answer.status() {
            status if status.is_success() => Ok(answer.into_body()),
            status => Err(failed(format!("cannot get {url}: the server answered {status}"))),
        }
    }

    /// What is answered at a URL, be it a refusal. The login goes to where it is meant for alone, not to where that leads.
    pub(super) async fn ask(&self, url: &str, login: &Login) -> Result<Response<Bytes>, Failure> {
        tokio::time::timeout(PATIENCE, self.follow(url, login))
            .await
            .unwrap_or_else(|_| Err(failed(format!("no answer from {url} in time"))))
    }

    async fn follow(&self, url: &str, login: &Login) -> Result<Response<Bytes>, Failure> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let told = |what: String| failed(format!("cannot get {at}: {what}"));
            let uri: Uri = at.parse().map_err(|error| told(format!("{error}")))?;
            let login = if host(&at) == host(url) { login.clone() } else { Login::default() };
            let answer = self.send(&uri, login).await.map_err(|failure| told(failure.to_string()))?;
            let next = answer.headers().get(header::LOCATION).and_then(|next| next.to_str().ok());
            if let Some(next) = next.filter(|_| answer.status().is_redirection()) {
                let next = match next.starts_with('/') {
                    true => {
                        format!("{}://{}{next}", uri.scheme_str().unwrap_or("https"), host(&at).unwrap_or_default())
                    }
                    false => next.to_owned(),
                };
                if uri.scheme_str() == Some("https") && !next.starts_with("https://") {
                    return Err(told(format!("it leads to {next}, where anybody could listen")));
                }
                at = next;
                continue;
            }
            let (parts, body) = answer.into_parts();
            let body = read_body(body, LARGEST).await.map_err(|error| told(error.to_string()))?;
            return Ok(Response::from_parts(parts, body));
        }
        Err(failed(format!("cannot get {url}: it leads on and on")))
    }

    /// What is believed in place of CAs, if a user says so.
    fn trust(&self) -> Result<Option<Trust>, Failure> {
        if !self.is_insecure {
            return Ok(None);
        }
        let any = any_certificate(Arc::new(rustls::crypto::ring::default_provider()));
        any.map(|any| Some(Trust(any))).map_err(|error| failed(error.to_string()))
    }

    async fn send(&self, uri: &Uri, login: Login) -> Result<Response<Body>, Failure> {
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(failed("it is neither https nor http")),
        };
        let trust = self.trust()?;
        let ca_pem = if plain || trust.is_some() || !self.ca.is_empty() {
            self.ca.clone()
        } else {
            let bundle = kiln_pki::files::system_cas().and_then(|pem| String::from_utf8(pem).ok());
            bundle.ok_or_else(|| failed("this system has no CAs that it believes; give `repoCA`"))?
        };
        let scheme = if plain { "http" } else { "https" };
        let server = format!("{scheme}://{}", uri.authority().map_or("", |authority| authority.as_str()));
        let Login { headers, auth } = login;
        let https = Https::new(HttpsConfig { server, plain, ca_pem, trust, auth, headers, ..HttpsConfig::default() })?;
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str())).body(Bytes::new());
        Ok(https.send(request.map_err(|error| failed(error.to_string()))?).await?)
    }
}
