//! Whether a remote API can be used: its Service is there, has the port, has an endpoint that is ready, and answers. In the
//! reference's order, with its reasons and words.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kiln_apimachinery::{Status, meta};
use serde_json::{Value, json};

use super::link::{Link, Place};
use super::table::available;
use crate::backends::{self, Backend};
use crate::registry::cells::items;
use crate::registry::extension::{self, APISERVICES};
use crate::server::ApiServer;
use crate::subresources::condition;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Endpoints that are asked at the same time; one that answers is enough.
const ATTEMPTS: usize = 5;

/// The `Available` condition as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    status: &'static str,
    pub(super) reason: &'static str,
    message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    fn unknown(reason: &'static str, message: String) -> Self {
        Self { status: "Unknown", reason, message }
    }

    /// That of an API that this server answers for.
    pub(super) fn local() -> Self {
        Self { status: "True", reason: "Local", message: "Local APIServices are always available".into() }
    }

    pub(super) fn is_available(&self) -> bool {
        self.status == "True"
    }
}

/// Looks at everything that a remote API needs.
pub(super) async fn check(server: &ApiServer, link: &Link) -> Verdict {
    match of_service(server, &link.place).await {
        Err(verdict) => verdict,
        Ok(()) => match answers(server, link).await {
            Ok(()) => Verdict { status: "True", reason: "Passed", message: "all checks passed".into() },
            Err(why) => Verdict::no("FailedDiscoveryCheck", why),
        },
    }
}

async fn of_service(server: &ApiServer, place: &Place) -> Result<(), Verdict> {
    let Place { namespace, service: name, port, .. } = place;
    let accessible = |why: String| format!("service/{name} in {namespace:?} cannot be checked due to: {why}");
    let service = match server.store().read("", "services", namespace, name).await {
        Ok(Some(stored)) => stored.object,
        Ok(None) => {
            let why = format!("service/{name} in {namespace:?} is not present");
            return Err(Verdict::no("ServiceNotFound", why));
        }
        Err(status) => return Err(Verdict::unknown("ServiceAccessError", accessible(status.message))),
    };
    if meta::text(&service, &["spec", "type"]) != "ClusterIP" {
        return Ok(());
    }
    let Some(named) = backends::port_of(&service, *port) else {
        let why = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Verdict::no("ServicePortError", why));
    };
    match backends::slices(server, namespace, name).await {
        Err(why) => Err(Verdict::unknown("EndpointsAccessError", accessible(why))),
        Ok(slices) if slices.is_empty() => {
            let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            Err(Verdict::no("EndpointsNotFound", why))
        }
        Ok(slices) if !slices.iter().any(|slice| is_ready(slice, named)) => {
            let why = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {named:?}"
            );
            Err(Verdict::no("MissingEndpoints", why))
        }
        Ok(_) => Ok(()),
    }
}

/// True if a slice has the port, and anything that is ready.
fn is_ready(slice: &Value, port: &str) -> bool {
    let ready = |e: &Value| meta::at(e, &["conditions", "ready"]) != Some(&Value::Bool(false));
    let named = |p: &Value| meta::text(p, &["name"]) == port && p.get("port").is_some_and(Value::is_number);
    items(slice, &["endpoints"]).iter().any(ready) && items(slice, &["ports"]).iter().any(named)
}

/// Asks some of the endpoints for what every server of an API has.
async fn answers(server: &ApiServer, link: &Link) -> Result<(), String> {
    let mut backends = link.backends(server).await?;
    backends.truncate(ATTEMPTS);
    let mut asked: FuturesUnordered<_> = backends.iter().map(|backend| ask(server, link, backend)).collect();
    let mut last = String::new();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(last)
}

async fn ask(server: &ApiServer, link: &Link, backend: &Backend) -> Result<(), String> {
    let path = link.place.path();
    let url = format!("https://{}{path}", backend.authority);
    let wrong = |why: String| format!("failing or missing response from {url}: {why}");
    match tokio::time::timeout(PATIENCE, link.get(server, Some(backend), &path, "*/*", "")).await {
        Err(_) => Err(wrong(format!("Get {url:?}: context deadline exceeded"))),
        Ok(Err(why)) => Err(wrong(format!("Get {url:?}: {why}"))),
        Ok(Ok(answer)) if answer.status().is_success() || answer.status().is_redirection() => Ok(()),
        Ok(Ok(answer)) => Err(wrong(format!("bad status from {url}: {}", answer.status().as_u16()))),
    }
}

/// Writes the condition, if it is not as it should be; true if it became another one.
pub(super) async fn write(server: &ApiServer, name: &str, verdict: &Verdict) -> Result<bool, Status> {
    let Some(stored) = server.store().read(extension::GROUP, APISERVICES, "", name).await? else { return Ok(false) };
    let Verdict { status, reason, message } = verdict;
    let known = available(&stored.object);
    let is = |key: &str, value: &str| known.is_some_and(|c| meta::text(c, &[key]) == value);
    if is("status", status) && is("reason", reason) && is("message", message) {
        return Ok(false);
    }
    let turned = !is("status", status);
    let mut new = stored.object.clone();
    let told = json!({"type": "Available", "status": status, "reason": reason, "message": message});
    condition(&mut new, told, server.now());
    server.store().replace(extension::GROUP, APISERVICES, &stored, &new).await?;
    Ok(turned)
}
