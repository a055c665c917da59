//! What the kernel holds, as far as this proxy put it there, and the step from there to what it should hold: only what differs is in
//! the batch. Services may claim the same element (one pod behind two Services, one address given to two): the first keeps it, and
//! when it goes the next one has it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_client::ObjectRef;

use super::layout::table;
use super::model::IpFamily;
use super::render::{Act, Chain, Rendered, Slot, Sticky};
use crate::nft::{Batch, Element};

/// Kernels before 6.2 notice only some time after an element is gone that nothing leads to its chain any more.
const STALE: Duration = Duration::from_secs(1);

/// What the kernel holds for one Service.
#[derive(Debug)]
struct Programmed {
    id: u32,
    slots: Box<[Slot]>,
    /// Its chains, each with a hash of its rules.
    chains: Box<[(IpFamily, Arc<str>, u64)]>,
    sticky: Box<[Sticky]>,
}

/// Who claims an element: the first has it.
type Claims = Vec<(u32, Act)>;

/// What the kernel holds.
#[derive(Debug, Default)]
pub(crate) struct State {
    services: HashMap<ObjectRef, Programmed>,
    claims: HashMap<Slot, Claims>,
    /// Elements that the batch under way changes, as they were before it.
    touched: BTreeMap<Slot, Option<Act>>,
    /// Chains without rules, to be deleted.
    stale: Vec<(Instant, IpFamily, Arc<str>)>,
    last_id: u32,
}

impl State {
    /// Makes a Service as it was rendered; `None` if it is gone. [`State::finish`] must follow.
    pub(crate) fn change(&mut self, batch: &mut Batch, service: &ObjectRef, rendered: Option<Rendered>) {
        let old = self.services.remove(service);
        let id = old.as_ref().map_or_else(
            || {
                self.last_id = self.last_id.wrapping_add(1);
                self.last_id
            },
            |old| old.id,
        );
        let Rendered { elements, chains, mut sticky } = rendered.unwrap_or_default();
        sticky.sort_unstable();
        sticky.dedup();
        for slot in old.iter().flat_map(|old| &old.slots).filter(|slot| !elements.contains_key(slot)) {
            self.unclaim(slot, id);
        }
        self.change_chains(batch, old.as_ref(), &chains, &sticky);
        let mut slots = Vec::with_capacity(elements.len());
        for (slot, act) in elements {
            self.claim(&slot, id, act);
            slots.push(slot);
        }
        if slots.is_empty() && chains.is_empty() {
            return;
        }
        let chains = chains.iter().map(|chain| (chain.family, chain.name.clone(), hash(chain))).collect();
        let programmed = Programmed { id, slots: slots.into(), chains, sticky: sticky.into() };
        self.services.insert(service.clone(), programmed);
    }

    /// Takes back a change that the kernel refused, of a Service that it holds nothing for.
    pub(crate) fn forget(&mut self, service: &ObjectRef) {
        if let Some(refused) = self.services.remove(service) {
            refused.slots.iter().for_each(|slot| self.unclaim(slot, refused.id));
        }
        self.touched.clear();
    }

    fn change_chains(&mut self, batch: &mut Batch, old: Option<&Programmed>, chains: &[Chain], sticky: &[Sticky]) {
        let had = |chain: &Chain| {
            let mut all = old.iter().flat_map(|old| &old.chains);
            all.find(|(family, name, _)| *family == chain.family && *name == chain.name).map(|(_, _, hash)| *hash)
        };
        let changed: Vec<_> = chains.iter().filter(|chain| had(chain) != Some(hash(chain))).collect();
        for chain in &changed {
            let was_stale = self.stale.len();
            self.stale.retain(|(_, family, name)| *family != chain.family || *name != chain.name);
            if had(chain).is_none() && self.stale.len() == was_stale {
                batch.add_chain(&table(chain.family), &chain.name);
            }
        }
        for clients in sticky.iter().filter(|clients| old.is_none_or(|old| !old.sticky.contains(clients))) {
            batch.add_set(&table(clients.family), &clients.set());
        }
        for chain in changed {
            let table = table(chain.family);
            if had(chain).is_some() {
                batch.flush_chain(&table, &chain.name);
            }
            for rule in &chain.rules {
                batch.add_rule(&table, &chain.name, rule);
            }
        }
        let Some(old) = old else { return };
        for (family, name, _) in &old.chains {
            if !chains.iter().any(|chain| chain.family == *family && chain.name == *name) {
                batch.flush_chain(&table(*family), name);
                self.stale.push((Instant::now(), *family, name.clone()));
            }
        }
        for clients in old.sticky.iter().filter(|clients| !sticky.contains(clients)) {
            batch.delete_set(&table(clients.family), &clients.name);
        }
    }

