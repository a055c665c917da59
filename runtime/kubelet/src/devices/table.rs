//! Which devices there are, and who has them: decided here, without asking anybody.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::messages::{Allocation, PluginOptions};

/// How long the devices of a plugin that went away are still told of: upstream's grace.
const GRACE: Duration = Duration::from_secs(300);

/// The devices of one resource.
#[derive(Debug, Clone, Default)]
pub(super) struct Resource {
    /// Where its plugin listens; none before it has presented itself.
    pub(super) socket: Option<PathBuf>,
    pub(super) options: PluginOptions,
    /// Ids, and whether each is healthy.
    devices: BTreeMap<String, bool>,
    /// Counts the plugins that came for this resource: the one before may end later.
    turn: u64,
    /// Since when no plugin stands for it.
    gone: Option<Instant>,
}

/// What a container has of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) ids: BTreeSet<String>,
    pub(super) allocation: Allocation,
}

/// What containers have: by the pod's uid, the container's name and the resource's.
pub(super) type GivenAll = BTreeMap<String, BTreeMap<String, BTreeMap<String, Given>>>;

/// Devices that a container is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Those that are decided on: that an init container had before.
    pub(super) chosen: BTreeSet<String>,
    /// Those that the others can be taken of.
    pub(super) available: BTreeSet<String>,
    /// How many others are needed.
    pub(super) missing: usize,
}

impl Plan {
    /// Takes as many as are missing, first of these.
    pub(super) fn take(mut self, preferred: &[String]) -> BTreeSet<String> {
        let preferred = preferred.iter().filter(|id| self.available.contains(*id)).cloned();
        let rest = self.available.iter().cloned();
        for id in preferred.chain(rest) {
            if self.missing == 0 {
                break;
            }
            if self.chosen.insert(id) {
                self.missing -= 1;
            }
        }
        self.chosen
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    resources: BTreeMap<String, Resource>,
    pub(super) given: GivenAll,
}

impl Table {
    /// What a kubelet before this one gave away. Its resources have no devices until their plugins come.
    pub(super) fn restore(resources: Vec<String>, given: GivenAll) -> Self {
        let resources = resources.into_iter().map(|name| (name, Resource::default())).collect();
        Self { resources, given }
    }

    /// The names of all resources.
    pub(super) fn names(&self) -> Vec<String> {
        self.resources.keys().cloned().collect()
    }

    /// Whether a resource is devices of plugins.
    pub(super) fn knows(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
    }

    pub(super) fn get(&self, resource: &str) -> Option<&Resource> {
        self.resources.get(resource)
    }

    /// A plugin has come for a resource. Answers its turn.
    pub(super) fn register(&mut self, resource: &str, socket: PathBuf, options: PluginOptions) -> u64 {
        let known = self.resources.entry(resource.to_owned()).or_default();
        *known = Resource { socket: Some(socket), options, turn: known.turn + 1, gone: None, ..Resource::default() };
        known.turn
    }

    /// What the plugin of this turn has. Answers whether that is still the one that counts.
    pub(super) fn set_devices(&mut self, resource: &str, turn: u64, devices: BTreeMap<String, bool>) -> bool {
        match self.resources.get_mut(resource) {
            Some(known) if known.turn == turn => {
                known.devices = devices;
                true
            }
            _ => false,
        }
    }

    /// The plugin of this turn has gone: nobody knows how its devices are.
    pub(super) fn lose(&mut self, resource: &str, turn: u64, now: Instant) {
        if let Some(known) = self.resources.get_mut(resource).filter(|known| known.turn == turn) {
            known.devices.values_mut().for_each(|healthy| *healthy = false);
            known.gone = Some(now);
        }
    }

    /// How many devices of each resource there are, and how many of them pods can have. Resources whose plugin has been gone for
    /// long have none: the Node goes on naming them.
    pub(super) fn capacity(&self, now: Instant) -> BTreeMap<String, (usize, usize)> {
        let count = |known: &Resource| {
            let is_over = known.gone.is_some_and(|gone| now.duration_since(gone) >= GRACE);
            let all = if is_over { 0 } else { known.devices.len() };
            (all, known.devices.values().filter(|healthy| **healthy).count())
        };
        self.resources.iter().map(|(name, known)| (name.clone(), count(known))).collect()
    }

