//! APIServices while the server runs: one task watches them and keeps the table of routes; each that names a Service gets a
//! keeper of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use kiln_apimachinery::{Status, meta};
use kiln_storage::Record;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::availability::{self, Verdict};
use super::keeper;
use super::link::{Link, Place};
use super::table::{Remote, Service, Table, available, is_available};
use crate::apiextensions;
use crate::follower::{self, Follower, name_of};
use crate::registry::extension::{self, APISERVICES, PREFIX};
use crate::server::{ApiServer, Inner};

/// An APIService that is known.
struct Known {
    service: Service,
    remote: Option<Remote>,
    /// Ends the keeper.
    _keeper: Option<DropGuard>,
}

struct Live {
    server: Weak<Inner>,
    known: BTreeMap<String, Known>,
    stop: CancellationToken,
}

/// Routes by the APIServices that are there, and goes on to follow them.
pub(crate) async fn start(server: &ApiServer, stop: CancellationToken) -> Result<(), Status> {
    let (page, watch) = follower::begin::<Live>(server).await?;
    let mut live = Live { server: server.downgrade(), known: BTreeMap::new(), stop: stop.clone() };
    for record in &page.records {
        live.learn(record);
    }
    live.publish(server);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follower::run(live.server.clone(), &mut live, watch) => {}
        }
    });
    Ok(())
}

impl Follower for Live {
    const PREFIX: &'static str = PREFIX;
    const WHAT: &'static str = "APIServices";

    fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    async fn put(&mut self, server: &ApiServer, record: Record) {
        let Some(object) = self.learn(&record) else { return };
        self.publish(server);
        let is_told = available(&object).is_some_and(|c| meta::text(c, &["reason"]) == "Local");
        if Place::of(&object).is_none() && !is_told {
            // It was another server's before, or its condition was taken away.
            if let Err(status) = availability::write(server, name_of::<Self>(&record), &Verdict::local()).await {
                // Whoever was faster has made an event of it.
                tracing::debug!(error = status.message, "a condition can't be written");
            }
        }
    }

    /// What this server answers for has one again at once.
    async fn gone(&mut self, server: &ApiServer, name: &str) {
        let Some(Known { service, .. }) = self.known.remove(name) else { return };
        self.publish(server);
        server.aggregation().told_anew();
        let (group, version) = (service.group.as_str(), service.version.as_str());
        let rows = server.registry().of(group, version);
        let object = match rows.first() {
            None => return,
            Some(row) if row.custom.is_some() => Some(apiextensions::registration::local(group, version)),
            Some(_) => extension::local(group, version),
        };
        let Some(object) = object else { return };
        match server.store().create(extension::GROUP, APISERVICES, object).await {
            Err(status) if status.code != 409 => {
                tracing::warn!(name, error = status.message, "an APIService can't be written");
            }
            _ => {}
        }
    }
}

impl Live {
    /// Takes an APIService in. What can't be read was not written here.
    fn learn(&mut self, record: &Record) -> Option<Value> {
        let object: Value = serde_json::from_slice(&record.value).ok()?;
        let (name, available) = (name_of::<Self>(record), is_available(&object));
        let place = Place::of(&object);
        let old = self.known.remove(name);
        let service = Service::of(&object);
        let same = old.as_ref().is_some_and(|k| k.remote.as_ref().map(|r| &r.link.place) == place.as_ref());
        let told_anew = !same || old.as_ref().is_none_or(|k| k.service != service);
        let known = match (old.filter(|_| same), place) {
            (Some(Known { remote: Some(remote), _keeper, .. }), Some(_)) => {
                Known { service, remote: Some(Remote { available, ..remote }), _keeper }
            }
            (_, None) => Known { service, remote: None, _keeper: None },
            (None, Some(place)) | (Some(Known { remote: None, .. }), Some(place)) => {
                let link = Arc::new(Link::new(place));
                let stop = self.stop.child_token();
                tokio::spawn(keeper::run(self.server.clone(), name.to_owned(), link.clone(), stop.clone()));
                Known { service, remote: Some(Remote { link, available }), _keeper: Some(stop.drop_guard()) }
            }
        };
        self.known.insert(name.to_owned(), known);
        if told_anew && let Some(server) = self.server.upgrade().map(ApiServer::of) {
            server.aggregation().told_anew();
        }
        Some(object)
    }

    fn publish(&self, server: &ApiServer) {
        let all = self.known.iter().map(|(name, k)| (name.clone(), (k.service.clone(), k.remote.clone())));
        server.aggregation().set(Table::new(all.collect()));
    }
}
