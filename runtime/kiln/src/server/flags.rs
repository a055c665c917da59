//! What the server is told. Flags have K3s' names where they mean the same; the older ones go on being understood.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use kiln_controllers::service_lb::Pool;
use kiln_network::overlay::Backend;
use kiln_node_config::{Cidr, PerFamily, Role, Server, Token, validate};

use super::disable::Part;
use super::{acme, apiserver_args, controller_args, datastore, scheduler_args, snapshots, tokens};
use crate::cli::Common;
use crate::exit::Failure;
use crate::node::{Identity, NodeOptions};

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln server                                     on any Linux, as root
  kiln server --config /config/node.toml          with a node's settings
  kiln server --config /etc/kiln/server.toml      with flags in a file: tls-san = [\"kube.example.org\"]
  kiln server --data-dir /tmp/kiln --bind-address 127.0.0.1 --https-listen-port 0 --disable mdns
                                                  to try it without root; prints its URL
  kiln server --token-file token --datastore-endpoint https://10.0.0.1:2379,https://10.0.0.2:2379 \\
    --datastore-cafile ca.crt --datastore-certfile kiln.crt --datastore-keyfile kiln.key
                                                  one of several servers on one etcd";

const LISTENER: &str = "Listener";
const CLUSTER: &str = "Cluster";
const ACCESS: &str = "Access";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    node: NodeOptions,
    /// Address to listen on; without it all, IPv6 and IPv4
    #[arg(long, alias = "bind", value_name = "ADDRESS", help_heading = LISTENER)]
    bind_address: Option<IpAddr>,
    /// Address that the API is announced with inside the cluster; without it one of the machine's
    #[arg(long, value_name = "ADDRESS", help_heading = LISTENER)]
    advertise_address: Option<IpAddr>,
    /// TCP port of the API; 0: any that is free
    #[arg(long, alias = "port", value_name = "PORT", help_heading = LISTENER)]
    https_listen_port: Option<u16>,
    /// Further name or address for the server's certificate; may be repeated
    #[arg(long = "tls-san", value_name = "NAME", value_parser = validate::san, value_delimiter = ',', help_heading = LISTENER)]
    tls_sans: Vec<String>,
    /// Addresses of pods: an IPv4 or IPv6 range, or one of each with a comma between them for pods of both families
    #[arg(long, value_name = "RANGE", value_parser = validate::cluster_range, value_delimiter = ',', help_heading = CLUSTER)]
    cluster_cidr: Vec<Cidr>,
    /// Addresses of services: an IPv4 or IPv6 range, or one of each with a comma between them for services of both families
    #[arg(long, value_name = "RANGE", value_parser = validate::service_range, value_delimiter = ',', help_heading = CLUSTER)]
    service_cidr: Vec<Cidr>,
    /// Ports of the nodes that services may have
    #[arg(long, value_name = "FROM-TO", value_parser = port_range, default_value = "30000-32767", help_heading = CLUSTER)]
    service_node_port_range: RangeInclusive<u16>,
    /// DNS domain of the cluster
    #[arg(long, value_name = "DOMAIN", value_parser = validate::san, default_value = "cluster.local", help_heading = CLUSTER)]
    cluster_domain: String,
    /// Address of the cluster's DNS service; without it the tenth of --service-cidr
    #[arg(long, value_name = "ADDRESS", help_heading = CLUSTER)]
    cluster_dns: Option<IpAddr>,
    /// Way between the pods of different nodes: vxlan, host-gw (all nodes on one link), wireguard (encrypted; each
    /// node's kernel must have it), or none, where you bring a network of your own [default: vxlan, or node.toml's]
    #[arg(long, value_name = "KIND", help_heading = CLUSTER)]
    flannel_backend: Option<Backend>,
    /// Addresses for Services of the type LoadBalancer in place of the nodes', on the nodes' own network: as
    /// 192.168.1.240-192.168.1.250, several separated by commas. A node announces each by ARP or neighbour discovery
    #[arg(long, value_name = "RANGES", default_value_t, hide_default_value = true, help_heading = CLUSTER)]
    load_balancer_pool: Pool,
    /// Don't lead Services' traffic to their endpoints, on any node: another proxy does
    #[arg(long, help_heading = CLUSTER)]
    disable_kube_proxy: bool,
    /// Leave network policies to another part, or unheeded
    #[arg(long, help_heading = CLUSTER)]
    disable_network_policy: bool,
    /// Part to leave out: mdns, dns, ingress or servicelb; or a manifest of server/manifests, by its name without the ending, or a
    /// folder of them, to take away with what it made; may be repeated
    #[arg(long, value_name = "PART", value_delimiter = ',', help_heading = CLUSTER)]
    disable: Vec<String>,
    /// Leave HelmCharts to another controller, or unheeded
    #[arg(long, help_heading = CLUSTER)]
    disable_helm_controller: bool,
    /// Don't be a node, only serve
    #[arg(long, alias = "no-agent", help_heading = CLUSTER)]
    disable_agent: bool,
    /// Don't advertise on the network; the same as --disable mdns
    #[arg(long, hide = true)]
    no_mdns: bool,
    /// The cluster's secret, the same on all servers of one etcd, where it seals the cluster's keys; if it has the form of a
    /// join token, agents can join with it. Others can see a process's arguments, so better in a file or a variable
    #[arg(long, short = 't', value_name = "TOKEN", env = "KILN_TOKEN", hide_env_values = true, conflicts_with = "token_file", help_heading = ACCESS)]
    token: Option<String>,
    /// File with the token
    #[arg(long, value_name = "FILE", env = "KILN_TOKEN_FILE", help_heading = ACCESS)]
    token_file: Option<PathBuf>,
    /// Token that agents can join with, as abcdef.0123456789abcdef
    #[arg(long, value_name = "TOKEN", env = "KILN_AGENT_TOKEN", hide_env_values = true, help_heading = ACCESS)]
    agent_token: Option<String>,
    /// File to write the administrator's kubeconfig to as well
    #[arg(long, short = 'o', value_name = "FILE", env = "KILN_KUBECONFIG_OUTPUT", help_heading = ACCESS)]
    write_kubeconfig: Option<PathBuf>,
    /// Mode of that file
    #[arg(long, value_name = "MODE", value_parser = mode, env = "KILN_KUBECONFIG_MODE", default_value = "0600", help_heading = ACCESS)]
    write_kubeconfig_mode: u32,
    /// Setting of Kubernetes' API server, such as service-account-issuer; may be repeated
    #[arg(long = "kube-apiserver-arg", value_name = "NAME=VALUE", value_parser = apiserver_args::parse, help_heading = ACCESS)]
    kube_apiserver_args: Vec<(String, String)>,
    /// Setting of Kubernetes' scheduler: config=FILE, a KubeSchedulerConfiguration
    #[arg(long = "kube-scheduler-arg", value_name = "NAME=VALUE", value_parser = scheduler_args::parse, help_heading = CLUSTER)]
    kube_scheduler_args: Vec<PathBuf>,
    /// Setting of Kubernetes' controller manager, such as node-monitor-grace-period; may be repeated
    #[arg(long = "kube-controller-manager-arg", value_name = "NAME=VALUE", value_parser = controller_args::parse, help_heading = CLUSTER)]
    kube_controller_manager_args: Vec<(String, String)>,
    /// Don't schedule pods: another scheduler does
    #[arg(long, help_heading = CLUSTER)]
    disable_scheduler: bool,
    #[command(flatten)]
    acme: acme::Flags,
    #[command(flatten)]
    datastore: datastore::Flags,
    #[command(flatten)]
    snapshots: snapshots::Flags,
}