    /// Takes back what these pods have. Answers whether there was something.
    pub(super) fn free(&mut self, pods: &HashSet<String>) -> bool {
        let before = self.given.len();
        self.given.retain(|uid, _| !pods.contains(uid));
        self.given.len() != before
    }

    /// Whether a device can be used; nothing, if it is not known.
    pub(super) fn is_healthy(&self, resource: &str, id: &str) -> Option<bool> {
        self.resources.get(resource)?.devices.get(id).copied()
    }

    /// Devices of a resource that containers have.
    fn in_use(&self, resource: &str) -> BTreeSet<&String> {
        let containers = self.given.values().flat_map(BTreeMap::values);
        containers.filter_map(|resources| resources.get(resource)).flat_map(|given| &given.ids).collect()
    }

    /// What a container has of a resource.
    pub(super) fn of(&self, uid: &str, container: &str, resource: &str) -> Option<&Given> {
        self.given.get(uid)?.get(container)?.get(resource)
    }

    /// How a container comes to its devices; `None` if it has them. `reusable` are those of its pod's init containers that are over
    /// by then.
    ///
    /// # Errors
    /// Why it cannot have them, in upstream's words.
    pub(super) fn plan(
        &self,
        (uid, container): (&str, &str),
        resource: &str,
        wanted: usize,
        reusable: &BTreeSet<String>,
    ) -> Result<Option<Plan>, String> {
        let had = self.of(uid, container, resource).map(|given| &given.ids);
        if let Some(had) = had.filter(|had| had.len() != wanted) {
            return Err(format!(
                "pod {uid:?} container {container:?} changed request for resource {resource:?} from {} to {wanted}",
                had.len()
            ));
        }
        let known =
            self.resources.get(resource).ok_or_else(|| format!("cannot allocate unregistered device {resource}"))?;
        let healthy: BTreeSet<&String> =
            known.devices.iter().filter(|(_, healthy)| **healthy).map(|(id, _)| id).collect();
        if healthy.is_empty() {
            return Err(format!("no healthy devices present; cannot allocate unhealthy devices {resource}"));
        }
        if let Some(had) = had {
            return if had.iter().all(|id| healthy.contains(id)) {
                Ok(None)
            } else {
                let why = "previously allocated devices are no longer healthy; cannot allocate unhealthy devices";
                Err(format!("{why} {resource}"))
            };
        }
        let chosen: BTreeSet<String> = reusable.iter().take(wanted).cloned().collect();
        let missing = wanted - chosen.len();
        let in_use = self.in_use(resource);
        let available: BTreeSet<String> = healthy.difference(&in_use).map(|id| (*id).clone()).collect();
        if available.len() < missing {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {missing}, Available: {}",
                available.len()
            ));
        }
        Ok(Some(Plan { chosen, available, missing }))
    }

    /// A container has devices now.
    pub(super) fn give(&mut self, (uid, container): (&str, &str), resource: &str, given: Given) {
        let containers = self.given.entry(uid.to_owned()).or_default();
        containers.entry(container.to_owned()).or_default().insert(resource.to_owned(), given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "example.org/stick";

    fn ids(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn table(devices: &[(&str, bool)]) -> (Table, u64) {
        let mut table = Table::default();
        let turn = table.register(NAME, "/p/a.sock".into(), PluginOptions::default());
        let devices = devices.iter().map(|&(id, healthy)| (id.to_owned(), healthy)).collect();
        assert!(table.set_devices(NAME, turn, devices));
        (table, turn)
    }

    fn give(table: &mut Table, uid: &str, names: &[&str]) {
        table.give((uid, "c"), NAME, Given { ids: ids(names), ..Given::default() });
    }

    #[test]
    fn a_container_gets_healthy_devices_that_nobody_has() {
        let (mut table, _) = table(&[("a", true), ("b", false), ("c", true), ("d", true)]);
        give(&mut table, "other", &["a"]);
        let plan = table.plan(("u", "c"), NAME, 1, &BTreeSet::new()).unwrap().unwrap();
        assert_eq!(plan, Plan { chosen: ids(&[]), available: ids(&["c", "d"]), missing: 1 });
        assert_eq!(plan.clone().take(&[]), ids(&["c"]));
        assert_eq!(plan.clone().take(&["d".to_owned()]), ids(&["d"]));
        // What was never available is not taken, whatever the plugin prefers.
        assert_eq!(plan.take(&["a".to_owned()]), ids(&["c"]));
    }

    #[test]
    fn devices_of_an_init_container_come_first() {
        let (mut table, _) = table(&[("a", true), ("b", true), ("c", true)]);
        give(&mut table, "u", &["b"]);
        let plan = table.plan(("u", "main"), NAME, 2, &ids(&["b"])).unwrap().unwrap();
        assert_eq!(plan, Plan { chosen: ids(&["b"]), available: ids(&["a", "c"]), missing: 1 });
    }

    #[test]
    fn what_cannot_be_given_is_told_in_upstreams_words() {
        let (mut table, turn) = table(&[("a", true), ("b", true)]);
        give(&mut table, "other", &["a"]);
        give(&mut table, "u", &["b"]);
        let told = |table: &Table, key: (&str, &str), name: &str, wanted| {
            table.plan(key, name, wanted, &BTreeSet::new()).unwrap_err()
        };
        for (key, name, wanted, why) in [
            (
                ("v", "c"),
                NAME,
                2,
                "requested number of devices unavailable for example.org/stick. Requested: 2, Available: 0",
            ),
            (("v", "c"), "example.org/no", 1, "cannot allocate unregistered device example.org/no"),
            (
                ("u", "c"),
                NAME,
                2,
                "pod \"u\" container \"c\" changed request for resource \"example.org/stick\" from 1 to 2",
            ),
        ] {
            assert_eq!(told(&table, key, name, wanted), why);
        }
        assert_eq!(table.plan(("u", "c"), NAME, 1, &BTreeSet::new()), Ok(None), "it has what it wants");
        table.set_devices(NAME, turn, [("a".to_owned(), true), ("b".to_owned(), false)].into());
        let why =
            "previously allocated devices are no longer healthy; cannot allocate unhealthy devices example.org/stick";
        assert_eq!(told(&table, ("u", "c"), NAME, 1), why);
        table.lose(NAME, turn, Instant::now());
        let why = "no healthy devices present; cannot allocate unhealthy devices example.org/stick";
        assert_eq!(told(&table, ("v", "c"), NAME, 1), why);
    }

    #[test]
    fn pods_that_are_over_give_their_devices_back() {
        let (mut table, _) = table(&[("a", true)]);
        give(&mut table, "u", &["a"]);
        assert!(!table.free(&["v".to_owned()].into()));
        assert!(table.free(&["u".to_owned()].into()));
        assert!(table.plan(("v", "c"), NAME, 1, &BTreeSet::new()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_plugin_that_went_away_leaves_nothing_in_the_end() {
        let (mut table, turn) = table(&[("a", true), ("b", false)]);
        let count = |table: &Table| table.capacity(Instant::now())[NAME];
        assert_eq!(count(&table), (2, 1));
        table.lose(NAME, turn, Instant::now());
        assert_eq!(count(&table), (2, 0));
        tokio::time::advance(GRACE).await;
        assert_eq!(count(&table), (0, 0));
        // The next one of this resource is another, and the one before does not count any more.
        let next = table.register(NAME, "/p/b.sock".into(), PluginOptions::default());
        assert!(!table.set_devices(NAME, turn, [("a".to_owned(), true)].into()));
        assert!(table.set_devices(NAME, next, [("x".to_owned(), true)].into()));
        table.lose(NAME, turn, Instant::now());
        assert_eq!(count(&table), (1, 1));
    }
}
