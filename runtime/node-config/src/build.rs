//! From a file whose keys and types are right to a [`NodeConfig`]: every value, then what belongs together.

use toml::de::DeTable;

use crate::decode::{Fault, integer, wrong};
use crate::section::{Section, section};
use crate::types::{Cluster, Console, Interface, Method, Network, Node, NodeConfig, Role, Server, ServerAddress, Time};
use crate::{PerFamily, Problem, validate};

/// The configuration of a file whose keys and types are right.
pub(crate) fn config(version: u32, root: &DeTable<'_>) -> Result<NodeConfig, Fault> {
    let [cluster, server] = ["cluster", "server"].map(|name| section(root, name));
    let [time, console] = ["time", "console"].map(|name| section(root, name));
    let node = node(&section(root, "node"))?;
    let (cluster, server) = match node.role {
        Role::Agent => {
            if server.table.is_some() {
                let why = "`[server]` is for a server, and `node.role` is \"agent\"; remove `[server]`, or set the role to \"server\"";
                return Err((server.at..server.at, Problem::Conflict(why.to_owned())));
            }
            (Some(self::cluster(&cluster)?), None)
        }
        Role::Server => {
            if cluster.table.is_some() {
                let why = "`[cluster]` says which server an agent joins, and `node.role` is \"server\", which makes its own cluster; remove `[cluster]`, or set the role to \"agent\"";
                return Err((cluster.at..cluster.at, Problem::Conflict(why.to_owned())));
            }
            (None, Some(self::server(&server)?))
        }
    };
    let time =
        Time { servers: time.parsed_list("servers", validate::host)?.unwrap_or_else(|| Time::default().servers) };
    let console = Console { shell: console.get("shell").and_then(|v| v.get_ref().as_bool()).unwrap_or(false) };
    Ok(NodeConfig { version, node, cluster, server, network: network(&section(root, "network"))?, time, console })
}

fn node(s: &Section<'_>) -> Result<Node, Fault> {
    let role = s.parsed("role", |text| match text {
        "server" => Ok(Role::Server),
        "agent" => Ok(Role::Agent),
        other => Err(format!("`{other}` is no role; write \"server\" or \"agent\"")),
    })?;
    let Some(role) = role else {
        return Err(s.missing("role", "write role = \"server\" or role = \"agent\" below [node]"));
    };
    let name = s.parsed("name", validate::node_name)?;
    let mut labels = std::collections::BTreeMap::new();
    if let Some(table) = s.get("labels").and_then(|v| v.get_ref().as_table()) {
        for (key, value) in table {
            let text = value.get_ref().as_str().unwrap_or_default();
            let dotted = format!("node.labels.{}", key.get_ref());
            validate::label_key(key.get_ref()).map_err(|why| (key.span(), wrong(&dotted, why)))?;
            validate::label_value(text).map_err(|why| (value.span(), wrong(&dotted, why)))?;
            labels.insert(key.get_ref().to_string(), text.to_owned());
        }
    }
    let taints = s.parsed_list("taints", validate::taint)?.unwrap_or_default();
    let addresses = s.parsed_list("addresses", validate::ip)?.unwrap_or_default();
    let mut kubelet = std::collections::BTreeMap::new();
    if let Some(table) = s.get("kubelet").and_then(|v| v.get_ref().as_table()) {
        for (name, value) in table {
            kubelet.insert(name.get_ref().to_string(), value.get_ref().as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(Node { name, role, labels, taints, addresses, kubelet })
}

fn cluster(s: &Section<'_>) -> Result<Cluster, Fault> {
    let server = s.parsed("server", |text| match text {
        "discover" => Ok(ServerAddress::Discover),
        url => url.parse().map(ServerAddress::Url),
    })?;
    let Some(server) = server else {
        let why = "an agent needs to know its server; write server = \"https://192.168.1.10:6443\", or \"discover\", below [cluster]";
        return Err(s.missing("server", why));
    };
    Ok(Cluster { server, token: s.parsed("token", crate::Token::parse)? })
}

fn server(s: &Section<'_>) -> Result<Server, Fault> {
    let mut server = Server::default();
    if let Some(port) = s.get("port").and_then(|v| integer(v.get_ref())) {
        let port = u16::try_from(port).ok().filter(|p| *p > 0);
        server.port = port.ok_or_else(|| s.fault("port", "a port is a number from 1 to 65535"))?;
    }
    if let Some(sans) = s.parsed_list("tls-sans", validate::san)? {
        server.tls_sans = sans;
    }
    if let Some(ranges) = s.per_family("cluster-cidr", validate::cluster_range)? {
        server.cluster_cidr = ranges;
    }
    if let Some(ranges) = s.per_family("service-cidr", validate::service_range)? {
        server.service_cidr = ranges;
    }
    if let Some(backend) = s.parsed("flannel-backend", validate::backend)? {
        server.flannel_backend = backend;
    }
    validate::networks(server.cluster_cidr, server.service_cidr).map_err(|why| {
        let key = if s.get("service-cidr").is_some() { "service-cidr" } else { "cluster-cidr" };
        s.fault(key, why)
    })?;
    Ok(server)
}

fn network(s: &Section<'_>) -> Result<Network, Fault> {
    let Some(rows) = s.get("interface").and_then(|v| v.get_ref().as_array()) else {
        return Ok(Network::default());
    };
    let mut interface: Vec<Interface> = Vec::new();
    for row in rows {
        let s = Section { name: "network.interface", table: row.get_ref().as_table(), at: row.span().start };
        let new = self::interface(&s)?;
        if let Some(earlier) = interface.iter().find(|i| i.matches == new.matches) {
            return Err(s.fault("match", format!("`{}` has a table already; the first one would win", earlier.matches)));
        }
        interface.push(new);
    }
    Ok(Network { interface })
}

fn interface(s: &Section<'_>) -> Result<Interface, Fault> {
    let Some(matches) = s.parsed("match", str::parse)? else {
        return Err(s.missing("match", "say which interface is meant, as match = \"eth0\" or match = \"en*\""));
    };
    let method = s.parsed("method", |text| match text {
        "dhcp" => Ok(Method::Dhcp),
        "static" => Ok(Method::Static),
        "none" => Ok(Method::None),
        other => Err(format!("`{other}` is no method; write \"dhcp\", \"static\" or \"none\"")),
    })?;
    let Some(method) = method else {
        return Err(s.missing("method", "write method = \"dhcp\", \"static\" or \"none\""));
    };
    let address = s.per_family("address", validate::interface_address)?;
    let gateway = s.per_family("gateway", validate::ip)?;
    let dns = s.parsed_list("dns", validate::ip)?.unwrap_or_default();
    match (method, address) {
        (Method::Static, None) => {
            return Err(s.missing("address", "method \"static\" needs one, as address = \"192.168.77.3/24\""));
        }
        (Method::Static, Some(addresses)) => {
            for gateway in gateway.into_iter().flat_map(PerFamily::iter) {
                let address = addresses.like(&gateway).unwrap_or(addresses.first());
                validate::gateway(address, gateway).map_err(|why| s.fault("gateway", why))?;
            }
        }
        (Method::Dhcp | Method::None, _) => {
            for key in ["address", "gateway"] {
                if s.get(key).is_some() {
                    return Err(s.fault(
                        key,
                        "only method \"static\" takes it; set the method to \"static\" or remove the line",
                    ));
                }
            }
        }
    }
    Ok(Interface { matches, method, address, gateway, dns })
}