/// What the server is to do, with flags, file and defaults resolved.
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) cluster_dir: Option<PathBuf>,
    pub(super) identity: Identity,
    pub(super) bind: Option<IpAddr>,
    pub(super) advertise: Option<IpAddr>,
    pub(super) server: Server,
    pub(super) node_ports: RangeInclusive<u16>,
    pub(super) domain: String,
    /// The address of the cluster's DNS, if it is not the usual one.
    pub(super) cluster_dns: Option<IpAddr>,
    /// The way between nodes' pods.
    pub(super) backend: Backend,
    /// Whether another program leads Services' traffic.
    pub(super) disable_kube_proxy: bool,
    /// Addresses that such Services get in place of the nodes'.
    pub(super) load_balancer_pool: Pool,
    /// Whether Services of the type LoadBalancer get nodes' addresses.
    pub(super) service_lb: bool,
    /// Network policies are not of this cluster's nodes.
    pub(super) disable_network_policy: bool,
    /// Whether nodes serve Ingresses.
    pub(super) ingress: bool,
    /// Where certificates of Ingresses come from, if they are to.
    pub(super) acme: Option<kiln_controllers::acme::Server>,
    pub(super) agent: bool,
    pub(super) mdns: bool,
    pub(super) dns: bool,
    /// Whether HelmCharts are installed.
    pub(super) helm: bool,
    /// All that `--disable` named: manifests are among it.
    pub(super) disabled: BTreeSet<String>,
    pub(super) token: Option<String>,
    pub(super) agent_token: Option<String>,
    /// Another kubeconfig to write, and its mode.
    pub(super) kubeconfig: Option<(PathBuf, u32)>,
    pub(super) apiserver: Vec<(String, String)>,
    /// What the controllers are told.
    pub(super) tuning: kiln_controllers::Tuning,
    /// What the scheduler is told; none if it is left out.
    pub(super) scheduler: Option<kiln_scheduler::Config>,
    pub(super) datastore: datastore::Flags,
    pub(super) snapshots: snapshots::Flags,
}

