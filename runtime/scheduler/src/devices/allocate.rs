//! Chooses devices for claims: the first choice that holds for all of them, found by trying.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceAttribute, DeviceConstraint,
    DeviceRequest, DeviceRequestAllocationResult, DeviceSelector, DeviceToleration, ResourceClaim,
};
use kiln_client::ObjectRef;

use super::assumed::devices;
use super::pool::{Offer, Reach, offers};
use super::selector::Selectors;
use super::{DeviceId, allocation};
use crate::listers::Listers;
use crate::model::Node;

/// More tries than this are not made for one node.
const MOST_TRIES: usize = 100_000;

/// One way to fulfil a request.
struct Choice {
    /// `request`, or `request/subrequest`.
    name: String,
    class: String,
    /// Those of all devices that do.
    fits: Vec<usize>,
    /// How many are wanted.
    count: usize,
    admin: bool,
    tolerations: Vec<DeviceToleration>,
}

/// A request, with the ways to fulfil it in the order of preference.
struct Need<'a> {
    claim: usize,
    request: &'a str,
    choices: Vec<Choice>,
}

/// A device that is given to a request.
#[derive(Clone, Copy)]
struct Given {
    need: usize,
    choice: usize,
    offer: usize,
}

struct Search<'a> {
    claims: &'a [Arc<ResourceClaim>],
    needs: Vec<Need<'a>>,
    offers: Vec<Offer>,
    taken: HashSet<usize>,
    given: Vec<Given>,
    tries: usize,
}

/// A class that a claim names and that is not there, in words.
pub(crate) fn missing_class(listers: &Listers, claim: &ResourceClaim) -> Option<String> {
    let missing = |request: &str, class: &str| {
        let found = listers.device_classes.get(&ObjectRef::cluster(class));
        found.is_none().then(|| format!("request {request}: device class {class} does not exist"))
    };
    requests(claim).find_map(|request| match &request.exactly {
        Some(exactly) => missing(&request.name, &exactly.device_class_name),
        None => request
            .first_available
            .iter()
            .flatten()
            .find_map(|sub| missing(&format!("{}/{}", request.name, sub.name), &sub.device_class_name)),
    })
}

fn requests(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequest> {
    claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten())
}

/// The devices that claims get on a node, one result a claim; `None` if they can't all be had there.
///
/// # Errors
/// An expression can't be evaluated.
pub(crate) fn allocate(
    listers: &Listers,
    claims: &[Arc<ResourceClaim>],
    node: &Node,
) -> Result<Option<Vec<AllocationResult>>, String> {
    let slices = listers.slices.list();
    let offers = offers(&slices, node);
    let mut used: HashSet<DeviceId> = listers.assumed_devices.taken();
    for claim in listers.device_claims.list() {
        used.extend(allocation(&claim).into_iter().flat_map(devices));
    }
    let is_used = |offer: &Offer| {
        used.contains(&(offer.driver().to_owned(), offer.pool().to_owned(), offer.device().name.clone()))
    };
    let taken = offers.iter().enumerate().filter(|(_, offer)| is_used(offer)).map(|(at, _)| at).collect();
    let mut needs = Vec::new();
    for (at, claim) in claims.iter().enumerate() {
        for request in requests(claim) {
            let mut choices = Vec::new();
            if let Some(exactly) = &request.exactly {
                let selectors = exactly.selectors.as_ref();
                let mode = (exactly.allocation_mode.as_deref(), exactly.count, exactly.admin_access);
                let tolerations = exactly.tolerations.clone().unwrap_or_default();
                let class = &exactly.device_class_name;
                choices.extend(choice(listers, &offers, &request.name, class, selectors, mode, tolerations)?);
            }
            for sub in request.first_available.iter().flatten() {
                let name = format!("{}/{}", request.name, sub.name);
                let mode = (sub.allocation_mode.as_deref(), sub.count, None);
                let tolerations = sub.tolerations.clone().unwrap_or_default();
                let selectors = sub.selectors.as_ref();
                choices.extend(choice(listers, &offers, &name, &sub.device_class_name, selectors, mode, tolerations)?);
            }
            needs.push(Need { claim: at, request: &request.name, choices });
        }
    }
    let mut search = Search { claims, needs, offers, taken, given: Vec::new(), tries: 0 };
    Ok(search.fulfil(0).then(|| search.results(listers, node)))
}

