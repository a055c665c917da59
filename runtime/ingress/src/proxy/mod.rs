//! What happens to a request: it is matched with the routing table, given to an endpoint, and its answer handed on.

mod answers;
mod body;
mod choose;
mod forward;
mod headers;
mod mirror;
mod redirect;
mod retry;
mod target;
mod tunnel;

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use kiln_apimachinery::head::without_body;
use kiln_apimachinery::net::Cidr;
use tokio::sync::Semaphore;

pub(crate) use body::{BodyError, RequestBody, ResponseBody, Stall};
pub(crate) use headers::is_hop_by_hop;

use self::answers::Refusal;
use self::target::Target;
use crate::access_log::Line;
use crate::annotations::Settings;
use crate::challenges::Challenges;
use crate::metrics::Metrics;
use crate::routes::Table;
use crate::upstream::{Backend, Connector};

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The same as a text, made once for all requests.
    pub(crate) text: HeaderValue,
    /// The port that it came to.
    pub(crate) port: u16,
    /// Whether it came with TLS.
    pub(crate) is_tls: bool,
    /// Whether the port is one of Gateways only.
    pub(crate) is_of_gateway: bool,
}

impl Client {
    /// A client.
    pub(crate) fn new(address: IpAddr, port: u16, is_tls: bool) -> Self {
        let text = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, text, port, is_tls, is_of_gateway: false }
    }
}

/// Hands requests on.
pub(crate) struct Proxy {
    table: RwLock<Arc<Table>>,
    connector: Connector,
    /// Whose word about other clients counts.
    trusted: Vec<Cidr>,
    /// The port that redirects lead to.
    https_port: u16,
    logs: bool,
    /// Room for copies of requests.
    copies: Arc<Semaphore>,
    pub(crate) challenges: Challenges,
    pub(crate) metrics: Metrics,
}

impl Proxy {
    /// A proxy without rules.
    pub(crate) fn new(connector: Connector, trusted: Vec<Cidr>, https_port: u16, logs: bool) -> Self {
        let (challenges, metrics) = (Challenges::default(), Metrics::default());
        let copies = Arc::new(Semaphore::new(mirror::MOST));
        Self { table: RwLock::default(), connector, trusted, https_port, logs, copies, challenges, metrics }
    }

    /// Has requests matched with another table from now on.
    pub(crate) fn set_table(&self, table: Table) {
        let old = std::mem::replace(&mut *self.table.write().unwrap_or_else(PoisonError::into_inner), Arc::new(table));
        // A large one takes its time, in which nobody shall wait for the lock.
        drop(old);
        self.metrics.reloaded();
    }

    /// Answers a request.
    pub(crate) async fn handle(
        self: Arc<Self>,
        client: Client,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let began = Instant::now();
        let mut line = self.logs.then(|| Line::new(client.address, &request));
        let is_head = request.method() == Method::HEAD;
        let mut backend = None;
        let mut response = match self.answer(client, request, &mut backend).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        response.headers_mut().entry(header::SERVER).or_insert(HeaderValue::from_static("kiln"));
        let (status, took) = (response.status(), began.elapsed());
        self.metrics.answered(status, took);
        if let Some(backend) = &backend {
            backend.count(status);
        }
        if let Some(line) = line.take() {
            line.write(&response, took, backend.as_deref());
        }
        Ok(if is_head { without_body(response, ResponseBody::text("")) } else { response })
    }