impl Options {
    /// Everything that was said, put together and checked.
    ///
    /// # Errors
    /// What contradicts itself, or a file that can't be read.
    pub(super) fn resolve(self) -> anyhow::Result<Settings> {
        let config = self.node.read_config(Role::Server)?;
        let identity = self.node.identity(config.as_ref())?;
        let mut server = config.and_then(|c| c.server).unwrap_or_default();
        server.port = self.https_listen_port.unwrap_or(server.port);
        server.tls_sans.extend(self.tls_sans);
        take(&self.cluster_cidr, &mut server.cluster_cidr, "--cluster-cidr")?;
        take(&self.service_cidr, &mut server.service_cidr, "--service-cidr")?;
        validate::networks(server.cluster_cidr, server.service_cidr).map_err(Failure::Input)?;
        let backend = self.flannel_backend.map_or_else(|| server.flannel_backend.parse(), Ok);
        let backend = backend.map_err(|error| Failure::Input(error.to_string()))?;
        let refuse = |text: String| Err(Failure::Input(text).into());
        if let Some(dns) = self.cluster_dns.filter(|dns| !server.service_cidr.iter().any(|range| range.contains(*dns)))
        {
            return refuse(format!("--cluster-dns {dns} is not in services' {}", server.service_cidr));
        }
        // Which cluster it is of is seen when there is one.
        if self.agent_token.as_deref().is_some_and(|text| Token::parse(text).is_err() && !tokens::is_short(text)) {
            return refuse(tokens::NO_TOKEN.to_owned());
        }
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
                Some(text.trim().to_owned())
            }
            None => self.token,
        };
        let token = token.filter(|token| !token.is_empty());
        if token.is_none() && !self.datastore.endpoints.is_empty() {
            return refuse(
                "servers on one etcd share the cluster's keys, sealed with a token: give all of them the same --token or --token-file"
                    .to_owned(),
            );
        }
        let disabled: BTreeSet<String> = self.disable.into_iter().filter(|name| !name.is_empty()).collect();
        let (service_lb, ingress) = (!Part::Servicelb.is_in(&disabled), !Part::Ingress.is_in(&disabled));
        let (mdns, dns) = (!(self.no_mdns || Part::Mdns.is_in(&disabled)), !Part::Dns.is_in(&disabled));
        let scheduler = scheduler_args::config(&self.kube_scheduler_args, &identity.name)?;
        let scheduler = (!self.disable_scheduler).then_some(scheduler);
        Ok(Settings {
            data_dir: self.common.data_dir,
            cluster_dir: self.node.cluster_dir,
            identity,
            bind: self.bind_address,
            advertise: self.advertise_address,
            server,
            load_balancer_pool: self.load_balancer_pool,
            node_ports: self.service_node_port_range,
            domain: self.cluster_domain,
            cluster_dns: self.cluster_dns,
            backend,
            disable_kube_proxy: self.disable_kube_proxy,
            service_lb,
            disable_network_policy: self.disable_network_policy,
            ingress,
            acme: self.acme.resolve(ingress)?,
            agent: !self.disable_agent,
            mdns,
            dns,
            helm: !self.disable_helm_controller,
            disabled,
            token,
            agent_token: self.agent_token,
            kubeconfig: self.write_kubeconfig.map(|path| (path, self.write_kubeconfig_mode)),
            apiserver: self.kube_apiserver_args,
            tuning: controller_args::tuning(&self.kube_controller_manager_args),
            scheduler,
            datastore: self.datastore,
            snapshots: self.snapshots,
        })
    }
}

