//! What a cluster's administrator says in a ConfigMap, in the language of CoreDNS: the part of it that people use to add names
//! and to send some elsewhere.
//!
//! `*.override` is added to what is served by default, as `hosts`, `rewrite` or `forward corp.example 10.0.0.1`; `*.server` holds
//! whole blocks for further domains, as `corp.example:53 { forward . 10.0.0.1 }`. What belongs to CoreDNS' own running, such as
//! `reload`, is understood and does nothing.

mod forward;
mod hosts;
mod rewrite;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

pub(crate) use self::forward::{Forward, Policy, Target};
pub(crate) use self::hosts::Hosts;
pub(crate) use self::rewrite::Rewrites;
use self::tokens::{Directive, parse};
use crate::wire::Name;

/// The ConfigMap that is read, in `kube-system`; K3s' name for it.
pub const CONFIG_MAP: &str = "coredns-custom";
/// The longest that answers of others are kept, in seconds: CoreDNS' in Kubernetes.
const KEEP: u32 = 30;

/// Directives of CoreDNS that say nothing to this service.
const IDLE: [&str; 12] = [
    "bind",
    "bufsize",
    "health",
    "import",
    "loadbalance",
    "loop",
    "metadata",
    "minimal",
    "prometheus",
    "ready",
    "reload",
    "startup",
];

/// What is wrong with a ConfigMap, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {what}")]
pub struct Mistake {
    /// The key, with the line.
    pub place: Place,
    /// What is wrong, in words.
    pub what: String,
}

/// Where something stands in a ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The key.
    pub key: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.key, self.line)
    }
}

/// What is served for a domain and all below it that no other block is for.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) zone: Name,
    /// Whether the cluster's own names are served.
    pub(crate) cluster: bool,
    pub(crate) rewrites: Rewrites,
    pub(crate) hosts: Option<Hosts>,
    /// The most specific one counts.
    pub(crate) forwards: Vec<Forward>,
    /// Whether each question is logged.
    pub(crate) log: bool,
    /// The longest that what there is, and what there is not, is kept, in seconds.
    pub(crate) keep: (u32, u32),
}

impl Block {
    fn new(zone: Name) -> Self {
        let (rewrites, forwards) = (Rewrites::default(), Vec::new());
        Self { zone, cluster: false, rewrites, hosts: None, forwards, log: false, keep: (0, 0) }
    }

    fn default_one(root: Name) -> Self {
        Self { cluster: true, keep: (KEEP, KEEP), ..Self::new(root) }
    }

    /// Where a name's questions are sent; none if nowhere.
    pub(crate) fn forward(&self, name: &Name) -> Option<&Forward> {
        let all = self.forwards.iter().filter(|forward| forward.is_for(name));
        all.max_by_key(|forward| forward.from.octets().len())
    }
}

/// All blocks; the first one is the default, for all that no other is for.
#[derive(Debug, Clone)]
pub(crate) struct Corefile {
    pub(crate) blocks: Vec<Block>,
}

impl Default for Corefile {
    fn default() -> Self {
        let root = Name::of_octets(&[0]);
        let mut block = Block::default_one(root.clone());
        block.forwards.push(Forward::of_system(root));
        Self { blocks: vec![block] }
    }
}

impl Corefile {
    /// Reads a ConfigMap's data.
    ///
    /// # Errors
    /// The first mistake in it.
    pub(crate) fn parse(data: &BTreeMap<String, String>) -> Result<Self, Mistake> {
        let mut file = Self::default();
        // A later `forward .` takes the place of the default.
        file.blocks[0].forwards.clear();
        for (key, text) in data {
            let at = |line: usize| Place { key: key.clone(), line };
            let is_server = key.ends_with(".server");
            if !is_server && !key.ends_with(".override") {
                continue;
            }
            for directive in parse(text).map_err(|(line, what)| Mistake { place: at(line), what })? {
                let line = directive.line;
                let done = if is_server { file.server(directive) } else { file.blocks[0].take(&directive) };
                done.map_err(|(inner, what)| Mistake { place: at(inner.unwrap_or(line)), what })?;
            }
        }
        let block = &mut file.blocks[0];
        // Else a forgotten `fallthrough` would take every other name away from the whole cluster.
        if let Some(hosts) = &mut block.hosts {
            hosts.fall_through();
        }
        if block.forwards.iter().all(|forward| forward.from != block.zone) {
            block.forwards.push(Forward::of_system(block.zone.clone()));
        }
        Ok(file)
    }