    /// The answer of an endpoint, or why there is none. `taken` is set to the Service that the request is for.
    async fn answer(
        self: &Arc<Self>,
        client: Client,
        request: Request<Incoming>,
        taken: &mut Option<Arc<Backend>>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut request = request;
        if request.method() == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        let upgrade =
            headers::wanted_upgrade(request.headers()).map(|wanted| (wanted, hyper::upgrade::on(&mut request)));
        let (mut parts, body) = request.into_parts();
        let path = target::normal(parts.uri.path());
        let host = target::host(&parts).ok_or(Refusal::BadHost)?;
        // Before any rule, for those may lead to HTTPS or keep strangers out.
        if !client.is_tls
            && let Some(answer) = self.challenges.answer(&host, &path).await
        {
            return Ok(answers::proof(answer));
        }
        let (route, covered) = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            let of_gateways = table.gateways.find((client.port, client.is_tls), &host, &path, &parts);
            let of_ingresses = || if client.is_of_gateway { None } else { table.find(&host, &path) };
            let (route, covered) = of_gateways.or_else(of_ingresses).ok_or(Refusal::NoRule)?;
            if route.settings.redirect && !client.is_tls {
                return Err(Refusal::Redirect(self.location(&host, &path, parts.uri.query())));
            }
            (route.clone(), covered)
        };
        let (settings, action) = (&route.settings, route.action.as_deref());
        let cors = action.and_then(|action| action.cors.as_ref());
        if let Some(headers) = cors.and_then(|cors| cors.preflight(&parts)) {
            return Ok(answers::preflight(headers));
        }
        let origin = cors.and_then(|_| parts.headers.get(header::ORIGIN).cloned());
        if let Some(redirect) = action.and_then(|action| action.redirect.as_ref()) {
            let location = redirect::location(redirect, &client, &host, (&*path, covered), parts.uri.query());
            return Err(Refusal::Moved(redirect.status, location));
        }
        drop(host);
        let share = match action {
            Some(action) => Some(action.pick(choose::random()).ok_or(Refusal::NoBackend)?),
            None => None,
        };
        let backend = match share {
            Some(share) => Some(share.backend.as_ref().ok_or(Refusal::NoBackend)?),
            None => None,
        };
        self.permit(settings, &client, &parts.headers)?;
        let is_rewritten = settings.rewrite.is_some();
        let change = action.and_then(|action| action.path.as_ref());
        let target = match (&settings.rewrite, &path, parts.uri.path_and_query()) {
            _ if change.is_some() => Target::Other(redirect::changed(change, &path, covered, parts.uri.query())),
            (Some(with), ..) => Target::Other(target::rewritten(&path, parts.uri.query(), covered, with)),
            (None, Cow::Borrowed(_), Some(same)) => Target::Same(same.clone()),
            (None, path, _) => Target::Other(target::rewritten(path, parts.uri.query(), 0, "")),
        };
        let prefix = (is_rewritten && covered > 0).then(|| HeaderValue::from_str(&path[..covered]).ok()).flatten();
        drop(path);

        headers::strip(&mut parts.headers);
        if !parts.headers.contains_key(header::HOST)
            && let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(header::HOST, host);
        }
        headers::forward(&mut parts.headers, &client, &self.trusted);
        if let Some(prefix) = prefix {
            parts.headers.insert("x-forwarded-prefix", prefix);
        }
        if let (Some(action), Some(share)) = (action, share) {
            action.request.apply(&mut parts.headers);
            share.request.apply(&mut parts.headers);
            if let Some(host) = &action.host {
                parts.headers.insert(header::HOST, host.clone());
            }
        }
        let mut body = RequestBody::new(body, settings.body_limit);
        if upgrade.is_none() {
            mirror::send(self, &route, &parts, &target, &mut body);
        }
        let forward = forward::Forward { proxy: self, route: &route, parts, target, body, upgrade, backend };
        let mut response = match action.and_then(|action| action.retry.as_ref()) {
            // A box of its own: others need no room for it.
            Some(retry) => Box::pin(forward.run_again(retry, taken)).await?,
            None => forward.run(taken).await?,
        };
        if let (Some(action), Some(share)) = (action, share) {
            action.response.apply(response.headers_mut());
            share.response.apply(response.headers_mut());
        }
        if let Some(cors) = cors {
            cors.apply(origin.as_ref(), response.headers_mut());
        }
        Ok(response)
    }

    /// Whether the client may send this.
    fn permit(&self, settings: &Settings, client: &Client, headers: &http::HeaderMap) -> Result<(), Refusal> {
        if !settings.sources.is_empty() && !settings.sources.iter().any(|network| network.contains(client.address)) {
            return Err(Refusal::Forbidden);
        }
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        match (settings.body_limit, announced) {
            (Some(limit), Some(length)) if length > limit => Err(Refusal::TooLarge),
            _ => Ok(()),
        }
    }

    /// The URL of the same thing over TLS.
    fn location(&self, host: &str, path: &str, query: Option<&str>) -> HeaderValue {
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let port = if self.https_port == 443 { String::new() } else { format!(":{}", self.https_port) };
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        let url = ["https://", open, host, close, &port, path, mark, query].concat();
        HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static("/"))
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}
