//! From text to a [`NodeConfig`]: first every key and type against the schema, then every value, then what belongs together.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{nearest, position};
use crate::schema::{Field, Kind, ROOT, VERSION};
use crate::types::{
    Cluster, Console, Interface, Method, Network, Node, NodeConfig, Role, Server, ServerAddress,
    Time,
};
use crate::{ConfigError, Problem, validate};

/// A fault and the bytes it is about.
pub(crate) type Fault = (Range<usize>, Problem);

/// See [`NodeConfig::parse`].
pub(crate) fn parse(text: &str, source_name: &str) -> Result<NodeConfig, ConfigError> {
    decode(text).map_err(|(span, problem)| {
        let (line, column) = position(text, span.start);
        ConfigError {
            file: source_name.to_owned(),
            line,
            column,
            problem,
        }
    })
}

fn decode(text: &str) -> Result<NodeConfig, Fault> {
    let root = DeTable::parse(text).map_err(|e| {
        (
            e.span().unwrap_or(0..0),
            Problem::Syntax(e.message().replace('\n', "; ")),
        )
    })?;
    let root = root.get_ref();
    // The version comes before all else: a later format's keys are not this one's mistakes.
    let version = version(root)?;
    check(root, ROOT, "")?;
    let sections = Sections {
        node: section(root, "node"),
        cluster: section(root, "cluster"),
        server: section(root, "server"),
        network: section(root, "network"),
        time: section(root, "time"),
        console: section(root, "console"),
    };
    build(version, &sections)
}

fn version(root: &DeTable<'_>) -> Result<u32, Fault> {
    let Some((_, value)) = root.iter().find(|(k, _)| k.get_ref() == "version") else {
        let why = "write `version = 1` as the first line".to_owned();
        return Err((
            0..0,
            Problem::Missing {
                key: "version".to_owned(),
                why,
            },
        ));
    };
    let Some(found) = integer(value.get_ref()) else {
        let found = type_name(value.get_ref());
        return Err((
            value.span(),
            Problem::WrongType {
                key: "version".to_owned(),
                wanted: Kind::Integer.name(),
                found,
            },
        ));
    };
    match u32::try_from(found) {
        Ok(found) if found == VERSION => Ok(found),
        Ok(found) if found > VERSION => Err((
            value.span(),
            Problem::NewerVersion {
                found: found.into(),
                known: VERSION,
            },
        )),
        _ => Err((
            value.span(),
            wrong(
                "version",
                format!("there is no version {found}; write {VERSION}"),
            ),
        )),
    }
}

/// Every key of `table` must be a row of `fields` and hold that row's type.
fn check(table: &DeTable<'_>, fields: &[Field], path: &str) -> Result<(), Fault> {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let Some(field) = fields.iter().find(|f| f.key == name) else {
            let valid: Vec<&'static str> = fields.iter().map(|f| f.key).collect();
            let table = if path.is_empty() {
                String::new()
            } else {
                format!("[{path}]")
            };
            let nearest = nearest(name, &valid);
            return Err((
                key.span(),
                Problem::UnknownKey {
                    key: name.to_owned(),
                    table,
                    nearest,
                    valid,
                },
            ));
        };
        let dotted = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        check_value(value, field.kind, &dotted)?;
    }
    Ok(())
}

