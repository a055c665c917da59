//! What the kernel has of policies: a table for each address family, made with the first policy and removed with the last.
//!
//! A pod is isolated before its first container runs, so what is to or from an address of this node's ranges goes nowhere before it
//! is known which pod has it. A packet that is passed on is looked up by its source and by its destination in two verdict maps, which lead to the chains of
//! the pods; what they do not drop goes on. What the node itself sends or takes is not seen here: a node always reaches its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::chains::{Chain, Direction};
use super::model::{Member, Model};
use crate::Cidr;
use crate::nft::{
    Base, Batch, Element, Family, Field, Hook, Key, Kind, NftError, Operator, Rule, Set, Socket, Table, Type, Verdict,
    ct_state,
};

pub(crate) const NAME: &str = "kiln-policy";
const FORWARD: &str = "forward";
/// Pairs of a pod's address with itself: a pod always reaches itself, through a Service too.
const SELF: &str = "self";
/// Addresses of the pods here that are known.
const HERE: &str = "here";
/// `IP_CT_DIR_REPLY`.
const REPLY: u8 = 1;
/// The protocol's number.
const ICMPV6: u8 = 58;
/// Behind the translation of Services' addresses (`NF_IP_PRI_FILTER`).
const PRIORITY: i32 = 0;

fn map_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}

/// The table of one family.
#[derive(Debug)]
struct Held {
    family: Family,
    table: Table,
    /// Whether the kernel has just this; if not, it is made anew.
    is_known: bool,
    sets: BTreeMap<String, BTreeSet<Member>>,
    chains: BTreeSet<String>,
    entries: BTreeMap<(Direction, IpAddr), String>,
    /// Addresses of pods here.
    here: BTreeSet<IpAddr>,
    /// Ranges of such; none while there is no table.
    ranges: Option<Vec<Cidr>>,
}

/// The way to the kernel, and what it has.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: Socket,
    held: [Held; 2],
}

impl Kernel {
    /// Opens it. What an earlier run left is replaced or removed by the first [`Kernel::apply`].
    pub(super) fn open() -> Result<Self, NftError> {
        let held = [Family::Ip, Family::Ip6].map(|family| Held {
            family,
            table: Table::new(family, NAME),
            is_known: false,
            sets: BTreeMap::new(),
            chains: BTreeSet::new(),
            entries: BTreeMap::new(),
            here: BTreeSet::new(),
            ranges: None,
        });
        Ok(Self { socket: Socket::open()?, held })
    }

    /// Brings the kernel to the model, in one step for each family. Answers how many changes that took.
    pub(super) fn apply(&mut self, model: &mut Model) -> Result<usize, NftError> {
        let mut changes = 0;
        for held in &mut self.held {
            let batch = held.batch(model);
            let length = batch.len();
            let applied = self.socket.apply(&batch);
            held.is_known = applied.is_ok();
            match applied {
                Ok(()) => changes += length,
                // A kernel without IPv6 has no table of that family to remove.
                Err(_) if held.family == Family::Ip6 && held.here.is_empty() => held.is_known = true,
                Err(error) => return Err(error),
            }
        }
        model.programmed();
        Ok(changes)
    }

    /// Looks whether somebody removed a table; the next [`Kernel::apply`] makes it anew.
    pub(super) fn check(&mut self) -> Result<bool, NftError> {
        let mut is_whole = true;
        for held in &mut self.held {
            if held.ranges.is_some() && self.socket.chains(&held.table)?.len() < held.chains.len() + 1 {
                held.is_known = false;
                is_whole = false;
            }
        }
        Ok(is_whole)
    }
}

impl Held {
    /// What leads from what the kernel has to the model; takes the model for what it has then.
    fn batch(&mut self, model: &Model) -> Batch {
        let mut batch = Batch::new();
        let mut chains: BTreeMap<&str, &Arc<Chain>> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (direction, ip, chain) in model.entries(self.family) {
            chains.insert(chain.name.as_str(), chain);
            entries.insert((direction, ip), chain.name.clone());
        }
        let (here, ranges) = (model.here(self.family), model.ranges(self.family));
        // Other ranges are rare enough for all to be made anew.
        let is_made = self.is_known && model.is_active() && self.ranges.as_ref() == Some(&ranges);
        if !is_made && (!self.is_known || self.ranges.is_some()) {
            batch.remove_table(&self.table);
            (self.sets, self.chains, self.entries, self.here, self.ranges) = Default::default();
        }
        if !model.is_active() {
            return batch;
        }
        if !is_made {
            self.make(&mut batch, &ranges);
            self.ranges = Some(ranges);
        }
        let address = |ip: &IpAddr| Element::new(Key::new().address(*ip));
        batch.delete_elements(&self.table, HERE, self.here.difference(&here).map(address));
        batch.add_elements(&self.table, HERE, here.difference(&self.here).map(address));
        self.here = here;
        let sets: BTreeMap<&String, bool> =
            chains.values().flat_map(|chain| &chain.sets).map(|(name, who)| (name, who.port.is_some())).collect();
        self.sets(&mut batch, model, &sets);
        for (name, chain) in chains.iter().filter(|(name, _)| !self.chains.contains(**name)) {
            batch.add_chain(&self.table, name);
            chain.rules.iter().for_each(|rule| batch.add_rule(&self.table, name, rule));
        }
        self.entries(&mut batch, &entries);
        for gone in self.chains.iter().filter(|name| !chains.contains_key(name.as_str())) {
            batch.flush_chain(&self.table, gone);
            batch.delete_chain(&self.table, gone);
        }
        for gone in self.sets.keys().filter(|name| !sets.contains_key(name)) {
            batch.delete_set(&self.table, gone);
        }
        self.sets.retain(|name, _| sets.contains_key(name));
        self.chains = chains.into_keys().map(str::to_owned).collect();
        self.entries = entries;
        batch
    }

