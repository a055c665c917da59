//! From a Service and its endpoints to what the kernel is to hold for it: elements of the shared maps, chains of its own, and sets of
//! clients that stick to endpoints. Nothing is done here; the same Service gives the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::layout::{Container, MASQUERADE, POD_NETWORKS, REJECT_CHAIN, address_type, nft_family, ranges};
use super::model::{Endpoint, IpFamily, ServicePort};
use super::topology::{Choice, Place, choose};
use crate::nft::{Element, Field, Key, Rule, Set, SetRef, Type, Verdict, fib_type};

/// How many clients can stick to one endpoint.
const STICKY_CLIENTS: u32 = 65_536;
/// The kernel's names are at most 255 bytes long.
const NAME: usize = 250;

/// Where an element is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) family: IpFamily,
    pub(crate) container: Container,
    pub(crate) key: Key,
}

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is there.
    None,
    /// To a chain.
    Goto(Arc<str>),
    /// To nowhere.
    Drop,
    /// To nowhere, and the sender is told.
    Reject,
}

impl Slot {
    pub(crate) fn element(&self, act: &Act) -> Element {
        let element = Element::new(self.key.clone());
        match act {
            Act::None => element,
            Act::Goto(chain) => element.verdict(Verdict::Goto(chain.as_ref().to_owned())),
            Act::Drop => element.verdict(Verdict::Drop),
            Act::Reject => element.verdict(Verdict::Goto(REJECT_CHAIN.to_owned())),
        }
    }
}

/// A chain of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: IpFamily,
    pub(crate) name: Arc<str>,
    pub(crate) rules: Vec<Rule>,
}

/// The clients that stick to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sticky {
    pub(crate) family: IpFamily,
    pub(crate) name: Arc<str>,
    pub(crate) timeout: Duration,
}

impl Sticky {
    pub(crate) fn set(&self) -> Set {
        Set::new(&self.name, &[address_type(self.family)]).dynamic(self.timeout, STICKY_CLIENTS)
    }
}

/// All that the kernel is to hold for one Service.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    pub(crate) elements: BTreeMap<Slot, Act>,
    pub(crate) chains: Vec<Chain>,
    pub(crate) sticky: Vec<Sticky>,
}

/// What is known of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) place: Place,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Rendered {
    /// Adds one port of a Service.
    pub(crate) fn add(&mut self, namespace: &str, name: &str, port: &ServicePort, endpoints: &[Endpoint], here: &Here) {
        let choice = choose(port, endpoints, &here.place);
        let base = format!("{namespace}/{name}/{}/{}", port.protocol.name(), port.name);
        let mut one = One { rendered: self, port, base, here };
        one.endpoints(&choice);
        one.frontends(&choice);
    }
}

/// One port, as it is rendered.
struct One<'a> {
    rendered: &'a mut Rendered,
    port: &'a ServicePort,
    base: String,
    here: &'a Here,
}

