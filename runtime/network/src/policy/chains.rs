//! The chains of nf_tables that pods' packets go through: made of the policies that select a pod. Pods with the same policies have
//! the same chain, whose name is made of what is in it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::labels::Labels;
use super::rules::{Namespaces, Peer, Policy, Port, Rule};
use super::views::PodView;
use crate::Cidr;
use crate::nft::{self, Element, Family, Field, Key, Operator, Set, SetRef, Type};

/// Which way packets go, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Direction {
    /// From it.
    Egress,
    /// To it.
    Ingress,
}

/// Pods that a rule speaks of, the addresses of which are kept in a set; with a port, the ports that they have under this name too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    pub(super) namespaces: Namespaces,
    pub(super) pods: Labels,
    pub(super) port: Option<(u8, String)>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its name.
    pub(super) name: String,
    /// Its rules: those that match let through, and the last one drops.
    pub(super) rules: Vec<nft::Rule>,
    /// The sets that it looks into, by their names.
    pub(super) sets: BTreeMap<String, Who>,
}

/// The name of the set of these pods' addresses.
pub(super) fn set_name(who: &Who) -> String {
    format!("pods-{:016x}", hash(who))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The chain for a pod that these policies select; none if none of them says anything about this direction.
pub(super) fn chain(family: Family, direction: Direction, pod: &PodView, policies: &[&Policy]) -> Option<Chain> {
    let said = |policy: &&&Policy| match direction {
        Direction::Egress => policy.egress.is_some(),
        Direction::Ingress => policy.ingress.is_some(),
    };
    if !policies.iter().any(|policy| said(&policy)) {
        return None;
    }
    let mut writer = Writer { family, direction, rules: Vec::new(), sets: BTreeMap::new() };
    for policy in policies {
        let rules = match direction {
            Direction::Egress => &policy.egress,
            Direction::Ingress => &policy.ingress,
        };
        rules.iter().flatten().for_each(|rule| writer.rule(rule, pod));
    }
    writer.rules.push(nft::Rule::new().drop());
    let letter = if direction == Direction::Egress { 'e' } else { 'i' };
    let name = format!("{letter}-{:016x}", hash(&writer.rules));
    Some(Chain { name, rules: writer.rules, sets: writer.sets })
}

struct Writer {
    family: Family,
    direction: Direction,
    rules: Vec<nft::Rule>,
    sets: BTreeMap<String, Who>,
}

impl Writer {
    /// The address at the other end.
    fn other(&self) -> Field {
        match self.direction {
            Direction::Egress => Field::destination(self.family),
            Direction::Ingress => Field::source(self.family),
        }
    }

    fn rule(&mut self, rule: &Rule, pod: &PodView) {
        let Some(ports) = &rule.ports else {
            for matched in self.peers(rule) {
                self.rules.push(matched.back());
            }
            return;
        };
        let mut ranges = Vec::new();
        for port in ports {
            match port {
                Port::Range(protocol, first, last) => ranges.push((*protocol, *first, *last)),
                // What comes in is for the pod's own ports.
                Port::Named(protocol, name) if self.direction == Direction::Ingress => {
                    let own = pod.ports.iter().filter(|(known, own, _)| known == protocol && own == name);
                    ranges.extend(own.map(|(protocol, _, number)| (*protocol, *number, *number)));
                }
                Port::Named(protocol, name) => self.named(rule, (*protocol, name.clone())),
            }
        }
        let ranges = joined(ranges);
        if ranges.is_empty() {
            return;
        }
        let key = |protocol: u8, port: u16| Key::new().protocol(protocol).port(port);
        let elements: Vec<Element> = ranges
            .into_iter()
            .map(|(protocol, first, last)| Element::range(key(protocol, first), key(protocol, last)))
            .collect();
        for matched in self.peers(rule) {
            let set = Set::new("", &[Type::Protocol, Type::Port]).intervals();
            let fields = [Field::Protocol, Field::DestinationPort];
            self.rules.push(matched.in_set(&fields, SetRef::own(set, elements.clone())).back());
        }
    }

    /// What goes out to ports that the called pods have under a name.
    fn named(&mut self, rule: &Rule, port: (u8, String)) {
        let everyone = || Who {
            namespaces: Namespaces::Labelled(Labels::default()),
            pods: Labels::default(),
            port: Some(port.clone()),
        };
        let fields = [self.other(), Field::Protocol, Field::DestinationPort];
        let any = [None];
        let peers: Vec<Option<&Peer>> = match &rule.peers {
            None => any.to_vec(),
            Some(peers) => peers.iter().map(Some).collect(),
        };
        for peer in peers {
            let (matched, who) = match peer {
                None => (nft::Rule::new(), everyone()),
                Some(Peer::Pods(namespaces, pods)) => {
                    let who = Who { namespaces: namespaces.clone(), pods: pods.clone(), port: Some(port.clone()) };
                    (nft::Rule::new(), who)
                }
                Some(Peer::Block(cidr, except)) => {
                    let Some(matched) = self.block(cidr, except) else { continue };
                    (matched, everyone())
                }
            };
            let set = self.set(who);
            self.rules.push(matched.in_set(&fields, &set).back());
        }
    }

    /// A beginning of a rule for each peer of this family.
    fn peers(&mut self, rule: &Rule) -> Vec<nft::Rule> {
        let Some(peers) = &rule.peers else { return vec![nft::Rule::new()] };
        let mut rules = Vec::new();
        for peer in peers {
            match peer {
                Peer::Pods(namespaces, pods) => {
                    let set = self.set(Who { namespaces: namespaces.clone(), pods: pods.clone(), port: None });
                    rules.push(nft::Rule::new().in_set(&[self.other()], &set));
                }
                Peer::Block(cidr, except) => rules.extend(self.block(cidr, except)),
            }
        }
        rules
    }

    fn block(&self, cidr: &Cidr, except: &[Cidr]) -> Option<nft::Rule> {
        let is_of_family = |cidr: &Cidr| cidr.is_ipv4() == (self.family == Family::Ip);
        if !is_of_family(cidr) {
            return None;
        }
        let mut rule = nft::Rule::new();
        if cidr.prefix() > 0 {
            rule = rule.network(self.other(), Operator::Eq, cidr.first(), cidr.prefix());
        }
        // A rule each: they are few, and may overlap, which the ranges of a set may not.
        for except in except.iter().filter(|except| is_of_family(except)) {
            rule = rule.network(self.other(), Operator::Ne, except.first(), except.prefix());
        }
        Some(rule)
    }

    fn set(&mut self, who: Who) -> String {
        let name = set_name(&who);
        self.sets.insert(name.clone(), who);
        name
    }
}

/// Ranges of ports that do not overlap, as a set wants them.
fn joined(mut ranges: Vec<(u8, u16, u16)>) -> Vec<(u8, u16, u16)> {
    ranges.retain(|(_, first, last)| first <= last);
    ranges.sort_unstable();
    let mut out: Vec<(u8, u16, u16)> = Vec::new();
    for (protocol, first, last) in ranges {
        match out.last_mut() {
            Some(known) if known.0 == protocol && first <= known.2.saturating_add(1) => known.2 = known.2.max(last),
            _ => out.push((protocol, first, last)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_joined_where_they_touch() {
        let joined = joined(vec![
            (17, 53, 53),
            (6, 80, 90),
            (6, 85, 100),
            (6, 101, 101),
            (6, 9, 8),
            (6, 0, 10),
            (6, 65535, 65535),
        ]);
        assert_eq!(joined, [(6, 0, 10), (6, 80, 101), (6, 65535, 65535), (17, 53, 53)]);
    }
}
