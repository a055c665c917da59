//! Ways from the server to what stands behind a Service: webhooks and the servers of aggregated APIs. An endpoint on a node is
//! reached through the dialer, so neither a service proxy nor a route to the pods' network is needed here; any other is dialled
//! from this machine.

use kiln_apimachinery::{meta, random};
use kiln_storage::ListOptions;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::dialer::{DialError, Stream, Target};
use crate::registry::cells::items;
use crate::server::ApiServer;

/// What the keys of EndpointSlices begin with; a namespace follows.
pub(crate) const SLICES: &str = "/registry/discovery.k8s.io/endpointslices/";

/// One place behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// The node that it is on, if it is known.
    node: Option<String>,
    /// `host:port`.
    pub(crate) authority: String,
}

impl Backend {
    fn new(node: &str, host: &str, port: u64) -> Self {
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { node: Some(node.to_owned()).filter(|n| !n.is_empty()), authority }
    }

    /// What a URL names: it is dialled from this machine.
    pub(crate) fn of_url(host: &str, port: u16) -> Self {
        Self::new("", host, port.into())
    }

    /// Opens a connection.
    pub(crate) async fn dial(&self, server: &ApiServer) -> Result<Stream, String> {
        if let Some(node) = &self.node {
            match server.dialer().dial(node, Target::Address(&self.authority)).await {
                Ok(stream) => return Ok(stream),
                Err(DialError::Refused(why)) => return Err(why),
                // This machine may have a way of its own to the pods' network.
                Err(DialError::Unreachable(why)) => tracing::debug!(node, why, "no way through the node"),
            }
        }
        let stream = TcpStream::connect(&self.authority).await;
        let stream = stream.map_err(|e| format!("dial tcp {}: connect: {e}", self.authority))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Box::new(stream))
    }
}

/// What is ready behind a port of a Service, in an order that differs from call to call; never empty.
pub(crate) async fn resolve(
    server: &ApiServer,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<Backend>, String> {
    let found = server.store().read("", "services", namespace, name).await.map_err(|s| s.message)?;
    let service = found.ok_or_else(|| format!("service {name:?} not found"))?.object;
    if meta::text(&service, &["spec", "type"]) == "ExternalName" {
        return Ok(vec![Backend::of_url(meta::text(&service, &["spec", "externalName"]), port)]);
    }
    let Some(named) = port_of(&service, port) else {
        return Err(format!("no service port {port} found for service {name:?}"));
    };
    let slices = slices(server, namespace, name).await?;
    let mut ready: Vec<Backend> = slices.iter().flat_map(|slice| endpoints(slice, named)).collect();
    if ready.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    let first = random::bytes::<1>().map_or(0, |b| usize::from(b[0])) % ready.len();
    ready.rotate_left(first);
    Ok(ready)
}

/// The name of a Service's port with this number.
pub(crate) fn port_of(service: &Value, port: u16) -> Option<&str> {
    let with = |p: &&Value| p.get("port").and_then(Value::as_u64) == Some(u64::from(port));
    items(service, &["spec", "ports"]).iter().find(with).map(|p| meta::text(p, &["name"]))
}

/// The EndpointSlices of a Service.
pub(crate) async fn slices(server: &ApiServer, namespace: &str, name: &str) -> Result<Vec<Value>, String> {
    let page = server.storage().list(&format!("{SLICES}{namespace}/"), ListOptions::default()).await;
    let records = page.map_err(|e| e.to_string())?.records;
    let slices = records.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.value).ok());
    Ok(slices.filter(|s| meta::labels(s).get("kubernetes.io/service-name") == Some(&name)).collect())
}

/// The ready addresses of a slice, with the number of the port of this name.
fn endpoints(slice: &Value, port: &str) -> Vec<Backend> {
    let named = items(slice, &["ports"]).iter().find(|p| meta::text(p, &["name"]) == port);
    let Some(number) = named.and_then(|p| p.get("port")).and_then(Value::as_u64) else { return Vec::new() };
    let ready = |e: &&Value| meta::at(e, &["conditions", "ready"]) != Some(&Value::Bool(false));
    let of = |e: &Value| {
        let node = meta::text(e, &["nodeName"]).to_owned();
        let addresses = meta::strings(e.get("addresses"));
        addresses.into_iter().map(|a| Backend::new(&node, a, number)).collect::<Vec<_>>()
    };
    items(slice, &["endpoints"]).iter().filter(ready).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_are_the_ready_addresses_of_the_named_port() {
        let slice = json!({
            "ports": [{"name": "web", "port": 8443}, {"name": "open"}],
            "endpoints": [
                {"addresses": ["10.42.0.5"], "nodeName": "pi", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.6"], "conditions": {"ready": false}},
                {"addresses": ["fd00::7"]},
            ],
        });
        let expected = vec![
            Backend { node: Some("pi".into()), authority: "10.42.0.5:8443".into() },
            Backend { node: None, authority: "[fd00::7]:8443".into() },
        ];
        assert_eq!(endpoints(&slice, "web"), expected);
        assert_eq!((endpoints(&slice, "open").len(), endpoints(&slice, "other").len()), (0, 0));
    }
}
