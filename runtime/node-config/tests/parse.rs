//! What `node.toml` may say, and how a wrong one is refused.

use kiln_node_config::{Method, NodeConfig, Role, ServerAddress, default_name};

const TOKEN: &str = "K100000000000000000000000000000000000000000000000000000000000000abc::abc123:0123456789abcdef";

fn error(text: &str) -> String {
    NodeConfig::parse(text, "node.toml").expect_err("a fault").to_string()
}

fn agent(rest: &str) -> String {
    format!("version = 1\n[node]\nrole = \"agent\"\n[cluster]\nserver = \"discover\"\ntoken = \"{TOKEN}\"\n{rest}")
}

fn server(rest: &str) -> String {
    format!("version = 1\n[node]\nrole = \"server\"\n{rest}")
}

#[test]
fn the_documented_samples_are_valid() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("node-") && name.ends_with(".toml") {
            NodeConfig::parse(&std::fs::read_to_string(&path).unwrap(), &name).unwrap();
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} samples");
}

#[test]
fn an_agent_has_its_server_and_token_and_defaults_for_the_rest() {
    let config = NodeConfig::parse(&agent(""), "node.toml").unwrap();
    assert_eq!(config.node.role, Role::Agent);
    let cluster = config.cluster.as_ref().unwrap();
    assert_eq!(cluster.server, ServerAddress::Discover);
    assert_eq!(cluster.token.as_ref().unwrap().to_string(), TOKEN);
    assert_eq!(config.time.servers, ["pool.ntp.org"]);
    assert!(config.server.is_none() && config.network.interface.is_empty() && !config.console.shell);
}

#[test]
fn an_agent_whose_token_was_scrubbed_is_still_valid() {
    let config =
        NodeConfig::parse("version = 1\nnode.role = \"agent\"\ncluster.server = \"https://a:1\"", "x").unwrap();
    assert!(config.cluster.unwrap().token.is_none());
}

#[test]
fn a_server_has_defaults_for_everything() {
    let server = NodeConfig::parse(&server(""), "node.toml").unwrap().server.unwrap();
    assert_eq!((server.port, server.cluster_cidr.to_string()), (6443, "10.42.0.0/16".to_owned()));
    assert_eq!(server.service_cidr.to_string(), "10.43.0.0/16");
}

#[test]
fn ranges_are_of_one_family_or_of_both_in_any_order() {
    let rows = [
        ("\"10.1.0.0/16\"", "\"10.2.0.0/16\"", "10.1.0.0/16", "10.2.0.0/16"),
        (
            "\"10.1.0.0/16,fd00:1::/56\"",
            "\"10.2.0.0/16, fd00:2::/112\"",
            "10.1.0.0/16,fd00:1::/56",
            "10.2.0.0/16,fd00:2::/112",
        ),
        (
            "[\"fd00:1::/56\", \"10.1.0.0/16\"]",
            "[\"fd00:2::/112\", \"10.2.0.0/16\"]",
            "fd00:1::/56,10.1.0.0/16",
            "fd00:2::/112,10.2.0.0/16",
        ),
        ("\"fd00:1::/56\"", "[\"fd00:2::/112\"]", "fd00:1::/56", "fd00:2::/112"),
        ("\"10.1.0.0/16,fd00:1::/56\"", "\"fd00:2::/112\"", "10.1.0.0/16,fd00:1::/56", "fd00:2::/112"),
    ];
    for (pods, services, cluster_cidr, service_cidr) in rows {
        let text = server(&format!("[server]\ncluster-cidr = {pods}\nservice-cidr = {services}"));
        let server = NodeConfig::parse(&text, "node.toml").unwrap().server.unwrap();
        let found = (server.cluster_cidr.to_string(), server.service_cidr.to_string());
        assert_eq!(found, (cluster_cidr.to_owned(), service_cidr.to_owned()));
    }
}