    /// The block for a name.
    pub(crate) fn block(&self, name: &Name) -> &Block {
        let matching = self.blocks.iter().filter(|block| name.is_under(&block.zone));
        matching.max_by_key(|block| block.zone.octets().len()).unwrap_or(&self.blocks[0])
    }

    /// Takes a block for domains of its own.
    fn server(&mut self, directive: Directive) -> Result<(), Wrong> {
        let Some(body) = &directive.body else {
            return wrong("a block of directives in braces is missing behind the domains");
        };
        let words = directive.words.iter().map(|word| word.trim_end_matches(',')).filter(|word| !word.is_empty());
        for word in words {
            let zone = zone(word)?;
            if self.blocks.iter().any(|block| block.zone == zone) {
                return wrong(format!("{zone} has a block already; what is to be added to it belongs into *.override"));
            }
            let mut block = Block::new(zone);
            for inner in body {
                block.take(inner).map_err(|(line, what)| (line.or(Some(inner.line)), what))?;
            }
            self.blocks.push(block);
        }
        Ok(())
    }
}

/// What is wrong, with its line if it is another one than the directive's.
type Wrong = (Option<usize>, String);

fn wrong<T>(what: impl Into<String>) -> Result<T, Wrong> {
    Err((None, what.into()))
}

/// A block's domain, as `corp.example`, `corp.example:53` or `dns://corp.example`.
fn zone(word: &str) -> Result<Name, Wrong> {
    let text = word.strip_prefix("dns://").unwrap_or(word);
    let text = match text.split_once(':') {
        Some((text, "53")) => text,
        Some(_) => return wrong(format!("`{word}`: names are served on port 53 only, and over nothing but plain DNS")),
        None => text,
    };
    name(text)
}

fn name(text: &str) -> Result<Name, Wrong> {
    Name::parse(text).ok_or_else(|| (None, format!("`{text}` is no domain")))
}

impl Block {
    fn take(&mut self, directive: &Directive) -> Result<(), Wrong> {
        let (name, words) = directive.words.split_first().map_or(("", &[][..]), |(name, words)| (name.as_str(), words));
        match name {
            "hosts" => self.hosts.get_or_insert_default().take(words, directive.body.as_deref().unwrap_or_default()),
            "rewrite" => self.rewrites.take(words),
            "forward" => {
                let forward = Forward::parse(words, directive.body.as_deref().unwrap_or_default())?;
                if self.forwards.iter().any(|known| known.from == forward.from) {
                    return wrong(format!("{} is sent somewhere already", forward.from));
                }
                self.forwards.push(forward);
                Ok(())
            }
            "cache" => self.cache(words, directive.body.as_deref().unwrap_or_default()),
            "log" => {
                self.log = true;
                Ok(())
            }
            // What goes wrong is logged in any case.
            "errors" => Ok(()),
            idle if IDLE.contains(&idle) => Ok(()),
            other => {
                wrong(format!("`{other}` is not known here; there are cache, errors, forward, hosts, log and rewrite"))
            }
        }
    }

    /// `cache [TTL] { success CAPACITY TTL; denial CAPACITY TTL }`. The capacity is the node's affair.
    fn cache(&mut self, words: &[String], body: &[Directive]) -> Result<(), Wrong> {
        let seconds = |word: &String| match word.parse() {
            Ok(seconds) if seconds <= 86400 => Ok(seconds),
            _ => wrong(format!("`{word}` is no number of seconds up to a day")),
        };
        // CoreDNS' own, where nothing is said.
        self.keep = (3600, 1800);
        if let Some(word) = words.first().filter(|word| word.parse::<u32>().is_ok()) {
            let seconds = seconds(word)?;
            self.keep = (seconds, seconds);
        }
        for inner in body {
            let kept = match inner.words.first().map(String::as_str) {
                Some("success") => &mut self.keep.0,
                Some("denial") => &mut self.keep.1,
                _ => continue,
            };
            if let Some(word) = inner.words.get(2) {
                *kept = seconds(word).map_err(|(_, what)| (Some(inner.line), what))?;
            }
        }
        Ok(())
    }
}