fn check_value(value: &Spanned<DeValue<'_>>, kind: Kind, dotted: &str) -> Result<(), Fault> {
    let wrong = |at: &Spanned<DeValue<'_>>, key: String, wanted: &'static str| {
        Err((
            at.span(),
            Problem::WrongType {
                key,
                wanted,
                found: type_name(at.get_ref()),
            },
        ))
    };
    match (kind, value.get_ref()) {
        (Kind::Integer, DeValue::Integer(_))
        | (Kind::Text, DeValue::String(_))
        | (Kind::Switch, DeValue::Boolean(_)) => Ok(()),
        (Kind::TextList, DeValue::Array(items)) => {
            match items.iter().position(|i| !i.get_ref().is_str()) {
                Some(i) => wrong(&items[i], format!("{dotted}[{i}]"), Kind::Text.name()),
                None => Ok(()),
            }
        }
        (Kind::TextMap, DeValue::Table(entries)) => match entries
            .iter()
            .find(|(_, v)| !v.get_ref().is_str())
        {
            Some((key, v)) => wrong(v, format!("{dotted}.{}", key.get_ref()), Kind::Text.name()),
            None => Ok(()),
        },
        (Kind::Table(fields), DeValue::Table(inner)) => check(inner, fields, dotted),
        (Kind::Tables(fields), DeValue::Array(items)) => {
            for item in items {
                match item.get_ref() {
                    DeValue::Table(inner) => check(inner, fields, dotted)?,
                    _ => return wrong(item, dotted.to_owned(), Kind::Table(fields).name()),
                }
            }
            Ok(())
        }
        _ => wrong(value, dotted.to_owned(), kind.name()),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// A table of the file, known to match the schema, with where its name stands.
#[derive(Clone, Copy)]
struct Section<'a> {
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    at: usize,
}

struct Sections<'a> {
    node: Section<'a>,
    cluster: Section<'a>,
    server: Section<'a>,
    network: Section<'a>,
    time: Section<'a>,
    console: Section<'a>,
}

