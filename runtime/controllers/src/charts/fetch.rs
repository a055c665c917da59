//! Gets the archive of a chart: from the HelmChart itself, or over HTTPS or HTTP from a URL or a repository.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kiln_charts::repository;
use kiln_client::https::{Https, HttpsConfig};
use kiln_client::{Body, Transport as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::Controller;
use super::spec::Chart;
use crate::reconcile::Failure;

/// The largest archive or index.
const LARGEST: usize = 64 << 20;
const REDIRECTS: usize = 10;
/// How long one answer may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
/// Where systems keep the CAs that they believe.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

fn failed(what: impl Into<String>) -> Failure {
    Failure::Waiting(what.into())
}

impl Controller {
    /// The chart's archive.
    pub(super) async fn archive(&self, chart: &Chart) -> Result<Bytes, Failure> {
        let spec = &chart.spec;
        if !spec.chart_content.is_empty() {
            let packed: String = spec.chart_content.split_whitespace().collect();
            let bytes = BASE64_STANDARD.decode(packed).map_err(|error| failed(format!("chartContent: {error}")))?;
            return Ok(bytes.into());
        }
        let source = Source { ca: spec.repo_ca.clone(), headers: self.headers(chart).await? };
        let is_url = spec.chart.starts_with("https://") || spec.chart.starts_with("http://");
        if is_url {
            return source.get(&spec.chart, true).await;
        }
        if spec.repo.is_empty() || spec.chart.contains("://") {
            let what = "charts come from an https or http URL, from a repository with `repo`, or from `chartContent`";
            return Err(failed(format!("cannot get the chart {:?}: {what}", spec.chart)));
        }
        let index = source.get(&format!("{}/index.yaml", spec.repo.trim_end_matches('/')), true).await?;
        let index = String::from_utf8_lossy(&index).into_owned();
        // Large, and the words of it are read one by one.
        let (repo, name, version) = (spec.repo.clone(), spec.chart.clone(), spec.version.clone());
        let finding = tokio::task::spawn_blocking(move || repository::find(&index, &repo, &name, &version));
        let url =
            finding.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        source.get(&url, host(&url) == host(&spec.repo)).await
    }

    /// What a repository is told of who asks.
    async fn headers(&self, chart: &Chart) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if chart.spec.auth_secret.is_empty() {
            return Ok(headers);
        }
        let path = format!("/api/v1/namespaces/{}/secrets/{}", chart.metadata.namespace, chart.spec.auth_secret);
        let secret = self.client.get::<Value>(&path).await?;
        let part = |key: &str| {
            let bytes = secret["data"][key].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let basic = BASE64_STANDARD.encode(format!("{}:{}", part("username"), part("password")));
        if let Ok(mut value) = HeaderValue::try_from(format!("Basic {basic}")) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

fn host(url: &str) -> Option<String> {
    Some(url.parse::<Uri>().ok()?.authority()?.to_string())
}

/// How archives are asked for.
struct Source {
    /// The CAs that are believed, PEM; those of the system if there are none.
    ca: String,
    headers: HeaderMap,
}

impl Source {
    /// What is at a URL. The headers go to where they are meant for alone.
    async fn get(&self, url: &str, with_headers: bool) -> Result<Bytes, Failure> {
        let getting = self.follow(url, with_headers);
        tokio::time::timeout(PATIENCE, getting)
            .await
            .unwrap_or_else(|_| Err(failed(format!("no answer from {url} in time"))))
    }

    async fn follow(&self, url: &str, with_headers: bool) -> Result<Bytes, Failure> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let told = |what: String| failed(format!("cannot get {at}: {what}"));
            let uri: Uri = at.parse().map_err(|error| told(format!("{error}")))?;
            let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()));
            if let Some(headers) = request.headers_mut() {
                if with_headers && host(&at) == host(url) {
                    headers.extend(self.headers.clone());
                }
                headers
                    .insert(header::USER_AGENT, HeaderValue::from_static(concat!("kiln/", env!("CARGO_PKG_VERSION"))));
            }
            let request = request.body(Bytes::new()).map_err(|error| told(error.to_string()))?;
            let (answer, _connection) = match uri.scheme_str() {
                Some("https") => (self.secure(&uri, request).await?, None),
                Some("http") => {
                    let (answer, connection) = plain(&uri, request).await.map_err(told)?;
                    (answer, Some(connection))
                }
                _ => return Err(told("it is neither https nor http".to_owned())),
            };
            let status = answer.status();
            let next = answer.headers().get(header::LOCATION).and_then(|next| next.to_str().ok());
            if let Some(next) = next.filter(|_| status.is_redirection()) {
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
            if !status.is_success() {
                return Err(told(format!("the server answered {status}")));
            }
            return read(answer.into_body()).await.map_err(told);
        }
        Err(failed(format!("cannot get {url}: it leads on and on")))
    }

    async fn secure(&self, uri: &Uri, request: Request<Bytes>) -> Result<Response<Body>, Failure> {
        let ca_pem = if self.ca.is_empty() {
            let bundle = BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok());
            bundle.ok_or_else(|| failed("this system has no CAs that it believes; give `repoCA`"))?
        } else {
            self.ca.clone()
        };
        let server = format!("https://{}", uri.authority().map_or("", |authority| authority.as_str()));
        let https = Https::new(HttpsConfig { server, ca_pem, ..HttpsConfig::default() })?;
        Ok(https.send(request).await?)
    }
}

/// All of a body, if it is not too large.
async fn read(mut body: Body) -> Result<Bytes, String> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            all.extend_from_slice(&data);
        }
        if all.len() > LARGEST {
            return Err(format!("it is larger than {} MiB", LARGEST >> 20));
        }
    }
    Ok(all.into())
}

/// Asks over a connection that anybody may listen to. What is answered is read as long as the handle lives.
async fn plain(uri: &Uri, mut request: Request<Bytes>) -> Result<(Response<Body>, AbortOnDropHandle<()>), String> {
    let authority = uri.authority().ok_or("it names no server")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream =
        TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await.map_err(|error| error.to_string())?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { _ = connection.await }));
    let value = HeaderValue::try_from(authority.as_str()).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, value);
    let answer = sender.send_request(request.map(Full::new)).await.map_err(|error| error.to_string())?;
    Ok((answer.map(|body| body.map_err(Into::into).boxed()), connection))
}
