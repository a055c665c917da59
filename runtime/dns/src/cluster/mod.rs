//! The cluster's own names, by the Kubernetes DNS specification 1.1.0 and, where that leaves a choice, as CoreDNS with
//! `pods insecure` and a fall through for reverse names makes it. Answers are made from the node's mirrors of Services,
//! EndpointSlices and Namespaces when they are asked for; nothing is copied beforehand. `conformance.md` beside this crate's `lib.rs`
//! tells which tests of the conformance suite are covered by which test here.

mod request;
mod reverse;
mod services;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_client::{Change, Informers, Object, ObjectRef, Store};

use self::request::Request;
pub(crate) use self::reverse::address as reverse_address;
use crate::wire::{Answer, Name, Record, code, kind};

/// How long records of the cluster hold, in seconds: what CoreDNS gives where nothing else is said, K3s among others.
pub(crate) const TTL: u32 = 5;
/// The version of the specification, and how long it holds.
const VERSION: (&str, u32) = ("1.1.0", 28800);
/// The mirrors' index of EndpointSlices by the names of their Services.
const BY_SERVICE: &str = "dns-service";
/// The label with the name of an EndpointSlice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the cluster has for a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This, to be answered as it is.
    Answer(Answer),
    /// The name is another's, whose records are to follow.
    Alias { record: Record, target: Name },
    /// Nothing; others may know.
    NotHere,
    /// It is not known yet.
    Unknown,
}

/// The cluster's names.
pub(crate) struct Cluster {
    zone: Name,
    /// What stands behind names as labels.
    suffix: Vec<String>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    namespaces: Store<Namespace>,
    changes: Arc<Changes>,
}

/// Counts what happens to the mirrored objects.
#[derive(Default)]
struct Changes {
    count: AtomicU64,
    /// When the last one was, in seconds of Unix time.
    last: AtomicU32,
}

impl Changes {
    fn note(&self) {
        self.count.fetch_add(1, Ordering::Release);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.last.store(now.as_secs() as u32, Ordering::Relaxed);
    }
}

impl Cluster {
    /// The names of a cluster with this domain, from mirrors that are shared with others.
    pub(crate) fn new(zone: Name, informers: &mut Informers) -> Self {
        let changes = Arc::new(Changes::default());
        changes.note();
        let suffix = zone.labels().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
        let services = follow::<Service>(informers, &changes, |_| false);
        informers.of::<EndpointSlice>().index(BY_SERVICE, |slice| service_of(slice).into_iter().collect());
        let slices = follow::<EndpointSlice>(informers, &changes, |_| false);
        // Of a Namespace nothing but its name matters.
        let namespaces = follow::<Namespace>(informers, &changes, |change| {
            matches!(change, Change::Applied { previous: Some(_), .. })
        });
        Self { zone, suffix, services, slices, namespaces, changes }
    }

    /// The cluster's domain.
    pub(crate) fn zone(&self) -> &Name {
        &self.zone
    }

    /// A number that is another one once something has changed.
    pub(crate) fn generation(&self) -> u64 {
        self.changes.count.load(Ordering::Acquire)
    }

    fn is_synced(&self) -> bool {
        self.services.is_synced() && self.slices.is_synced() && self.namespaces.is_synced()
    }