fn section<'a>(root: &'a DeTable<'a>, name: &'static str) -> Section<'a> {
    let entry = root.iter().find(|(k, _)| k.get_ref() == name);
    Section {
        name,
        table: entry.and_then(|(_, v)| v.get_ref().as_table()),
        at: entry.map_or(0, |(k, _)| k.span().start),
    }
}

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map(|(_, v)| v)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.get_ref().as_str()
    }

    fn list(&self, key: &str) -> Option<Vec<(&'a str, Range<usize>)>> {
        let items = self.get(key)?.get_ref().as_array()?;
        Some(
            items
                .iter()
                .filter_map(|i| Some((i.get_ref().as_str()?, i.span())))
                .collect(),
        )
    }

    fn dotted(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// Where `key` is written, or else the section.
    fn span(&self, key: &str) -> Range<usize> {
        self.get(key).map_or(self.at..self.at, Spanned::span)
    }

    fn fault(&self, key: &str, why: impl Into<String>) -> Fault {
        (self.span(key), wrong(&self.dotted(key), why.into()))
    }

    fn missing(&self, key: &str, why: &str) -> Fault {
        (
            self.at..self.at,
            Problem::Missing {
                key: self.dotted(key),
                why: why.to_owned(),
            },
        )
    }

    /// The value through `read`; its error becomes a fault at the value.
    fn parsed<T, E: ToString>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Fault> {
        self.text(key)
            .map(|text| read(text).map_err(|e| self.fault(key, e.to_string())))
            .transpose()
    }

    /// Every item of a list through `read`.
    fn parsed_list<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let Some(items) = self.list(key) else {
            return Ok(None);
        };
        let read_item = |(i, (text, span)): (usize, (&str, Range<usize>))| {
            read(text).map_err(|why| (span, wrong(&format!("{}[{i}]", self.dotted(key)), why)))
        };
        items
            .into_iter()
            .enumerate()
            .map(read_item)
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

fn wrong(key: &str, why: String) -> Problem {
    Problem::WrongValue {
        key: key.to_owned(),
        why,
    }
}

fn build(version: u32, s: &Sections<'_>) -> Result<NodeConfig, Fault> {
    let node = node(&s.node)?;
    let (cluster, server) = match node.role {
        Role::Agent => {
            if s.server.table.is_some() {
                let why = "`[server]` is for a server, and `node.role` is \"agent\"; remove `[server]`, or set the role to \"server\"";
                return Err((s.server.at..s.server.at, Problem::Conflict(why.to_owned())));
            }
            (Some(self::cluster(&s.cluster)?), None)
        }
        Role::Server => {
            if s.cluster.table.is_some() {
                let why = "`[cluster]` says which server an agent joins, and `node.role` is \"server\", which makes its own cluster; remove `[cluster]`, or set the role to \"agent\"";
                return Err((
                    s.cluster.at..s.cluster.at,
                    Problem::Conflict(why.to_owned()),
                ));
            }
            (None, Some(self::server(&s.server)?))
        }
    };
    let time = Time {
        servers: s
            .time
            .parsed_list("servers", validate::host)?
            .unwrap_or_else(|| Time::default().servers),
    };
    let console = Console {
        shell: s
            .console
            .get("shell")
            .and_then(|v| v.get_ref().as_bool())
            .unwrap_or(false),
    };
    Ok(NodeConfig {
        version,
        node,
        cluster,
        server,
        network: network(&s.network)?,
        time,
        console,
    })
}

fn node(s: &Section<'_>) -> Result<Node, Fault> {
    let role = s.parsed("role", |text| match text {
        "server" => Ok(Role::Server),
        "agent" => Ok(Role::Agent),
        other => Err(format!(
            "`{other}` is no role; write \"server\" or \"agent\""
        )),
    })?;
    let Some(role) = role else {
        return Err(s.missing(
            "role",
            "write role = \"server\" or role = \"agent\" below [node]",
        ));
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
    Ok(Node { name, role, labels })
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
    Ok(Cluster {
        server,
        token: s.parsed("token", crate::Token::parse)?,
    })
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
    if let Some(range) = s.parsed("cluster-cidr", validate::range)? {
        server.cluster_cidr = range;
    }
    if let Some(range) = s.parsed("service-cidr", validate::range)? {
        server.service_cidr = range;
    }
    if server.cluster_cidr.overlaps(server.service_cidr) {
        let key = if s.get("service-cidr").is_some() {
            "service-cidr"
        } else {
            "cluster-cidr"
        };
        let why = format!(
            "pods' {} and services' {} overlap; choose two apart",
            server.cluster_cidr, server.service_cidr
        );
        return Err(s.fault(key, why));
    }
    Ok(server)
}

fn network(s: &Section<'_>) -> Result<Network, Fault> {
    let Some(rows) = s.get("interface").and_then(|v| v.get_ref().as_array()) else {
        return Ok(Network::default());
    };
    let mut interface: Vec<Interface> = Vec::new();
    for row in rows {
        let s = Section {
            name: "network.interface",
            table: row.get_ref().as_table(),
            at: row.span().start,
        };
        let new = self::interface(&s)?;
        if let Some(earlier) = interface.iter().find(|i| i.matches == new.matches) {
            return Err(s.fault(
                "match",
                format!(
                    "`{}` has a table already; the first one would win",
                    earlier.matches
                ),
            ));
        }
        interface.push(new);
    }
    Ok(Network { interface })
}

fn interface(s: &Section<'_>) -> Result<Interface, Fault> {
    let Some(matches) = s.parsed("match", str::parse)? else {
        return Err(s.missing(
            "match",
            "say which interface is meant, as match = \"eth0\" or match = \"en*\"",
        ));
    };
    let method = s.parsed("method", |text| match text {
        "dhcp" => Ok(Method::Dhcp),
        "static" => Ok(Method::Static),
        "none" => Ok(Method::None),
        other => Err(format!(
            "`{other}` is no method; write \"dhcp\", \"static\" or \"none\""
        )),
    })?;
    let Some(method) = method else {
        return Err(s.missing("method", "write method = \"dhcp\", \"static\" or \"none\""));
    };
    let address = s.parsed("address", validate::interface_address)?;
    let gateway = s.parsed("gateway", validate::ip)?;
    let dns = s.parsed_list("dns", validate::ip)?.unwrap_or_default();
    match (method, address) {
        (Method::Static, None) => {
            return Err(s.missing(
                "address",
                "method \"static\" needs one, as address = \"192.168.77.3/24\"",
            ));
        }
        (Method::Static, Some(address)) => {
            if let Some(gateway) = gateway {
                validate::gateway(address, gateway).map_err(|why| s.fault("gateway", why))?;
            }
        }
        (Method::Dhcp | Method::None, _) => {
            for key in ["address", "gateway"] {
                if s.get(key).is_some() {
                    return Err(s.fault(key, "only method \"static\" takes it; set the method to \"static\" or remove the line"));
                }
            }
        }
    }
    Ok(Interface {
        matches,
        method,
        address,
        gateway,
        dns,
    })
}
