//! The checked configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::validate::{self, Taint};
use crate::{Cidr, InterfaceMatch, PerFamily, ServerUrl, Token};

/// A whole `node.toml`, checked. Serialises with its token masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Format of the file; 1.
    pub version: u32,
    /// This node.
    pub node: Node,
    /// The cluster to join; there for an agent, and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// The cluster to make; there for a server (with defaults where nothing is written), and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// Network interfaces.
    pub network: Network,
    /// Where the clock is set from.
    pub time: Time,
    /// Screen and serial console.
    pub console: Console,
}

impl NodeConfig {
    /// Reads and checks a `node.toml`; `source_name` stands at the front of an error.
    ///
    /// # Errors
    /// The first fault in the file, with its place.
    pub fn parse(text: &str, source_name: &str) -> Result<NodeConfig, crate::ConfigError> {
        crate::decode::parse(text, source_name)
    }

    /// The node's name: the one written, or else [`default_name`].
    pub fn node_name(&self, board_id: &str) -> String {
        self.node.name.clone().unwrap_or_else(|| default_name(board_id))
    }
}

/// `kiln-` and the last 8 hex digits of the board id.
pub fn default_name(board_id: &str) -> String {
    let tail: Vec<char> = board_id.chars().rev().filter(char::is_ascii_hexdigit).take(8).collect();
    let tail: String = tail.into_iter().rev().collect();
    format!("kiln-{}", tail.to_ascii_lowercase())
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// RFC 1123 name; absent: see [`NodeConfig::node_name`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What this node is.
    pub role: Role,
    /// Labels to register with.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with, when the node is new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// The node's addresses, at most one of each family; none: the machine knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Settings of the kubelet by its flags' names, as they are written: which there are, the kubelet knows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kubelet: BTreeMap<String, String>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves the API and keeps the cluster's data; is a node too.
    Server,
    /// Joins a server.
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Server => "server",
            Role::Agent => "agent",
        })
    }
}

/// `[cluster]`, for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Where the server is.
    pub server: ServerAddress,
    /// The join token; absent once it was single-use and has been scrubbed after the join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// Where an agent finds its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// At this URL.
    Url(ServerUrl),
    /// By mDNS, checked against the CA hash in the token.
    Discover,
}

impl Serialize for ServerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Url(url) => url.fmt(f),
            ServerAddress::Discover => f.write_str("discover"),
        }
    }
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Server {
    /// TCP port of the API.
    pub port: u16,
    /// Further names and addresses for the certificate.
    pub tls_sans: Vec<String>,
    /// Addresses of pods.
    pub cluster_cidr: PerFamily<Cidr>,
    /// Addresses of services.
    pub service_cidr: PerFamily<Cidr>,
    /// The way between the pods of different nodes, one of [`crate::validate::BACKENDS`].
    pub flannel_backend: String,
}

impl Default for Server {
    fn default() -> Self {
        let range = |second| PerFamily::from(Cidr { address: IpAddr::from([10, second, 0, 0]), prefix: 16 });
        Server {
            port: crate::net::DEFAULT_PORT,
            tls_sans: Vec::new(),
            cluster_cidr: range(42),
            service_cidr: range(43),
            flannel_backend: validate::BACKENDS[0].to_owned(),
        }
    }
}

/// `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Rows in the file's order; the first that matches an interface counts. None at all: DHCP on every Ethernet interface.
    pub interface: Vec<Interface>,
}

impl Network {
    /// The row for an interface; `None` where rows exist and none of them is for it.
    pub fn for_interface(&self, name: &str, mac: Option<[u8; 6]>) -> Option<&Interface> {
        self.interface.iter().find(|i| i.matches.matches(name, mac))
    }
}

/// `[[network.interface]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Which interfaces are meant.
    #[serde(rename = "match")]
    pub matches: InterfaceMatch,
    /// How they get their address.
    pub method: Method,
    /// Own addresses, there for [`Method::Static`] and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<PerFamily<Cidr>>,
    /// Default routes, for [`Method::Static`]; each of a family that has an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Name servers; with DHCP they come before those of the lease.
    pub dns: Vec<IpAddr>,
}

/// How an interface gets its address. IPv6 router advertisements stay on in every case but [`Method::None`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// DHCPv4.
    Dhcp,
    /// From this file.
    Static,
    /// The interface is left alone.
    None,
}

/// `[time]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Time {
    /// SNTP servers in order; empty: SNTP is off.
    pub servers: Vec<String>,
}

impl Default for Time {
    fn default() -> Self {
        Time { servers: vec!["pool.ntp.org".to_owned()] }
    }
}

/// `[console]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Console {
    /// Whether a shell is offered, in images that have the debug overlay.
    pub shell: bool,
}