    /// What there is for a name, which is in lower case, and a type. `own` are the addresses of this service.
    pub(crate) fn find(&self, name: &Name, kind: u16, own: &[IpAddr]) -> Found {
        if !name.is_under(&self.zone) {
            let Some(address) = reverse::address(name).filter(|_| kind == kind::PTR) else { return Found::NotHere };
            return self.reverse(name, address);
        }
        if matches!(kind, kind::AXFR | kind::IXFR) {
            return Found::Answer(Answer::code(code::REFUSED));
        }
        let depth = name.depth() - self.suffix.len();
        let labels: Option<Vec<&str>> =
            name.labels().take(depth).map(|label| std::str::from_utf8(label).ok()).collect();
        let Some(labels) = labels else { return self.no_name() };
        match labels.as_slice() {
            [] => return self.apex(kind),
            ["dns-version"] => {
                let text = (kind == kind::TXT).then(|| Record::text(name, VERSION.1, VERSION.0));
                return self.have(text.into_iter().collect(), Vec::new());
            }
            ["ns", "dns"] => return self.have(addresses(name, kind, own.iter().copied()), Vec::new()),
            _ => {}
        }
        let Some(request) = Request::parse(&labels) else { return self.no_name() };
        if !self.is_synced() {
            return Found::Unknown;
        }
        match request {
            Request::Root => self.have(Vec::new(), Vec::new()),
            Request::Namespace(namespace) if self.has_namespace(namespace) => self.have(Vec::new(), Vec::new()),
            Request::Pod { namespace, pod } if self.has_namespace(namespace) => match request::pod_address(pod) {
                Some(address) => self.have(addresses(name, kind, [address]), Vec::new()),
                None => self.no_name(),
            },
            Request::Service(of) => self.service(name, kind, &of),
            Request::Namespace(_) | Request::Pod { .. } => self.no_name(),
        }
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(&ObjectRef::cluster(name)).is_some()
    }

    /// The domain itself.
    fn apex(&self, kind: u16) -> Found {
        match kind {
            kind::SOA => self.have(vec![self.soa()], Vec::new()),
            kind::NS => {
                let server = self.name(&["ns", "dns"]);
                self.have(
                    server.map(|server| Record::name(&self.zone, kind::NS, TTL, &server)).into_iter().collect(),
                    Vec::new(),
                )
            }
            _ => self.have(Vec::new(), Vec::new()),
        }
    }

    /// A name in the domain.
    fn name(&self, labels: &[&str]) -> Option<Name> {
        Name::join(labels.iter().copied(), self.zone.octets())
    }

    fn soa(&self) -> Record {
        let (server, mailbox) = (self.name(&["ns", "dns"]), self.name(&["hostmaster"]));
        let (server, mailbox) = (server.as_ref().unwrap_or(&self.zone), mailbox.as_ref().unwrap_or(&self.zone));
        Record::soa(&self.zone, TTL, server, mailbox, self.changes.last.load(Ordering::Relaxed))
    }

    /// The name is there, with these records or none of the type.
    fn have(&self, answers: Vec<Record>, additional: Vec<Record>) -> Found {
        Found::Answer(if answers.is_empty() { self.nothing() } else { Answer::of_zone(answers, additional) })
    }

    /// A name without records of the type.
    pub(crate) fn nothing(&self) -> Answer {
        Answer { authority: vec![self.soa()], ..Answer::of_zone(Vec::new(), Vec::new()) }
    }

    /// There is no such name.
    fn no_name(&self) -> Found {
        if !self.is_synced() {
            return Found::Unknown;
        }
        Found::Answer(Answer { code: code::NO_NAME, ..self.nothing() })
    }
}

/// The store of a mirror whose changes are counted, but for those that `is_idle`.
fn follow<T: Object + k8s_openapi::Resource>(
    informers: &mut Informers,
    changes: &Arc<Changes>,
    is_idle: fn(&Change<T>) -> bool,
) -> Store<T> {
    let (mirror, changes) = (informers.of::<T>(), Arc::clone(changes));
    mirror.subscribe(move |change| {
        if !is_idle(change) {
            changes.note();
        }
    });
    mirror.store()
}

/// `namespace/name` of an EndpointSlice's Service.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()))
}

/// Those of some addresses that a type of record is for, each once.
fn addresses(name: &Name, kind: u16, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Record> {
    let fits = |address: &IpAddr| match kind {
        kind::A => address.is_ipv4(),
        kind::AAAA => address.is_ipv6(),
        _ => false,
    };
    let mut seen = std::collections::HashSet::new();
    let new = addresses.into_iter().filter(fits).filter(|address| seen.insert(*address));
    new.map(|address| Record::address(name, TTL, address)).collect()
}