    fn claim(&mut self, slot: &Slot, id: u32, act: Act) {
        let claims = self.claims.entry(slot.clone()).or_default();
        let before = claims.first().map(|(_, act)| act.clone());
        match claims.iter_mut().find(|(owner, _)| *owner == id) {
            Some((_, own)) => *own = act,
            None => claims.push((id, act)),
        }
        if claims.first().map(|(_, act)| act) != before.as_ref() {
            self.touched.entry(slot.clone()).or_insert(before);
        }
    }

    fn unclaim(&mut self, slot: &Slot, id: u32) {
        let Some(claims) = self.claims.get_mut(slot) else { return };
        let before = claims.first().map(|(_, act)| act.clone());
        claims.retain(|(owner, _)| *owner != id);
        if claims.first().map(|(_, act)| act) != before.as_ref() {
            self.touched.entry(slot.clone()).or_insert(before);
        }
        if claims.is_empty() {
            self.claims.remove(slot);
        }
    }

    /// Adds the elements that changed to the batch: first those that go, then those that come.
    pub(crate) fn finish(&mut self, batch: &mut Batch) {
        let touched = std::mem::take(&mut self.touched);
        let (mut going, mut coming) = (Vec::new(), Vec::new());
        for (slot, before) in touched {
            let now = self.claims.get(&slot).and_then(|claims| claims.first()).map(|(_, act)| act);
            if now == before.as_ref() {
                continue;
            }
            let place = (slot.family, slot.container);
            if let Some(now) = now {
                coming.push((place, slot.element(now)));
            }
            if before.is_some() {
                going.push((place, Element::new(slot.key)));
            }
        }
        for (place, elements) in grouped(going) {
            batch.delete_elements(&table(place.0), place.1.name(), elements);
        }
        for (place, elements) in grouped(coming) {
            batch.add_elements(&table(place.0), place.1.name(), elements);
        }
    }

    /// The clients that stick to endpoints, for all Services.
    pub(crate) fn sticky(&self) -> impl Iterator<Item = &Sticky> {
        self.services.values().flat_map(|service| &service.sticky)
    }

    /// When the next chains can be deleted.
    pub(crate) fn next_stale(&self) -> Option<Instant> {
        self.stale.first().map(|(since, ..)| *since + STALE)
    }

    /// Deletes chains that nothing has led to for long enough.
    pub(crate) fn delete_stale(&mut self, batch: &mut Batch, now: Instant) {
        self.stale.retain(|(since, family, name)| {
            let stays = now < *since + STALE;
            if !stays {
                batch.delete_chain(&table(*family), name);
            }
            stays
        });
    }
}

/// Neighbours of one place together.
fn grouped<P: PartialEq + Copy>(all: Vec<(P, Element)>) -> Vec<(P, Vec<Element>)> {
    let mut groups: Vec<(P, Vec<Element>)> = Vec::new();
    for (place, element) in all {
        match groups.last_mut() {
            Some((last, elements)) if *last == place => elements.push(element),
            _ => groups.push((place, vec![element])),
        }
    }
    groups
}

fn hash(chain: &Chain) -> u64 {
    let mut hasher = DefaultHasher::new();
    chain.rules.hash(&mut hasher);
    hasher.finish()
}
