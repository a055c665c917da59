//! Charts in OCI registries, by the distribution specification: a tag leads to a manifest, the manifest to the archive's blob, and
//! both are held against their digests. Who has to say who asks is told so by a challenge, and then gets a token for it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kiln_charts::repository;
use kiln_client::with_query;
use kiln_pki::secret::hex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::failed;
use super::source::{Login, Source};
use crate::reconcile::Failure;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What a chart's archive is called in a manifest, now and long ago.
const LAYERS: [&str; 2] = ["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"];
/// What Docker Hub is called: its login has always stood under another name than the registry's.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The most pages of tags.
const PAGES: usize = 100;

/// A chart's place in a registry.
pub(super) struct Registry<'a> {
    source: &'a Source,
    scheme: &'static str,
    host: &'a str,
    repository: &'a str,
    /// A tag or a digest, if the place names one.
    named: Option<&'a str>,
    /// Who asks, if that is to be told.
    pub(super) login: Option<HeaderValue>,
    /// What the registry wants to see.
    authorization: Option<HeaderValue>,
}

impl<'a> Registry<'a> {
    /// Reads a place: `host[:port]/path[:tag][@digest]`.
    pub(super) fn new(source: &'a Source, place: &'a str, plain: bool) -> Result<Self, Failure> {
        let (host, rest) = place.split_once('/').unwrap_or((place, ""));
        let (path, digest) = rest.split_once('@').map_or((rest, None), |(path, digest)| (path, Some(digest)));
        let (repository, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
        if host.is_empty() || repository.is_empty() {
            return Err(failed(format!("oci://{place} does not name a chart in a registry")));
        }
        let scheme = if plain { "http" } else { "https" };
        Ok(Self { source, scheme, host, repository, named: digest.or(tag), login: None, authorization: None })
    }

    /// Whether a place in Docker's configuration is this one, or one above it.
    pub(super) fn is_at(&self, place: &str) -> bool {
        let place = place.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if HUB.contains(&host) && HUB.contains(&self.host) {
            return true;
        }
        let rest = self.repository.strip_prefix(path);
        host == self.host && rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }

    /// The chart's archive, of a version or of the newest one within a constraint.
    pub(super) async fn chart(mut self, version: &str) -> Result<Bytes, Failure> {
        let name = match self.named {
            Some(named) => named.to_owned(),
            None => self.tag(version).await?,
        };
        let bytes = self.get(&format!("manifests/{name}")).await?;
        self.is_whole(&name, &bytes)?;
        let manifest: Value =
            serde_json::from_slice(&bytes).map_err(|error| self.wrong(&format!("manifest: {error}")))?;
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let mut archives =
            layers.filter(|layer| layer["mediaType"].as_str().is_some_and(|kind| LAYERS.contains(&kind)));
        let digest = archives.next().and_then(|layer| layer["digest"].as_str());
        let digest = digest
            .ok_or_else(|| self.wrong(&format!("manifest does not contain a layer with mediatype {}", LAYERS[0])))?;
        let archive = self.get(&format!("blobs/{digest}")).await?;
        self.is_whole(digest, &archive)?;
        Ok(archive)
    }

    fn wrong(&self, what: &str) -> Failure {
        failed(format!("cannot get oci://{}/{}: {what}", self.host, self.repository))
    }

    /// Holds bytes against a digest, if they were asked for by one.
    fn is_whole(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        match name.split_once(':') {
            None => Ok(()),
            Some(("sha256", digits)) if hex(&Sha256::digest(bytes)) == digits => Ok(()),
            Some(_) => Err(self.wrong(&format!("what came is not {name}"))),
        }
    }

    /// The tag of a version. No tag can have a plus in it.
    async fn tag(&mut self, version: &str) -> Result<String, Failure> {
        let tag = if repository::is_version(version) { version.to_owned() } else { self.newest(version).await? };
        Ok(tag.replace('+', "_"))
    }

    async fn newest(&mut self, constraint: &str) -> Result<String, Failure> {
        let mut versions = Vec::new();
        let mut page = self.url("tags/list");
        for _ in 0..PAGES {
            let answer = self.ask(&page).await?;
            let link = answer.headers().get(header::LINK).and_then(|link| link.to_str().ok()).unwrap_or_default();
            let next = link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(to, _)| to.to_owned());
            let list: Value =
                serde_json::from_slice(answer.body()).map_err(|error| self.wrong(&format!("tags: {error}")))?;
            let tags = list["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
            versions.extend(tags.map(|tag| tag.replace('_', "+")));
            page = match next {
                Some(path) if path.starts_with('/') => format!("{}://{}{path}", self.scheme, self.host),
                Some(url) => url,
                None => break,
            };
        }
        let found = repository::newest(versions.iter().map(String::as_str), constraint);
        let missing =
            || self.wrong(&format!("could not locate a version matching provided version string {constraint}"));
        found.map(str::to_owned).ok_or_else(missing)
    }

    fn url(&self, what: &str) -> String {
        format!("{}://{}/v2/{}/{what}", self.scheme, self.host, self.repository)
    }

    async fn get(&mut self, what: &str) -> Result<Bytes, Failure> {
        let url = self.url(what);
        Ok(self.ask(&url).await?.into_body())
    }

    /// What is at a URL of the registry; asked again with what it wants to see, once.
    async fn ask(&mut self, url: &str) -> Result<Response<Bytes>, Failure> {
        let mut answer = self.send(url).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenges: Vec<String> = answer
                .headers()
                .get_all(header::WWW_AUTHENTICATE)
                .iter()
                .filter_map(|challenge| challenge.to_str().ok().map(str::to_owned))
                .collect();
            self.authorization = self.answer(&challenges).await?;
            if self.authorization.is_some() {
                answer = self.send(url).await?;
            }
        }
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => Err(self.wrong(&format!("{url} answered {status}"))),
        }
    }

    async fn send(&self, url: &str) -> Result<Response<Bytes>, Failure> {
        let mut login = Login::default();
        login.headers.insert(header::ACCEPT, HeaderValue::from_static(MANIFEST));
        // Only the registry itself learns it, wherever a list of tags goes on.
        if url.starts_with(&format!("{}://{}/", self.scheme, self.host)) {
            login.headers.extend(self.authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        }
        self.source.ask(url, &login).await
    }

    /// The answer to a challenge; none if there is none.
    async fn answer(&self, challenges: &[String]) -> Result<Option<HeaderValue>, Failure> {
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                return self.token(rest).await.map(Some);
            }
            if scheme.eq_ignore_ascii_case("basic") {
                return Ok(self.login.clone());
            }
        }
        Ok(None)
    }

    /// A token from the place that a challenge names.
    async fn token(&self, challenge: &str) -> Result<HeaderValue, Failure> {
        let values = parameters(challenge);
        let of = |name: &str| values.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let realm = of("realm").unwrap_or_default();
        if !realm.starts_with("https://") && self.scheme == "https" {
            return Err(self.wrong("the registry wants a token to be asked for in the clear"));
        }
        let scope = of("scope").unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let query: Vec<(&str, String)> =
            std::iter::once(("scope", scope)).chain(of("service").map(|service| ("service", service))).collect();
        let headers: HeaderMap = self.login.clone().into_iter().map(|value| (header::AUTHORIZATION, value)).collect();
        let login = Login { headers, ..Login::default() };
        let answer = self.source.get(&with_query(&realm, &query), &login).await?;
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|error| self.wrong(&format!("{realm}: {error}")))?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str()).unwrap_or_default();
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| self.wrong(&format!("{realm} gives no token that can be sent")))?;
        value.set_sensitive(true);
        Ok(value)
    }
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
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;

    #[test]
    fn a_place_is_taken_apart_and_has_its_login() {
        let source = Source { ca: String::new(), is_insecure: false };
        let read = |place| Registry::new(&source, place, false).map(|r| (r.url("x"), r.named));
        let cases = [
            ("r.org:5000/a/b", ("https://r.org:5000/v2/a/b/x", None)),
            ("r.org/a:1.0.0", ("https://r.org/v2/a/x", Some("1.0.0"))),
            ("r.org/a:1.0.0@sha256:0", ("https://r.org/v2/a/x", Some("sha256:0"))),
        ];
        for (place, (url, named)) in cases {
            assert_eq!(read(place).unwrap(), (url.to_owned(), named), "{place}");
        }
        assert!(read("r.org").is_err() && read("/a").is_err());
        let registry = Registry::new(&source, "r.org/a/b", true).unwrap();
        let at =
            [("https://r.org", true), ("r.org/a/", true), ("r.org/a/b", true), ("r.org/aa", false), ("org", false)];
        for (place, expected) in at {
            assert_eq!(registry.is_at(place), expected, "{place}");
        }
    }

    #[test]
    fn a_challenge_is_taken_apart() {
        let pairs = parameters(r#"realm="https://a.org/token",service="r.org", scope="repository:a:pull,push",x=y"#);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected =
            [("realm", "https://a.org/token"), ("service", "r.org"), ("scope", "repository:a:pull,push"), ("x", "y")];
        assert_eq!(pairs, expected);
        assert!(parameters("nothing").is_empty());
    }
}
