//! How a pod resolves names: its `/etc/resolv.conf`.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfigOption};

use super::{NodeContext, PodContext, SpecError, described, host_network, invalid, namespace};
use crate::cri::DnsConfig;

/// What resolvers take at most.
const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_LINE: usize = 2048;
const MOST_DOMAIN: usize = 253;
/// The options of pods that use the cluster's DNS.
const CLUSTER_OPTIONS: &str = "ndots:5";

/// Reason and message of a warning event.
pub type Warning = (&'static str, String);

/// Whose settings a pod begins with.
enum Base {
    Cluster,
    Node,
    Nobody,
}

/// A pod's settings.
pub(super) fn of(pod: &Pod, context: &PodContext) -> Result<DnsConfig, SpecError> {
    Ok(compose(pod, &context.node)?.0)
}

/// What is to be told of a pod's settings.
pub fn warnings(pod: &Pod, context: &PodContext) -> Vec<Warning> {
    compose(pod, &context.node).map(|(_, warnings)| warnings).unwrap_or_default()
}

fn compose(pod: &Pod, node: &NodeContext) -> Result<(DnsConfig, Vec<Warning>), SpecError> {
    let mut warnings = Vec::new();
    let own = of_node(node)?;
    let mut config = match base(pod) {
        Base::Nobody => DnsConfig::default(),
        Base::Cluster if !node.cluster_dns.is_empty() => DnsConfig {
            servers: node.cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches: cluster_searches(pod, node, own.searches),
            options: vec![CLUSTER_OPTIONS.to_owned()],
        },
        base => {
            if let Base::Cluster = base {
                let why = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" \
                           policy. Falling back to \"Default\" policy.";
                warnings.push(("MissingClusterDNS", format!("pod: {:?}. {why}", described(pod))));
            }
            if node.resolv_conf.is_some() { own } else { unresolving(node) }
        }
    };
    if let Some(wanted) = pod.spec.as_ref().and_then(|spec| spec.dns_config.as_ref()) {
        config.servers.extend(wanted.nameservers.iter().flatten().cloned());
        config.searches.extend(wanted.searches.iter().flatten().cloned());
        config.servers = once(config.servers);
        config.searches = once(config.searches);
        merge_options(&mut config.options, wanted.options.as_deref().unwrap_or_default());
    }
    warnings.extend(fit_servers(&mut config.servers).map(|why| ("DNSConfigForming", why)));
    warnings.extend(fit_searches(&mut config.searches).map(|why| ("DNSConfigForming", why)));
    Ok((config, warnings))
}

fn base(pod: &Pod) -> Base {
    match pod.spec.as_ref().and_then(|spec| spec.dns_policy.as_deref()) {
        Some("None") => Base::Nobody,
        Some("Default") => Base::Node,
        Some("ClusterFirst") if host_network(pod) => Base::Node,
        _ => Base::Cluster,
    }
}

fn cluster_searches(pod: &Pod, node: &NodeContext, own: Vec<String>) -> Vec<String> {
    let domain = &node.cluster_domain;
    if domain.is_empty() {
        return own;
    }
    let cluster = [format!("{}.svc.{domain}", namespace(pod)), format!("svc.{domain}"), domain.clone()];
    once(cluster.into_iter().chain(own).collect())
}

/// Settings with which nothing is resolved: a node without any passes none on.
fn unresolving(node: &NodeContext) -> DnsConfig {
    let local = |address: &IpAddr| if address.is_ipv6() { "::1" } else { "127.0.0.1" };
    let mut servers: Vec<String> = node.addresses.iter().map(|address| local(address).to_owned()).collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    DnsConfig { servers, searches: vec![".".to_owned()], options: Vec::new() }
}

fn of_node(node: &NodeContext) -> Result<DnsConfig, SpecError> {
    let Some(path) = &node.resolv_conf else { return Ok(DnsConfig::default()) };
    let text = fs::read_to_string(path).map_err(|error| invalid(format!("open {}: {error}", path.display())))?;
    parse(&text)
}

/// See resolv.conf(5): servers add up, of search lists the last holds, and of an option its last value.
fn parse(text: &str) -> Result<DnsConfig, SpecError> {
    let mut config = DnsConfig::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => match fields.next() {
                Some(server) => config.servers.push(server.to_owned()),
                None => {
                    let why = "Encountered error while parsing resolv conf file. Error: nameserver list is empty ";
                    return Err(invalid(why));
                }
            },
            Some("search") => {
                // With or without a dot at the end it is the same domain.
                let domains = fields.filter(|domain| *domain != ".");
                config.searches = domains.map(|domain| domain.strip_suffix('.').unwrap_or(domain).to_owned()).collect();
            }
            Some("options") => fields.for_each(|option| set_option(&mut config.options, option.to_owned())),
            _ => {}
        }
    }
    Ok(config)
}

