//! The keys of `node.toml`, one row each.

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A string.
    Text,
    /// A string, with commas where there are several, or an array of strings.
    TextOrList,
    /// `true` or `false`.
    Switch,
    /// An array of strings.
    TextList,
    /// A table whose keys are free and whose values are strings.
    TextMap,
    /// A table with these keys.
    Table(&'static [Field]),
    /// An array of tables with these keys, written `[[...]]`.
    Tables(&'static [Field]),
}

impl Kind {
    /// The type with its article, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Integer => "a whole number",
            Kind::Text => "a string",
            Kind::TextOrList => "a string or an array of strings",
            Kind::Switch => "true or false",
            Kind::TextList => "an array of strings",
            Kind::TextMap => "a table of strings",
            Kind::Table(_) => "a table",
            Kind::Tables(_) => "an array of tables, written with [[ ]]",
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key itself, without its table.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is for, in a line.
    pub about: &'static str,
}

const fn field(key: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { key, kind, about }
}

/// The newest format version this crate knows.
pub const VERSION: u32 = 1;

/// The top of the file.
pub const ROOT: &[Field] = &[
    field("version", Kind::Integer, "format of this file; 1"),
    field("node", Kind::Table(NODE), "this node"),
    field("cluster", Kind::Table(CLUSTER), "the cluster that an agent joins"),
    field("server", Kind::Table(SERVER), "the cluster that a server makes"),
    field("network", Kind::Table(NETWORK), "network interfaces"),
    field("time", Kind::Table(TIME), "where the clock is set from"),
    field("console", Kind::Table(CONSOLE), "screen and serial console"),
];

const NODE: &[Field] = &[
    field("name", Kind::Text, "name of the node; absent: kiln- and the last 8 hex digits of the board id"),
    field("role", Kind::Text, "\"server\" or \"agent\""),
    field("labels", Kind::TextMap, "labels that the node registers with"),
    field("taints", Kind::TextList, "taints that a new node registers with, KEY=VALUE:EFFECT"),
    field("addresses", Kind::TextList, "addresses by which others reach the node; absent: that of the default route"),
    field("kubelet", Kind::TextMap, "settings of the kubelet by its flags' names, such as max-pods = \"40\""),
];

const CLUSTER: &[Field] = &[
    field("server", Kind::Text, "URL of the server, or \"discover\" to find it by mDNS"),
    field("token", Kind::Text, "join token, K10<hash of the CA>::<id>:<secret>"),
];

const SERVER: &[Field] = &[
    field("port", Kind::Integer, "TCP port of the API; 6443"),
    field("tls-sans", Kind::TextList, "further names and addresses in the server's certificate"),
    field("cluster-cidr", Kind::TextOrList, "addresses of pods, of IPv4, IPv6 or both; 10.42.0.0/16"),
    field("service-cidr", Kind::TextOrList, "addresses of services, of IPv4, IPv6 or both; 10.43.0.0/16"),
    field("flannel-backend", Kind::Text, "way between nodes' pods: vxlan, host-gw, wireguard or none; vxlan"),
];

const NETWORK: &[Field] =
    &[field("interface", Kind::Tables(INTERFACE), "an interface; none at all: DHCP on every Ethernet interface")];

const INTERFACE: &[Field] = &[
    field("match", Kind::Text, "kernel name, a trailing * allowed, or MAC address"),
    field("method", Kind::Text, "\"dhcp\", \"static\" or \"none\""),
    field("address", Kind::TextOrList, "address with prefix length, or one of each family, for static"),
    field("gateway", Kind::TextOrList, "default route, or one of each family, for static"),
    field("dns", Kind::TextList, "addresses of name servers"),
];

const TIME: &[Field] = &[field("servers", Kind::TextList, "SNTP servers; [] turns SNTP off")];

const CONSOLE: &[Field] = &[field("shell", Kind::Switch, "a shell on the console, in images with the debug overlay")];

/// The row for a dotted key such as `node.name` or `network.interface.0.address`; `None` where there is no such key.
///
/// Below a [`Kind::TextMap`] every rest is one free key (`node.labels.example.org/zone`).
pub fn lookup(dotted: &str) -> Option<Kind> {
    let mut fields = ROOT;
    let mut rest = dotted;
    loop {
        let (head, tail) = rest.split_once('.').map_or((rest, None), |(h, t)| (h, Some(t)));
        let kind = fields.iter().find(|f| f.key == head)?.kind;
        match (kind, tail) {
            (kind, None) => return Some(kind),
            (Kind::TextMap, Some(key)) => return (!key.is_empty()).then_some(Kind::Text),
            (Kind::Table(inner), Some(tail)) => {
                fields = inner;
                rest = tail;
            }
            (Kind::Tables(inner), Some(tail)) => {
                let (index, tail) = tail.split_once('.').map_or((tail, None), |(i, t)| (i, Some(t)));
                index.parse::<usize>().ok()?;
                let Some(tail) = tail else {
                    return Some(Kind::Table(inner));
                };
                fields = inner;
                rest = tail;
            }
            (_, Some(_)) => return None,
        }
    }
}
