//! Names and addresses that stand in the settings themselves.

use std::collections::HashMap;
use std::net::IpAddr;

use super::tokens::Directive;
use super::{Wrong, name, wrong};
use crate::cluster::reverse_address;
use crate::wire::{Answer, Name, Record, code, kind};

/// How long they hold, in seconds: CoreDNS'.
const TTL: u32 = 3600;

/// Names with their addresses.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    names: HashMap<Name, Vec<IpAddr>>,
    ttl: u32,
    falls_through: bool,
    reverse: bool,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { names: HashMap::new(), ttl: TTL, falls_through: false, reverse: true }
    }
}

impl Hosts {
    pub(super) fn take(&mut self, words: &[String], body: &[Directive]) -> Result<(), Wrong> {
        if let Some(file) = words.first() {
            return wrong(format!("`{file}`: files are not read; write addresses and names into the block"));
        }
        for line in body {
            self.line(line).map_err(|(_, what)| (Some(line.line), what))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Directive) -> Result<(), Wrong> {
        let (first, rest) = line.words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        match first {
            "fallthrough" => self.falls_through = true,
            "no_reverse" => self.reverse = false,
            "reload" => {}
            "ttl" => {
                let seconds = rest.first().and_then(|word| word.parse().ok()).filter(|ttl| (1..=65535).contains(ttl));
                self.ttl = seconds.ok_or((None, "`ttl` takes a number of seconds from 1 to 65535".to_owned()))?;
            }
            address => {
                let Ok(address) = address.parse::<IpAddr>() else {
                    return wrong(format!("`{address}` is no address; a line is an address and names"));
                };
                if rest.is_empty() {
                    return wrong("names are missing behind the address");
                }
                for text in rest {
                    let addresses = self.names.entry(name(text)?).or_default();
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
            }
        }
        Ok(())
    }

    /// Leaves the names that are not here to others.
    pub(super) fn fall_through(&mut self) {
        self.falls_through = true;
    }

    /// What is said of a name; none if others may know.
    pub(crate) fn find(&self, name: &Name, kind: u16) -> Option<Answer> {
        let answer = |records: Vec<Record>| Some(Answer::of_zone(records, Vec::new()));
        if kind == kind::PTR && self.reverse {
            let address = reverse_address(name);
            let owns = |(owner, addresses): (&Name, &Vec<IpAddr>)| {
                address.is_some_and(|address| addresses.contains(&address)).then(|| owner.clone())
            };
            let mut owners: Vec<Name> = self.names.iter().filter_map(owns).collect();
            owners.sort();
            if !owners.is_empty() {
                return answer(owners.iter().map(|owner| Record::name(name, kind, self.ttl, owner)).collect());
            }
        }
        let known = self.names.get(name);
        if kind != kind::A && kind != kind::AAAA {
            // CoreDNS hands all other types on, if there is anyone to hand them to.
            return None;
        }
        let fits = |address: &&IpAddr| address.is_ipv4() == (kind == kind::A);
        match known {
            Some(addresses) => {
                let fitting = addresses.iter().filter(fits);
                answer(fitting.map(|address| Record::address(name, self.ttl, *address)).collect())
            }
            None if self.falls_through => None,
            None => Some(Answer::code(code::NO_NAME)),
        }
    }
}