    fn address(&self) -> Type {
        if self.family == Family::Ip { Type::Ipv4 } else { Type::Ipv6 }
    }

    fn make(&self, batch: &mut Batch, ranges: &[Cidr]) {
        let table = &self.table;
        let (source, destination) = (Field::source(self.family), Field::destination(self.family));
        batch.add_table(table);
        for direction in [Direction::Egress, Direction::Ingress] {
            batch.add_set(table, &Set::verdicts(map_name(direction), &[self.address()]));
        }
        batch.add_set(table, &Set::new(SELF, &[self.address(), self.address()]));
        batch.add_set(table, &Set::new(HERE, &[self.address()]));
        batch.add_base_chain(table, FORWARD, &Base { kind: Kind::Filter, hook: Hook::Forward, priority: PRIORITY });
        // What comes back goes on. What goes forth is judged packet by packet, so that a policy also ends connections from before it.
        batch.add_rule(table, FORWARD, &Rule::new().has_any(Field::CtState, ct_state::RELATED).accept());
        let back = Rule::new().has_any(Field::CtState, ct_state::ESTABLISHED);
        let back = back.matches(Field::CtDirection, Operator::Eq, &[REPLY]).accept();
        batch.add_rule(table, FORWARD, &back);
        if self.family == Family::Ip6 {
            // How neighbours find each other on the bridge: the kernel follows no connection there (RFC 4890, 4.4.1).
            let neighbours = Rule::new().protocol(ICMPV6).has_any(Field::CtState, ct_state::UNTRACKED);
            batch.add_rule(table, FORWARD, &neighbours.accept());
        }
        for (range, field) in ranges.iter().flat_map(|range| [(range, source), (range, destination)]) {
            let unknown = Rule::new().network(field, Operator::Eq, range.first(), range.prefix());
            batch.add_rule(table, FORWARD, &unknown.not_in_set(&[field], HERE).drop());
        }
        batch.add_rule(table, FORWARD, &Rule::new().in_set(&[source, destination], SELF).accept());
        batch.add_rule(table, FORWARD, &Rule::new().vmap(&[source], map_name(Direction::Egress)));
        batch.add_rule(table, FORWARD, &Rule::new().vmap(&[destination], map_name(Direction::Ingress)));
    }

    fn sets(&mut self, batch: &mut Batch, model: &Model, wanted: &BTreeMap<&String, bool>) {
        for (&name, has_port) in wanted {
            let held = self.sets.get(name);
            if held.is_some() && !model.has_changed(name) {
                continue;
            }
            let members = model.members(name, self.family);
            if held.is_none() {
                let key: &[Type] =
                    if *has_port { &[self.address(), Type::Protocol, Type::Port] } else { &[self.address()] };
                batch.add_set(&self.table, &Set::new(name, key));
            }
            let element = |(ip, protocol, port): &Member| {
                let key = Key::new().address(*ip);
                Element::new(if *has_port { key.protocol(*protocol).port(*port) } else { key })
            };
            let none = BTreeSet::new();
            let held = held.unwrap_or(&none);
            batch.delete_elements(&self.table, name, held.difference(&members).map(element));
            batch.add_elements(&self.table, name, members.difference(held).map(element));
            self.sets.insert(name.clone(), members);
        }
    }

    fn entries(&self, batch: &mut Batch, wanted: &BTreeMap<(Direction, IpAddr), String>) {
        let is_gone = |key: &(Direction, IpAddr), name: &String| wanted.get(key) != Some(name);
        let addresses = |entries: &BTreeMap<(Direction, IpAddr), String>| -> BTreeSet<IpAddr> {
            entries.keys().map(|(_, ip)| *ip).collect()
        };
        for direction in [Direction::Egress, Direction::Ingress] {
            let own = |((of, _), _): &(&(Direction, IpAddr), &String)| *of == direction;
            let gone = self.entries.iter().filter(own).filter(|(key, name)| is_gone(key, name));
            let gone = gone.map(|((_, ip), _)| Element::new(Key::new().address(*ip)));
            batch.delete_elements(&self.table, map_name(direction), gone);
            let new = wanted.iter().filter(own).filter(|(key, name)| self.entries.get(*key) != Some(*name));
            let new =
                new.map(|((_, ip), name)| Element::new(Key::new().address(*ip)).verdict(Verdict::Jump(name.clone())));
            batch.add_elements(&self.table, map_name(direction), new);
        }
        let (had, has) = (addresses(&self.entries), addresses(wanted));
        let pair = |ip: &IpAddr| Element::new(Key::new().address(*ip).address(*ip));
        batch.delete_elements(&self.table, SELF, had.difference(&has).map(pair));
        batch.add_elements(&self.table, SELF, has.difference(&had).map(pair));
    }
}
