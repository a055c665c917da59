//! What is known of pods and policies, and what the kernel is to have by that.
//!
//! Only policies that select a pod of this node count, and only the sets that their chains look into are kept: what happens to
//! pods elsewhere that no rule here speaks of costs a look-up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use kiln_client::ObjectRef;

use super::chains::{Chain, Direction, Who, chain};
use super::rules::{Namespaces, Policy};
use super::views::PodView;
use crate::Cidr;
use crate::nft::Family;

/// An element of a set of pods: an address, and protocol and port where the set has these.
pub(super) type Member = (IpAddr, u8, u16);

/// Pods of a rule.
#[derive(Debug, Default)]
struct Members {
    who: Option<Who>,
    /// How many pods have each: for a moment two may have the same address.
    count: BTreeMap<Member, u32>,
    /// Whether the kernel may have something else.
    changed: bool,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Model {
    node: String,
    ranges: Vec<Cidr>,
    policies: BTreeMap<ObjectRef, Policy>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    pods: HashMap<ObjectRef, Arc<PodView>>,
    /// Sets by their names.
    sets: BTreeMap<String, Members>,
    /// Chains of pods here, by address.
    entries: BTreeMap<(Direction, IpAddr), (ObjectRef, Arc<Chain>)>,
}

impl Model {
    /// Nothing yet, on this node.
    pub(super) fn new(node: String) -> Self {
        Self {
            node,
            ranges: Vec::new(),
            policies: BTreeMap::new(),
            namespaces: HashMap::new(),
            pods: HashMap::new(),
            sets: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Takes in policies, in the place of all that were known.
    pub(super) fn set_policies(&mut self, policies: BTreeMap<ObjectRef, Policy>) {
        if policies != self.policies {
            self.policies = policies;
            self.place_all();
        }
    }

    /// Takes in a namespace, or that it is gone.
    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<&BTreeMap<String, String>>) {
        if self.namespaces.get(name) == labels {
            return;
        }
        let own: Vec<Arc<PodView>> =
            self.pods.iter().filter(|(key, _)| key.namespace == name).map(|(_, pod)| Arc::clone(pod)).collect();
        own.iter().for_each(|pod| self.count(pod, false));
        match labels {
            Some(labels) => _ = self.namespaces.insert(name.to_owned(), labels.clone()),
            None => _ = self.namespaces.remove(name),
        }
        own.iter().for_each(|pod| self.count(pod, true));
    }

    /// Takes in a pod, or that it is gone.
    pub(super) fn set_pod(&mut self, key: &ObjectRef, pod: Option<Arc<PodView>>) {
        let known = match &pod {
            Some(pod) => self.pods.insert(key.clone(), Arc::clone(pod)),
            None => self.pods.remove(key),
        };
        let means = |pod: &PodView| (pod.labels.clone(), pod.node.clone(), pod.ips.clone(), pod.ports.clone());
        if known.as_deref().map(means) == pod.as_deref().map(means) {
            return;
        }
        if let Some(known) = &known {
            self.count(known, false);
            if known.node == self.node {
                self.entries.retain(|_, (of, _)| of != key);
            }
        }
        if let Some(pod) = pod {
            self.count(&pod, true);
            if pod.node == self.node {
                self.place(key, &pod);
            }
        }
        self.keep_sets();
    }

    /// Finds the chains of all pods here.
    fn place_all(&mut self) {
        self.entries.clear();
        let own = self.pods.iter().filter(|(_, pod)| pod.node == self.node);
        let own: Vec<_> = own.map(|(key, pod)| (key.clone(), Arc::clone(pod))).collect();
        own.iter().for_each(|(key, pod)| self.place(key, pod));
        self.keep_sets();
    }

    fn place(&mut self, key: &ObjectRef, pod: &PodView) {
        let here = self.policies.values().filter(|policy| policy.namespace == key.namespace);
        let here: Vec<&Policy> = here.filter(|policy| policy.pods.select(&pod.labels)).collect();
        if here.is_empty() {
            return;
        }
        for ip in &pod.ips {
            let family = if ip.is_ipv4() { Family::Ip } else { Family::Ip6 };
            for direction in [Direction::Egress, Direction::Ingress] {
                let Some(chain) = chain(family, direction, pod, &here) else { continue };
                let known = self.entries.values().find(|(_, known)| known.name == chain.name);
                let chain = known.map_or_else(|| Arc::new(chain), |(_, known)| Arc::clone(known));
                self.entries.insert((direction, *ip), (key.clone(), chain));
            }
        }
    }

    /// Fills the sets that chains look into, and drops the others.
    fn keep_sets(&mut self) {
        let wanted: BTreeMap<String, Who> = self.entries.values().flat_map(|(_, chain)| chain.sets.clone()).collect();
        self.sets.retain(|name, _| wanted.contains_key(name));
        for (name, who) in wanted {
            if self.sets.contains_key(&name) {
                continue;
            }
            let mut members = Members { changed: true, ..Members::default() };
            for pod in self.pods.iter().filter(|(key, pod)| self.is_one(&who, &key.namespace, pod)).map(|(_, pod)| pod)
            {
                members.add(&who, pod);
            }
            members.who = Some(who);
            self.sets.insert(name, members);
        }
    }

    fn is_one(&self, who: &Who, namespace: &str, pod: &PodView) -> bool {
        let is_there = match &who.namespaces {
            Namespaces::One(name) => **name == *namespace,
            // One that is not known yet has no labels that anybody could count on.
            Namespaces::Labelled(labels) => self.namespaces.get(namespace).is_some_and(|known| labels.select(known)),
        };
        is_there && who.pods.select(&pod.labels)
    }

    /// Counts a pod in the sets that it belongs to, or no longer.
    fn count(&mut self, pod: &PodView, comes: bool) {
        let namespace = kiln_client::Object::key(pod).namespace;
        let belongs = |members: &Members| members.who.as_ref().is_some_and(|who| self.is_one(who, &namespace, pod));
        let names: Vec<String> =
            self.sets.iter().filter(|(_, members)| belongs(members)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(members) = self.sets.get_mut(&name)
                && let Some(who) = members.who.clone()
            {
                if comes { members.add(&who, pod) } else { members.remove(&who, pod) }
            }
        }
    }

    /// Whether there is any policy in the cluster.
    pub(super) fn is_active(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The addresses of the pods here.
    pub(super) fn here(&self, family: Family) -> BTreeSet<IpAddr> {
        let own = self.pods.values().filter(|pod| pod.node == self.node);
        own.flat_map(|pod| &pod.ips).filter(|ip| ip.is_ipv4() == (family == Family::Ip)).copied().collect()
    }

    /// Sets the ranges that pods here get their addresses from.
    pub(super) fn set_ranges(&mut self, ranges: Vec<Cidr>) {
        self.ranges = ranges;
    }

    /// The ranges of a family.
    pub(super) fn ranges(&self, family: Family) -> Vec<Cidr> {
        self.ranges.iter().filter(|range| range.is_ipv4() == (family == Family::Ip)).copied().collect()
    }

    /// The chains of a family, by direction and address.
    pub(super) fn entries(&self, family: Family) -> impl Iterator<Item = (Direction, IpAddr, &Arc<Chain>)> {
        let is_ipv4 = family == Family::Ip;
        let own = self.entries.iter().filter(move |((_, ip), _)| ip.is_ipv4() == is_ipv4);
        own.map(|((direction, ip), (_, chain))| (*direction, *ip, chain))
    }

    /// The members of a set that are of a family.
    pub(super) fn members(&self, name: &str, family: Family) -> BTreeSet<Member> {
        let is_ipv4 = family == Family::Ip;
        let all = self.sets.get(name).into_iter().flat_map(|members| members.count.keys());
        all.filter(|(ip, ..)| ip.is_ipv4() == is_ipv4).copied().collect()
    }

    /// Whether a set may differ from what was last programmed.
    pub(super) fn has_changed(&self, name: &str) -> bool {
        self.sets.get(name).is_some_and(|members| members.changed)
    }

    /// Notes that the kernel has all sets as they are here.
    pub(super) fn programmed(&mut self) {
        self.sets.values_mut().for_each(|members| members.changed = false);
    }
}

impl Members {
    fn add(&mut self, who: &Who, pod: &PodView) {
        for member in members(who, pod) {
            let count = self.count.entry(member).or_insert(0);
            *count += 1;
            self.changed |= *count == 1;
        }
    }

    fn remove(&mut self, who: &Who, pod: &PodView) {
        for member in members(who, pod) {
            let Some(count) = self.count.get_mut(&member) else { continue };
            *count -= 1;
            if *count == 0 {
                self.count.remove(&member);
                self.changed = true;
            }
        }
    }
}

fn members(who: &Who, pod: &PodView) -> BTreeSet<Member> {
    let each = pod.ips.iter().flat_map(|ip| match &who.port {
        None => vec![(*ip, 0, 0)],
        Some((protocol, name)) => {
            let named = pod.ports.iter().filter(|(known, own, _)| known == protocol && own == name);
            named.map(|(protocol, _, number)| (*ip, *protocol, *number)).collect()
        }
    });
    each.collect()
}
