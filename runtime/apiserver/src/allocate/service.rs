//! What one write of a Service needs.

use std::collections::HashMap;

use kiln_apimachinery::{FieldError, Status, meta, net};
use kiln_storage::ListOptions;
use serde_json::{Value, json};

use super::families::{self, family_of};
use super::ips::{self, Refused};
use super::{Change, node_ports as ports};
use crate::server::ApiServer;
use crate::verbs::{Cx, errors};

/// A number in an object, or 0.
pub(super) fn number(object: &Value, key: &str) -> i64 {
    object.get(key).and_then(Value::as_i64).unwrap_or(0)
}

fn kind(service: &Value) -> &str {
    meta::text(service, &["spec", "type"])
}

fn cluster_ips(service: &Value) -> Vec<&str> {
    meta::strings(meta::at(service, &["spec", "clusterIPs"]))
}

fn families_of(service: &Value) -> Vec<&str> {
    meta::strings(meta::at(service, &["spec", "ipFamilies"]))
}

fn is_external(service: &Value) -> bool {
    kind(service) == "ExternalName"
}

fn is_headless(service: &Value) -> bool {
    cluster_ips(service).first() == Some(&"None")
}

/// True for the types that nodes listen for.
pub(super) fn needs_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// True if a load balancer must be told which nodes have endpoints.
pub(super) fn needs_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && meta::text(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

/// Whether ports without a node port get one.
fn gives_node_ports(service: &Value) -> bool {
    let wanted = meta::at(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    kind(service) == "NodePort" || (kind(service) == "LoadBalancer" && wanted)
}

/// All node ports of a Service, that of its health check among them.
pub(super) fn node_ports(service: &Value) -> Vec<i64> {
    let list = meta::at(service, &["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let check = meta::at(service, &["spec"]).map_or(0, |spec| number(spec, "healthCheckNodePort"));
    let mut all: Vec<i64> = list.map(|p| number(p, "nodePort")).chain([check]).filter(|n| *n != 0).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The keys of everything that a Service has.
pub(super) fn all(service: &Value) -> Vec<String> {
    let ips = cluster_ips(service).into_iter().filter_map(net::parse_ip_loosely).map(ips::key);
    ips.chain(node_ports(service).into_iter().map(ports::key)).collect()
}

/// The families of the cluster's networks, the first one's first.
async fn cluster_families(server: &ApiServer) -> Result<Vec<&'static str>, Status> {
    let mut out: Vec<&'static str> = Vec::new();
    for network in ips::networks(server).await? {
        let family = family_of(network.address());
        if !out.contains(&family) {
            out.push(family);
        }
    }
    Ok(out)
}

fn invalid(cx: &Cx<'_>, service: &Value, errors: &[FieldError]) -> Status {
    Status::invalid(&cx.resource.gvk(), meta::name(service), errors)
}

pub(super) async fn prepare(cx: &Cx<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if let Some(old) = old {
        families::patch_allocated(service, old);
    }
    families::normalize(service, old);
    let cluster = cluster_families(cx.server).await?;
    families::fill(service, old, &cluster).map_err(|errors| invalid(cx, service, &errors))
}

/// Takes what a Service needs beyond what it had, and names what it no longer needs.
pub(super) async fn allocate(cx: &Cx<'_>, service: &mut Value, old: Option<&Value>) -> Result<Change, Status> {
    let mut change = Change::default();
    change.server = Some(cx.server.clone());
    let mut work = Work { cx, change };
    let done = match work.addresses(service, old).await {
        Ok(()) => work.node_ports(service, old).await,
        refused => refused,
    };
    if let Err(status) = done {
        work.change.finish(false).await;
        return Err(status);
    }
    if cx.dry_run {
        return Ok(Change::default());
    }
    let kept = all(service);
    let had = old.map(all).unwrap_or_default();
    work.change.freed = had.into_iter().filter(|key| !kept.contains(key)).collect();
    Ok(work.change)
}

struct Work<'a> {
    cx: &'a Cx<'a>,
    change: Change,
}

impl Work<'_> {
    async fn addresses(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let had_none = old.is_none_or(is_external);
        if is_external(service) || is_headless(service) || old.is_some_and(is_headless) {
            return Ok(());
        }
        let families: Vec<String> = families_of(service).into_iter().map(str::to_owned).collect();
        let known = if had_none { 0 } else { old.map_or(0, |o| cluster_ips(o).len()) };
        let mut given: Vec<String> = cluster_ips(service).into_iter().map(str::to_owned).collect();
        for (i, family) in families.iter().enumerate().skip(known) {
            match given.get(i).filter(|ip| !ip.is_empty()).cloned() {
                Some(ip) => self.address(service, &ip).await?,
                None => {
                    let ip = self.any_address(service, family).await?;
                    given.truncate(i);
                    given.push(ip);
                }
            }
        }
        if let Some(first) = given.first().cloned() {
            let spec = meta::child(service, "spec");
            spec.insert("clusterIP".into(), first.into());
            spec.insert("clusterIPs".into(), json!(given));
        }
        Ok(())
    }

    async fn address(&mut self, service: &Value, text: &str) -> Result<(), Status> {
        let Some(address) = net::parse_ip_loosely(text) else {
            return Err(Status::internal(format!("failed to parse service IP {text:?}")));
        };
        match ips::take(self.cx.server, service, address, self.cx.dry_run).await {
            Ok(()) => {
                self.took(ips::key(address));
                Ok(())
            }
            Err(Refused::Because(why)) => {
                let all = meta::at(service, &["spec", "clusterIPs"]).cloned().unwrap_or_default();
                let why = format!("failed to allocate IP {text}: {why}");
                Err(invalid(self.cx, service, &[FieldError::invalid("spec.clusterIPs", &all, &why)]))
            }
            Err(other) => Err(full(service, other)),
        }
    }

    async fn any_address(&mut self, service: &Value, family: &str) -> Result<String, Status> {
        match ips::take_any(self.cx.server, service, family, self.cx.dry_run).await {
            Ok(address) => {
                self.took(ips::key(address));
                Ok(address.to_string())
            }
            Err(other) => Err(full(service, other)),
        }
    }

    fn took(&mut self, key: String) {
        if !self.cx.dry_run {
            self.change.taken.push(key);
        }
    }

    async fn node_ports(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let had = old.filter(|o| needs_node_ports(o)).map(node_ports).unwrap_or_default();
        let mut mine = had.clone();
        if needs_node_ports(service) {
            let mut list = meta::at(service, &["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
            // Ports of one number with different protocols share a node port, on a create only.
            let mut by_port: HashMap<i64, i64> = HashMap::new();
            for i in 0..list.len() {
                let (port, wanted) = (number(&list[i], "port"), number(&list[i], "nodePort"));
                if wanted == 0 && !gives_node_ports(service) {
                    continue;
                }
                let asked = |p: &&Value| number(p, "port") == port && number(p, "nodePort") != 0;
                let requested = match (wanted, old) {
                    (0, None) => {
                        by_port.get(&port).copied().or_else(|| list.iter().find(asked).map(|p| number(p, "nodePort")))
                    }
                    (0, Some(_)) => None,
                    (n, _) => Some(n),
                };
                let is_mine = |n: i64| match old {
                    Some(_) => mine.contains(&n),
                    None => by_port.get(&port) == Some(&n),
                };
                let given = match requested {
                    Some(n) if is_mine(n) => n,
                    Some(n) => self.port(service, i, n).await?,
                    None => self.any_port(service, "a nodePort", &mine).await?,
                };
                mine.push(given);
                by_port.entry(port).or_insert(given);
                meta::object_mut(&mut list[i]).insert("nodePort".into(), given.into());
            }
            if !list.is_empty() {
                meta::child(service, "spec").insert("ports".into(), list.into());
            }
        }
        self.health_check(service, old, &mine).await
    }

    async fn health_check(&mut self, service: &mut Value, old: Option<&Value>, mine: &[i64]) -> Result<(), Status> {
        if !needs_health_check(service) || old.is_some_and(needs_health_check) {
            return Ok(());
        }
        let wanted = number(&service["spec"], "healthCheckNodePort");
        let given = if wanted == 0 {
            self.any_port(service, "a HealthCheck NodePort 0", mine).await?
        } else {
            match ports::take(self.cx.server, service, wanted, self.cx.dry_run).await {
                Ok(()) => {
                    self.took(ports::key(wanted));
                    wanted
                }
                Err(Refused::Because(why)) => {
                    let why = format!("failed to allocate requested HealthCheck NodePort {wanted}: {why}");
                    return Err(Status::internal(why));
                }
                Err(other) => return Err(full(service, other)),
            }
        };
        meta::child(service, "spec").insert("healthCheckNodePort".into(), given.into());
        Ok(())
    }

    async fn port(&mut self, service: &Value, index: usize, wanted: i64) -> Result<i64, Status> {
        match ports::take(self.cx.server, service, wanted, self.cx.dry_run).await {
            Ok(()) => {
                self.took(ports::key(wanted));
                Ok(wanted)
            }
            Err(Refused::Because(why)) => {
                let field = format!("spec.ports[{index}].nodePort");
                Err(invalid(self.cx, service, &[FieldError::invalid(field, &wanted.into(), &why)]))
            }
            Err(other) => Err(full(service, other)),
        }
    }

    async fn any_port(&mut self, service: &Value, what: &str, mine: &[i64]) -> Result<i64, Status> {
        match ports::take_any(self.cx.server, service, self.cx.dry_run, mine).await {
            Ok(port) => {
                self.took(ports::key(port));
                Ok(port)
            }
            Err(Refused::Full) => Err(Status::internal(format!("failed to allocate {what}: range is full"))),
            Err(other) => Err(full(service, other)),
        }
    }
}

/// What a writer is told when nothing is left, or the store failed.
fn full(service: &Value, refused: Refused) -> Status {
    match refused {
        Refused::Store(status) => status,
        Refused::Because(why) => Status::internal(why),
        Refused::Full => Status::internal(format!(
            "failed to allocate a serviceIP for Service {:?}: range is full",
            meta::name(service)
        )),
    }
}

/// Gives every stored Service the keys of what it has, for a store that was written without them.
pub(super) async fn adopt_all(server: &ApiServer) -> Result<(), Status> {
    let prefix = "/registry/core/services/";
    let page = server.storage().list(prefix, ListOptions::default()).await.map_err(errors::storage)?;
    for service in page.records.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.value).ok()) {
        for address in cluster_ips(&service).into_iter().filter_map(net::parse_ip_loosely) {
            ips::adopt(server, &service, address).await?;
        }
        for port in node_ports(&service) {
            ports::create(server, &service, port).await?;
        }
    }
    Ok(())
}