/// Puts ranges that were given into their place.
fn take(given: &[Cidr], ranges: &mut PerFamily<Cidr>, flag: &str) -> Result<(), Failure> {
    if !given.is_empty() {
        *ranges = PerFamily::new(given).map_err(|why| Failure::Input(format!("{flag}: {why}")))?;
    }
    Ok(())
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("`{text}` is no range of ports; write it as 30000-32767");
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (from, to) = (port(from)?, port(to)?);
    if from <= to { Ok(from..=to) } else { Err(wrong()) }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("`{text}` is no mode; write it as 0600 or 0644"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_of_one_family_or_of_both_and_take_the_place_of_the_defaults() {
        let cidrs = |text: &str| text.split(',').map(|text| validate::cluster_range(text).unwrap()).collect::<Vec<_>>();
        let mut ranges = Server::default().cluster_cidr;
        take(&[], &mut ranges, "--cluster-cidr").unwrap();
        assert_eq!(ranges.to_string(), "10.42.0.0/16");
        for text in ["10.1.0.0/16", "10.1.0.0/16,fd00:42::/56", "fd00:42::/56", "fd00:42::/56,10.1.0.0/16"] {
            take(&cidrs(text), &mut ranges, "--cluster-cidr").unwrap();
            assert_eq!(ranges.to_string(), text);
        }
        let error = take(&cidrs("10.1.0.0/16,10.2.0.0/16"), &mut ranges, "--cluster-cidr").unwrap_err();
        assert!(error.to_string().starts_with("--cluster-cidr: write one, or one of IPv4 and one of IPv6"), "{error}");
    }

    #[test]
    fn each_backend_of_node_toml_is_one_of_the_overlay() {
        for name in validate::BACKENDS {
            assert!(name.parse::<Backend>().is_ok(), "{name}");
        }
        assert_eq!(Server::default().flannel_backend.parse(), Ok(Backend::default()));
    }

    #[test]
    fn ports_and_modes_are_read_as_people_write_them() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        for text in ["", "1", "2-1", "0-5", "1-70000"] {
            assert!(port_range(text).is_err(), "{text}");
        }
        assert_eq!((mode("0644"), mode("600")), (Ok(0o644), Ok(0o600)));
        for text in ["", "9", "1777", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