impl One<'_> {
    fn name(&self, kind: &str) -> Arc<str> {
        shortened(format!("{kind}-{}", self.base))
    }

    fn element(&mut self, container: Container, key: Key, act: Act) {
        let slot = Slot { family: self.port.family, container, key };
        self.rendered.elements.entry(slot).or_insert(act);
    }

    fn chain(&mut self, name: &Arc<str>, rules: Vec<Rule>) {
        self.rendered.chains.push(Chain { family: self.port.family, name: name.clone(), rules });
    }

    /// The key of the Service at one of its addresses.
    fn at(&self, address: IpAddr) -> Key {
        Key::new().address(address).protocol(self.port.protocol as u8).port(self.port.port)
    }

    /// The chains that choose an endpoint.
    fn endpoints(&mut self, choice: &Choice<'_>) {
        let protocol = self.port.protocol as u8;
        for endpoint in choice.all().filter(|endpoint| endpoint.local) {
            let (address, port) = (endpoint.address, endpoint.port);
            let key = Key::new().address(address).address(address).protocol(protocol).port(port);
            self.element(Container::Hairpins, key, Act::None);
        }
        if let Some(timeout) = self.port.affinity {
            for endpoint in choice.all() {
                self.sticky_endpoint(endpoint, timeout);
            }
        }
        for (kind, endpoints) in [("service", &choice.cluster), ("local", &choice.local)] {
            if !endpoints.is_empty() {
                let name = self.name(kind);
                let rules = match self.port.affinity {
                    Some(timeout) => self.sticky_choice(endpoints, timeout),
                    None => vec![self.random_choice(endpoints)],
                };
                self.chain(&name, rules);
            }
        }
    }

    /// Any of the endpoints.
    fn random_choice(&self, endpoints: &[&Endpoint]) -> Rule {
        let family = nft_family(self.port.family);
        let map = Set::map("", &[Type::Integer], &[address_type(self.port.family), Type::Port]);
        let elements = numbered(endpoints).map(|(number, endpoint)| {
            let target = Key::new().address(endpoint.address).port(endpoint.port);
            Element::new(Key::new().number(number)).data(target)
        });
        let elements: Vec<_> = elements.collect();
        let count = u32::try_from(elements.len()).unwrap_or(u32::MAX);
        let rule = Rule::new().protocol(self.port.protocol as u8);
        rule.dnat_map(family, &[Field::Random(count)], SetRef::own(map, elements))
    }

    fn sticky_name(&self, kind: &str, endpoint: &Endpoint, timeout: Duration) -> Arc<str> {
        let address = endpoint.address.to_string().replace(':', ".");
        shortened(format!("{kind}-{}__{address}/{}__{}", self.base, endpoint.port, timeout.as_secs()))
    }

    /// The chain and the clients of an endpoint that clients stick to.
    fn sticky_endpoint(&mut self, endpoint: &Endpoint, timeout: Duration) {
        let family = nft_family(self.port.family);
        let clients = self.sticky_name("affinity", endpoint, timeout);
        let rules = vec![
            Rule::new().update(&clients, &[Field::source(family)]),
            Rule::new().protocol(self.port.protocol as u8).dnat(family, endpoint.address, endpoint.port),
        ];
        let name = self.sticky_name("endpoint", endpoint, timeout);
        self.chain(&name, rules);
        self.rendered.sticky.push(Sticky { family: self.port.family, name: clients, timeout });
    }

    /// The endpoint that the client sticks to, or any.
    fn sticky_choice(&self, endpoints: &[&Endpoint], timeout: Duration) -> Vec<Rule> {
        let source = Field::source(nft_family(self.port.family));
        let mut rules = Vec::with_capacity(endpoints.len() + 1);
        let mut elements = Vec::with_capacity(endpoints.len());
        for (number, endpoint) in numbered(endpoints) {
            let chain = self.sticky_name("endpoint", endpoint, timeout);
            let clients = self.sticky_name("affinity", endpoint, timeout);
            rules.push(Rule::new().in_set(&[source], &*clients).goto(&chain));
            let verdict = Verdict::Goto(chain.as_ref().to_owned());
            elements.push(Element::new(Key::new().number(number)).verdict(verdict));
        }
        let count = u32::try_from(elements.len()).unwrap_or(u32::MAX);
        let map = SetRef::own(Set::verdicts("", &[Type::Integer]), elements);
        rules.push(Rule::new().vmap(&[Field::Random(count)], map));
        rules
    }

    /// The addresses that lead to those chains, or to a refusal.
    fn frontends(&mut self, choice: &Choice<'_>) {
        let port = self.port;
        let inner = if port.internal_local { ("local", &choice.local) } else { ("service", &choice.cluster) };
        let outer = if port.external_local { ("local", &choice.local) } else { ("service", &choice.cluster) };
        let refusal = if choice.any { Act::Drop } else { Act::Reject };
        let outside = choice.any.then(|| self.name("external"));

        self.element(Container::ClusterIps, Key::new().address(port.cluster_ip), Act::None);
        let key = self.at(port.cluster_ip);
        if inner.1.is_empty() {
            self.element(Container::NoEndpointServices, key, refusal.clone());
        } else {
            let chain = self.name(inner.0);
            self.element(Container::ServiceIps, key, Act::Goto(chain));
        }
        for address in port.external_ips.iter().chain(&port.balancer_ips) {
            let key = self.at(*address);
            if let Some(chain) = &outside {
                self.element(Container::ServiceIps, key.clone(), Act::Goto(chain.clone()));
            }
            if outer.1.is_empty() {
                self.element(Container::NoEndpointServices, key, refusal.clone());
            }
        }
        if let Some(number) = port.node_port {
            let key = Key::new().protocol(port.protocol as u8).port(number);
            if let Some(chain) = &outside {
                self.element(Container::NodePorts, key.clone(), Act::Goto(chain.clone()));
            }
            if outer.1.is_empty() {
                self.element(Container::NoEndpointNodePorts, key, refusal);
            }
        }
        if let Some(chain) = outside.filter(|_| port.is_external()) {
            let onward = (!outer.1.is_empty()).then(|| self.name(outer.0));
            let anywhere = (!choice.cluster.is_empty()).then(|| self.name("service"));
            let rules = self.external_rules(onward.as_deref(), anywhere.as_deref());
            self.chain(&chain, rules);
        }
        self.firewall();
    }

    /// The rules for what comes by another address than the cluster IP.
    fn external_rules(&self, onward: Option<&str>, anywhere: Option<&str>) -> Vec<Rule> {
        let source = Field::source(nft_family(self.port.family));
        let mut rules = Vec::new();
        if self.port.external_local {
            // What pods send out and back in is bound by no policy, nor is what the node itself sends.
            let own = || Rule::new().is(Field::SourceType, fib_type::LOCAL);
            if let Some(anywhere) = anywhere {
                rules.push(Rule::new().in_set(&[source], POD_NETWORKS).goto(anywhere));
                rules.push(own().set_mark(MASQUERADE));
                rules.push(own().goto(anywhere));
            }
        } else {
            rules.push(Rule::new().set_mark(MASQUERADE));
        }
        rules.extend(onward.map(|chain| Rule::new().goto(chain)));
        rules
    }

    /// Keeps out whom the Service's load balancers are not for.
    fn firewall(&mut self) {
        let port = self.port;
        if port.source_ranges.is_empty() || port.balancer_ips.is_empty() {
            return;
        }
        let chain = self.name("firewall");
        for address in &port.balancer_ips {
            let key = self.at(*address);
            self.element(Container::FirewallIps, key, Act::Goto(chain.clone()));
        }
        let mut sources = ranges(&port.source_ranges);
        let allows = |address: &IpAddr| port.source_ranges.iter().any(|range| range.contains(*address));
        if self.here.addresses.iter().any(allows) {
            // What this node sends to an address of its own has that address as its source too.
            let own = port.balancer_ips.iter().filter(|address| !allows(address));
            sources.extend(own.map(|address| Element::new(Key::new().address(*address))));
        }
        let set = Set::new("", &[address_type(port.family)]).intervals();
        let source = Field::source(nft_family(port.family));
        self.chain(&chain, vec![Rule::new().not_in_set(&[source], SetRef::own(set, sources)).drop()]);
    }
}

fn numbered<'a>(endpoints: &[&'a Endpoint]) -> impl Iterator<Item = (u32, &'a Endpoint)> {
    (0..).zip(endpoints.iter().copied())
}

/// A name that the kernel takes: of a longer one the end is replaced by its hash.
fn shortened(mut name: String) -> Arc<str> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    if name.len() > NAME {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let end = (0..=NAME - 17).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
        name = format!("{name}-{:016x}", hasher.finish());
    }
    name.into()
}
