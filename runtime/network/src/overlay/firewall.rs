//! What packets of pods need of the node's firewall, as flannel sees to it.
//!
//! Another program's rule to drop what is passed on (Docker makes the policy of iptables' chain FORWARD that) can't be overruled from a
//! table of our own: a packet must be accepted by every one. So where that chain is there, rules at its end accept what is from
//! and to pods. They are written as iptables writes its own, which can go on listing and changing the chain. And where no service
//! proxy of ours does it, what pods send to outside the cluster is given the node's address here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Cidr;
use crate::nft::{Base, Batch, Element, Family, Field, Hook, Kind, NftError, Operator, Rule, Set, Socket, Table, Type};

/// The table and chain of iptables.
const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
/// What comments of our rules in it begin with.
const MARK: &str = "kiln: pods ";
/// The table of our own.
const MASQUERADE: &str = "kiln-masquerade";
const PODS: &str = "pod-networks";
const POSTROUTING: &str = "postrouting";

/// What the firewall is to have.
#[derive(Debug, Clone, Default)]
pub(super) struct Firewall {
    /// Addresses of pods; none: nothing of ours is to be there.
    pub(super) networks: Vec<Cidr>,
    /// Whether what pods send to outside is to have the node's address.
    pub(super) masquerades: bool,
}

impl Firewall {
    /// Puts right what differs. `anew` makes the own table anew, which an earlier run may have made for other addresses.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn keep(&self, anew: bool) -> Result<(), NftError> {
        let mut socket = Socket::open()?;
        for (family, is_v4) in [(Family::Ip, true), (Family::Ip6, false)] {
            let networks: Vec<Cidr> = self.networks.iter().copied().filter(|one| one.is_ipv4() == is_v4).collect();
            // What is let through has the right address from the first packet on.
            let kept = masquerade(&mut socket, family, if self.masquerades { &networks } else { &[] }, anew)
                .and_then(|()| accept(&mut socket, family, &networks));
            match kept {
                // A kernel without IPv6.
                Err(_) if networks.is_empty() => {}
                kept => kept?,
            }
        }
        Ok(())
    }
}

fn accept(socket: &mut Socket, family: Family, networks: &[Cidr]) -> Result<(), NftError> {
    let table = Table::new(family, FILTER);
    if !socket.chains(&table)?.iter().any(|chain| chain == FORWARD) {
        return Ok(());
    }
    let rules = networks.iter().flat_map(|network| {
        [("from", Field::source(family)), ("to", Field::destination(family))].map(|(way, field)| {
            let rule = Rule::new().network(field, Operator::Eq, network.first(), network.prefix()).counter().accept();
            (format!("{MARK}{way} {network}"), rule)
        })
    });
    let wanted: Vec<(String, Rule)> = rules.collect();
    let present = socket.rules(&table, FORWARD)?;
    let ours: Vec<(u64, String)> = present
        .into_iter()
        .filter_map(|(handle, comment)| Some((handle, comment.filter(|text| text.starts_with(MARK))?)))
        .collect();
    if ours.iter().map(|(_, comment)| comment).eq(wanted.iter().map(|(comment, _)| comment)) {
        return Ok(());
    }
    let mut batch = Batch::new();
    for (handle, _) in &ours {
        batch.delete_rule(&table, FORWARD, *handle);
    }
    for (comment, rule) in wanted {
        batch.add_rule(&table, FORWARD, &rule.comment(&comment));
    }
    socket.apply(&batch)
}

fn masquerade(socket: &mut Socket, family: Family, networks: &[Cidr], anew: bool) -> Result<(), NftError> {
    let table = Table::new(family, MASQUERADE);
    let (is_there, mut batch) = (socket.has_table(&table)?, Batch::new());
    if networks.is_empty() {
        if is_there {
            batch.remove_table(&table);
        }
        return socket.apply(&batch);
    }
    if is_there && !anew {
        return Ok(());
    }
    let (source, destination) = (Field::source(family), Field::destination(family));
    let (address, multicast) = if family == Family::Ip {
        (Type::Ipv4, (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4))
    } else {
        (Type::Ipv6, (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8))
    };
    let pods = Set::new(PODS, &[address]).intervals();
    batch.recreate_table(&table);
    batch.add_set(&table, &pods);
    batch.add_ranges(&table, &pods, networks.iter().map(|one| Element::network(one.first(), one.prefix())));
    batch.add_base_chain(&table, POSTROUTING, &Base { kind: Kind::Nat, hook: Hook::Postrouting, priority: 100 });
    let leaving = Rule::new().in_set(&[source], PODS).not_in_set(&[destination], PODS);
    let leaving = leaving.network(destination, Operator::Ne, multicast.0, multicast.1).masquerade();
    batch.add_rule(&table, POSTROUTING, &leaving);
    socket.apply(&batch)
}