#[test]
fn a_node_may_say_its_taints_and_addresses() {
    let text = server("").replace(
        "role",
        "taints = [\"example.org/shop=till:NoSchedule\", \"busy:NoExecute\"]\naddresses = [\"192.168.77.1\", \"fd00::1\"]\nrole",
    );
    let node = NodeConfig::parse(&text, "node.toml").unwrap().node;
    let taints: Vec<_> = node.taints.iter().map(|t| (t.key.as_str(), t.value.as_str(), t.effect.as_str())).collect();
    assert_eq!(taints, [("example.org/shop", "till", "NoSchedule"), ("busy", "", "NoExecute")]);
    assert_eq!(node.addresses, ["192.168.77.1".parse::<std::net::IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
}

#[test]
fn a_node_without_a_name_is_called_after_its_board() {
    let config = NodeConfig::parse(&agent(""), "node.toml").unwrap();
    assert_eq!(config.node_name(&"0123456789abcdef".repeat(4)), "kiln-89abcdef");
    assert_eq!(default_name("89ABCDEF"), "kiln-89abcdef");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_right_one() {
    let text = agent("[[network.interface]]\nmatch = \"eth0\"\nmethod = \"static\"\n  adress = \"1.2.3.4/24\"\n");
    assert_eq!(error(&text), "node.toml:10:3: unknown key `adress`; did you mean `address`?");
    assert_eq!(error("version = 1\n[noed]\n"), "node.toml:2:2: unknown key `noed`; did you mean `node`?");
    assert_eq!(
        error(&server("[time]\nwhatever-else = 1\n")),
        "node.toml:5:1: unknown key `whatever-else`; [time] takes `servers`"
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_place() {
    assert_eq!(
        error(&server("[server]\nport = \"6443\"")),
        "node.toml:5:8: `server.port` takes a whole number, not a string"
    );
    assert_eq!(
        error(&server("[time]\nservers = [\"a\", 7]")),
        "node.toml:5:17: `time.servers[1]` takes a string, not a whole number"
    );
    assert!(error(&server("[console]\nshell = \"yes\"")).contains("takes true or false, not a string"));
    assert!(error(&server("[network]\ninterface = 3")).contains("takes an array of tables"));
}

#[test]
fn a_wrong_value_is_refused_with_its_place() {
    for (text, part) in [
        (server("[server]\nport = 0"), "5:8: `server.port`: a port is a number from 1 to 65535"),
        (server("[server]\ncluster-cidr = \"10.42.1.0/16\""), "write 10.42.0.0/16"),
        (
            server("").replace("role", "labels = { \"node-role.kubernetes.io/x\" = \"\" }\nrole"),
            "can't give itself this label",
        ),
        (
            server("[server]\ncluster-cidr = \"fd00::/56\""),
            "5:16: `server.cluster-cidr`: pods' fd00::/56 and services' 10.43",
        ),
        (server("[server]\ncluster-cidr = \"fd00::/96\""), "take one from 48 to 64"),
        (server("[server]\nservice-cidr = [\"10.43.0.0/16\", \"fd00::/56\"]"), "5:33: `server.service-cidr[1]`"),
        (server("[server]\ncluster-cidr = [\"10.1.0.0/16\", \"10.2.0.0/16\"]"), "write one, or one of IPv4 and one of"),
        (server("[server]\ncluster-cidr = []"), "write one, or one of IPv4 and one of"),
        (server("[server]\ncluster-cidr = 10"), "takes a string or an array of strings, not a whole number"),
        (
            server("[server]\ncluster-cidr = \"10.42.0.0/16,fd00::/56\"\nservice-cidr = \"10.43.0.0/16,fd00::/112\""),
            "pods' fd00::/56 and services' fd00::/112 overlap",
        ),
        (server("[server]\ncluster-cidr = \"10.42.0.0/25\""), "take one from 8 to 24"),
        (server("[server]\nservice-cidr = \"10.42.128.0/17\""), "overlap"),
        (
            server("[server]\nflannel-backend = \"udp\""),
            "5:19: `server.flannel-backend`: `udp` is none of vxlan, host-gw",
        ),
        (server("[server]\ntls-sans = [\"https://a\"]"), "5:13: `server.tls-sans[0]`"),
        (server("").replace("role", "name = \"Pi_1\"\nrole"), "3:8: `node.name`: `Pi_1` is no node name"),
        (server("").replace("role", "taints = [\"till\"]\nrole"), "3:11: `node.taints[0]`: `till` is no taint"),
        (server("").replace("role", "addresses = [\"here\"]\nrole"), "3:14: `node.addresses[0]`"),
        (server("").replace("server", "master"), "`master` is no role; write \"server\" or \"agent\""),
        (server("").replace("role", "labels = { \"a/b/c\" = \"x\" }\nrole"), "3:12: `node.labels.a/b/c`"),
        (agent("").replace("discover", "http://x"), "5:10: `cluster.server`: a server's URL starts with https://"),
        (agent("").replace("K10", "K9"), "6:9: `cluster.token`: a join token starts with `K10`"),
        (agent("[[network.interface]]\nmatch = \"eth0\"\nmethod = \"bootp\""), "`bootp` is no method"),
        (
            agent("[[network.interface]]\nmatch = \"eth0\"\nmethod = \"static\""),
            "`network.interface.address` is missing",
        ),
        (
            agent("[[network.interface]]\nmatch = \"eth0\"\nmethod = \"dhcp\"\ngateway = \"1.1.1.1\""),
            "only method \"static\" takes it",
        ),
        (
            agent(
                "[[network.interface]]\nmatch = \"eth0\"\nmethod = \"static\"\naddress = \"192.168.1.3/24\"\ngateway = \"192.168.2.1\"",
            ),
            "can't be reached from 192.168.1.3/24",
        ),
    ] {
        let error = error(&text);
        assert!(error.contains(part), "{error}\nshould hold: {part}");
    }
}

#[test]
fn the_secret_of_a_wrong_token_is_not_repeated() {
    assert!(!error(&agent("").replace("::abc123:", ":abc123:")).contains("0123456789abcdef"));
}

#[test]
fn the_version_is_needed_and_a_later_one_asks_for_a_newer_image() {
    assert_eq!(
        error("[node]\nrole = \"server\"\n"),
        "node.toml:1:1: `version` is missing: write `version = 1` as the first line"
    );
    let newer = error("version = 2\n[frobnicate]\n");
    assert!(newer.starts_with("node.toml:1:11: `version` is 2") && newer.contains("update the image"), "{newer}");
    assert!(error("version = 0").contains("there is no version 0"));
}

#[test]
fn sections_of_the_other_role_are_refused() {
    assert!(error(&agent("[server]\nport = 1")).starts_with("node.toml:7:2: `[server]` is for a server"));
    let text = server("[cluster]\nserver = \"https://127.0.0.1:6443\"");
    assert!(error(&text).starts_with("node.toml:4:2: `[cluster]` says which server an agent joins"));
    assert!(error("version = 1\nnode.role = \"agent\"").contains("`cluster.server` is missing"));
}

#[test]
fn broken_toml_is_refused_with_its_place() {
    assert!(error("version = 1\n[node\n").starts_with("node.toml:2:"));
    assert!(error("version = 1\nversion = 1\n").starts_with("node.toml:2:1: "));
}

#[test]
fn a_static_interface_is_read_in_full() {
    let text = agent(
        "[[network.interface]]\nmatch = \"en*\"\nmethod = \"static\"\naddress = \"192.168.77.3/24\"\ngateway = \"192.168.77.1\"\ndns = [\"1.1.1.1\"]\n[[network.interface]]\nmatch = \"eth0\"\nmethod = \"none\"",
    );
    let network = NodeConfig::parse(&text, "node.toml").unwrap().network;
    let row = network.for_interface("enp0s1", None).unwrap();
    assert_eq!((row.method, row.address.unwrap().to_string()), (Method::Static, "192.168.77.3/24".to_owned()));
    assert_eq!(network.for_interface("eth0", None).unwrap().method, Method::None);
    assert!(network.for_interface("wlan0", None).is_none());
}

#[test]
fn a_static_interface_may_have_an_address_and_a_gateway_of_each_family() {
    let text = |gateway: &str| {
        agent(&format!(
            "[[network.interface]]\nmatch = \"eth0\"\nmethod = \"static\"\naddress = [\"192.168.77.3/24\", \"fd00::3/64\"]\ngateway = {gateway}",
        ))
    };
    for (gateway, shown) in [
        ("\"fd00::1\"", "fd00::1"),
        ("\"192.168.77.1,fe80::1\"", "192.168.77.1,fe80::1"),
        ("[\"fd00::1\", \"192.168.77.1\"]", "fd00::1,192.168.77.1"),
    ] {
        let network = NodeConfig::parse(&text(gateway), "node.toml").unwrap().network;
        let row = network.for_interface("eth0", None).unwrap();
        assert_eq!(row.address.unwrap().to_string(), "192.168.77.3/24,fd00::3/64");
        assert_eq!(row.gateway.unwrap().to_string(), shown);
    }
    assert!(error(&text("[\"192.168.77.1\", \"fd01::1\"]")).contains("`fd01::1` can't be reached from fd00::3/64"));
    assert!(error(&text("[\"fd00::1\", \"fd00::2\"]")).contains("write one, or one of IPv4 and one of IPv6"));
}

#[test]
fn a_node_may_say_where_it_stands_in_kubernetes_own_words() {
    let text = server("").replace(
        "role",
        "labels = { \"topology.kubernetes.io/zone\" = \"shop\", \"node.kubernetes.io/x\" = \"y\" }\nrole",
    );
    assert_eq!(NodeConfig::parse(&text, "node.toml").unwrap().node.labels.len(), 2);
}