fn set_option(options: &mut Vec<String>, option: String) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|known| name(known) == name(&option)) {
        Some(known) => *known = option,
        None => options.push(option),
    }
}

fn merge_options(options: &mut Vec<String>, wanted: &[PodDNSConfigOption]) {
    for option in wanted {
        let name = option.name.clone().unwrap_or_default();
        match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => set_option(options, format!("{name}:{value}")),
            None => set_option(options, name),
        }
    }
}

fn once(mut list: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list
}

/// Leaves out what is too much; answers what is to be told then.
fn fit_servers(servers: &mut Vec<String>) -> Option<String> {
    if servers.len() <= MOST_SERVERS {
        return None;
    }
    servers.truncate(MOST_SERVERS);
    let applied = servers.join(" ");
    Some(format!(
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {applied}"
    ))
}

fn fit_searches(searches: &mut Vec<String>) -> Option<String> {
    let before = searches.len();
    searches.truncate(MOST_SEARCHES);
    searches.retain(|domain| domain.len() <= MOST_DOMAIN);
    while searches.join(" ").len() > MOST_SEARCH_LINE {
        searches.pop();
    }
    if searches.len() == before {
        return None;
    }
    let applied = searches.join(" ");
    Some(format!(
        "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {applied}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing;
    use super::*;

    const RESOLV_CONF: &str = "# comment\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\nsearch old.example\n\
        search example.com. . lab.example\noptions timeout:1 rotate\noptions timeout:3\n";

    /// Servers, searches and options, each in one line.
    fn lines(spec: Value, change: impl FnOnce(&mut NodeContext)) -> [String; 3] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("resolv.conf");
        fs::write(&path, RESOLV_CONF).expect("a file");
        let mut node = testing::node();
        node.resolv_conf = Some(path);
        change(&mut node);
        let config = of(&testing::pod(spec), &testing::of_node(node)).expect("settings");
        [config.servers, config.searches, config.options].map(|list| list.join(" "))
    }

    #[test]
    fn each_policy_has_its_settings() {
        let node = ["9.9.9.9 2620:fe::fe", "example.com lab.example", "timeout:3 rotate"];
        let searches = "ns.svc.cluster.local svc.cluster.local cluster.local example.com lab.example";
        let cluster = ["10.43.0.10", searches, "ndots:5"];
        let rows = [
            (json!({"dnsPolicy": "ClusterFirst"}), cluster),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), node),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster),
            (json!({"dnsPolicy": "Default"}), node),
            (json!({"dnsPolicy": "None"}), ["", "", ""]),
        ];
        for (spec, expected) in rows {
            assert_eq!(lines(spec.clone(), |_| {}), expected, "{spec}");
        }
        let without = lines(json!({"dnsPolicy": "ClusterFirst"}), |node| node.cluster_dns.clear());
        assert_eq!(without, node);
        let nothing = lines(json!({"dnsPolicy": "Default"}), |node| node.resolv_conf = None);
        assert_eq!(nothing, ["127.0.0.1 ::1", ".", ""]);
    }

    #[test]
    fn the_pods_own_settings_are_added_and_its_options_win() {
        let own = json!({"nameservers": ["1.1.1.1", "10.43.0.10"], "searches": ["my.example", "example.com"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let found = lines(json!({"dnsPolicy": "ClusterFirst", "dnsConfig": own}), |_| {});
        let searches = "ns.svc.cluster.local svc.cluster.local cluster.local example.com lab.example my.example";
        assert_eq!(found, ["10.43.0.10 1.1.1.1", searches, "ndots:2 edns0"]);
        let found = lines(json!({"dnsPolicy": "None", "dnsConfig": own}), |_| {});
        assert_eq!(found, ["1.1.1.1 10.43.0.10", "my.example example.com", "ndots:2 edns0"]);
    }

    #[test]
    fn what_resolvers_cannot_take_is_left_out_and_told() {
        let many: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
        let own = json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"], "searches": many});
        let pod = testing::pod(json!({"dnsPolicy": "None", "dnsConfig": own}));
        let config = of(&pod, &testing::context()).expect("settings");
        assert_eq!((config.servers.len(), config.searches.len()), (3, 32));
        let told = warnings(&pod, &testing::context());
        assert_eq!(
            told[0],
            (
                "DNSConfigForming",
                "Nameserver limits were exceeded, some nameservers have been omitted, \
                the applied nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3"
                    .to_owned()
            )
        );
        assert!(told[1].1.starts_with("Search Line limits were exceeded, some search paths have been omitted"));
        let mut long: Vec<String> = (0..20).map(|n| format!("{}{n}", "a".repeat(150))).collect();
        assert!(fit_searches(&mut long).is_some());
        assert_eq!(long.len(), 13);
    }
}