/// One way to fulfil a request; `None` if its class is not there.
fn choice(
    listers: &Listers,
    offers: &[Offer],
    name: &str,
    class: &str,
    selectors: Option<&Vec<DeviceSelector>>,
    (mode, count, admin): (Option<&str>, Option<i64>, Option<bool>),
    tolerations: Vec<DeviceToleration>,
) -> Result<Option<Choice>, String> {
    let Some(found) = listers.device_classes.get(&ObjectRef::cluster(class)) else { return Ok(None) };
    let selectors = Selectors::compile(found.spec.selectors.iter().chain(selectors).flatten())?;
    let mut fits = Vec::new();
    for (at, offer) in offers.iter().enumerate() {
        if !offer.is_tainted(&tolerations) && selectors.select(offer)? {
            fits.push(at);
        }
    }
    let count = match mode {
        Some("All") => fits.len(),
        _ => usize::try_from(count.unwrap_or(1)).unwrap_or(1),
    };
    let admin = admin == Some(true);
    // All of nothing is not enough.
    let count = if mode == Some("All") { count.max(1) } else { count };
    Ok(Some(Choice { name: name.to_owned(), class: class.to_owned(), fits, count, admin, tolerations }))
}

impl Search<'_> {
    /// Fulfils this need and those after it.
    fn fulfil(&mut self, need: usize) -> bool {
        if need == self.needs.len() {
            return true;
        }
        (0..self.needs[need].choices.len()).any(|choice| self.give(need, choice, 0, 0))
    }

    /// Gives further devices by one choice, of those from a place on.
    fn give(&mut self, need: usize, choice: usize, from: usize, has: usize) -> bool {
        let way = &self.needs[need].choices[choice];
        if has == way.count {
            return self.fulfil(need + 1);
        }
        let (fits, admin) = (way.fits.clone(), way.admin);
        for (at, &offer) in fits.iter().enumerate().skip(from) {
            self.tries += 1;
            if self.tries > MOST_TRIES {
                return false;
            }
            let given = Given { need, choice, offer };
            if !admin && self.taken.contains(&offer) || !self.is_allowed(given) {
                continue;
            }
            if !admin {
                self.taken.insert(offer);
            }
            self.given.push(given);
            if self.give(need, choice, at + 1, has + 1) {
                return true;
            }
            self.given.pop();
            if !admin {
                self.taken.remove(&offer);
            }
        }
        false
    }

    /// Whether the constraints of the claim hold with one more device.
    fn is_allowed(&self, new: Given) -> bool {
        let claim = self.needs[new.need].claim;
        let constraints =
            self.claims[claim].spec.devices.iter().flat_map(|devices| devices.constraints.iter().flatten());
        constraints.into_iter().filter(|constraint| self.concerns(constraint, new)).all(|constraint| {
            let others = self
                .given
                .iter()
                .filter(|given| self.needs[given.need].claim == claim && self.concerns(constraint, **given));
            let mut others = others.map(|given| &self.offers[given.offer]);
            let new = &self.offers[new.offer];
            match (&constraint.match_attribute, &constraint.distinct_attribute) {
                (Some(name), _) => {
                    let own = attribute(new, name);
                    own.is_some() && others.all(|other| attribute(other, name) == own)
                }
                (None, Some(name)) => {
                    let own = attribute(new, name);
                    own.is_some() && others.all(|other| attribute(other, name) != own)
                }
                (None, None) => true,
            }
        })
    }

    fn concerns(&self, constraint: &DeviceConstraint, given: Given) -> bool {
        let need = &self.needs[given.need];
        let names = constraint.requests.as_deref().unwrap_or_default();
        names.is_empty() || names.iter().any(|name| name == need.request || *name == need.choices[given.choice].name)
    }

    /// What was given, by claim.
    fn results(&self, listers: &Listers, node: &Node) -> Vec<AllocationResult> {
        let of = |claim: usize| {
            let given: Vec<_> = self.given.iter().filter(|given| self.needs[given.need].claim == claim).collect();
            let result = |given: &&Given| {
                let (offer, choice) = (&self.offers[given.offer], &self.needs[given.need].choices[given.choice]);
                DeviceRequestAllocationResult {
                    request: choice.name.clone(),
                    driver: offer.driver().to_owned(),
                    pool: offer.pool().to_owned(),
                    device: offer.device().name.clone(),
                    admin_access: choice.admin.then_some(true),
                    tolerations: Some(choice.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
                    ..DeviceRequestAllocationResult::default()
                }
            };
            let results = given.iter().map(result).collect();
            let devices = DeviceAllocationResult { results: Some(results), config: self.config(listers, claim) };
            AllocationResult {
                devices: Some(devices),
                node_selector: selector(given.iter().map(|given| self.offers[given.offer].reach()), node),
                ..AllocationResult::default()
            }
        };
        (0..self.claims.len()).map(of).collect()
    }

    /// What drivers are told: what the classes say, then what the claim says.
    fn config(&self, listers: &Listers, claim: usize) -> Option<Vec<DeviceAllocationConfiguration>> {
        let mut all = Vec::new();
        for (at, need) in self.needs.iter().enumerate().filter(|(_, need)| need.claim == claim) {
            let Some(given) = self.given.iter().find(|given| given.need == at) else { continue };
            let choice = &need.choices[given.choice];
            let class = listers.device_classes.get(&ObjectRef::cluster(choice.class.clone()));
            for config in class.iter().flat_map(|class| class.spec.config.iter().flatten()) {
                all.push(DeviceAllocationConfiguration {
                    source: "FromClass".to_owned(),
                    requests: Some(vec![choice.name.clone()]),
                    opaque: config.opaque.clone(),
                });
            }
        }
        let own = self.claims[claim].spec.devices.iter().flat_map(|devices| devices.config.iter().flatten());
        all.extend(own.map(|config| DeviceAllocationConfiguration {
            source: "FromClaim".to_owned(),
            requests: config.requests.clone(),
            opaque: config.opaque.clone(),
        }));
        Some(all).filter(|all| !all.is_empty())
    }
}

/// An attribute by its full name; one without a domain is of the driver's.
fn attribute<'a>(offer: &'a Offer, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = offer.device().attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, short) = name.split_once('/')?;
        (domain == offer.driver()).then(|| attributes.get(short)).flatten()
    })
}

/// The nodes on which devices can be used together.
fn selector(reaches: impl Iterator<Item = Reach>, node: &Node) -> Option<NodeSelector> {
    let mut selected: Option<NodeSelector> = None;
    for reach in reaches {
        match reach {
            Reach::Node => {
                let named = NodeSelectorRequirement {
                    key: "metadata.name".to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![node.name.to_string()]),
                };
                let term = NodeSelectorTerm { match_fields: Some(vec![named]), match_expressions: None };
                return Some(NodeSelector { node_selector_terms: vec![term] });
            }
            Reach::Selected(selector) => match &mut selected {
                None => selected = Some(selector),
                // Slices have one term: both must hold.
                Some(known) => {
                    for (term, other) in known.node_selector_terms.iter_mut().zip(selector.node_selector_terms) {
                        let further = other.match_expressions.unwrap_or_default();
                        term.match_expressions.get_or_insert_default().extend(further);
                    }
                }
            },
            Reach::All => {}
        }
    }
    selected
}
