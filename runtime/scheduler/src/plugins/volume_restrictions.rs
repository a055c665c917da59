//! `VolumeRestrictions`: disks that only one pod of a node can have, and claims that only one pod can have at all.

use std::sync::Arc;

use kiln_client::ObjectRef;

use crate::cache::NodeInfo;
use crate::framework::{Event, Filter, Plugin, PluginId, PreFilter, Refusal, Update, Verdict, World};
use crate::model::{Disk, Pod, Volume};

const DISK: &str = "node(s) had no available disk";
const ONE_POD: &str =
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
const ID: PluginId = PluginId::VolumeRestrictions;

pub(super) struct VolumeRestrictions;

fn disks(pod: &Pod) -> impl Iterator<Item = &Disk> {
    pod.spec.volumes.iter().filter_map(|volume| match volume {
        Volume::Disk(disk) => Some(disk),
        _ => None,
    })
}

fn claims(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec.volumes.iter().filter_map(|volume| match volume {
        Volume::Claim(name) => Some(&**name),
        _ => None,
    })
}

#[derive(Clone)]
struct Restrictions<'a> {
    pod: &'a Pod,
    /// Claims that only one pod can have.
    exclusive: Arc<[String]>,
    /// How often others have them.
    in_use: i64,
}

impl Restrictions<'_> {
    fn uses(&self, other: &Pod) -> i64 {
        if other.namespace != self.pod.namespace {
            return 0;
        }
        let used = claims(other).filter(|claim| self.exclusive.iter().any(|name| name == claim));
        i64::try_from(used.count()).unwrap_or(i64::MAX)
    }
}

impl<'a> Filter<'a> for Restrictions<'a> {
    fn check(&self, info: &NodeInfo) -> Verdict {
        let mut theirs = info.pods.iter().flat_map(|other| disks(other));
        if theirs.any(|other| disks(self.pod).any(|disk| disk.conflicts(other))) {
            return Err(Refusal::unschedulable(ID, DISK));
        }
        if self.in_use > 0 { Err(Refusal::unschedulable(ID, ONE_POD)) } else { Ok(()) }
    }

    fn add(&mut self, pod: &Pod, _node: &NodeInfo) {
        self.in_use += self.uses(pod);
    }

    fn remove(&mut self, pod: &Pod, _node: &NodeInfo) {
        self.in_use -= self.uses(pod);
    }

    fn copy(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

impl Plugin for VolumeRestrictions {
    fn id(&self) -> PluginId {
        ID
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let mut exclusive = Vec::new();
        for name in claims(pod) {
            let Some(claim) = world.listers.claims.get(&ObjectRef::namespaced(&*pod.namespace, name)) else {
                return Err(Refusal::unresolvable(ID, format!("persistentvolumeclaim {name:?} not found")));
            };
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
            if modes.into_iter().flatten().any(|mode| mode == "ReadWriteOncePod") {
                exclusive.push(name.to_owned());
            }
        }
        let mut restrictions = Restrictions { pod, exclusive: exclusive.into(), in_use: 0 };
        if !restrictions.exclusive.is_empty() {
            restrictions.in_use = world.cache.pods().map(|other| restrictions.uses(other)).sum();
        }
        if restrictions.in_use == 0 && disks(pod).next().is_none() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Check(Box::new(restrictions)))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::PodGone(gone) if gone.namespace == pod.namespace => {
                disks(pod).any(|disk| disks(gone).any(|other| disk.conflicts(other)))
                    || claims(gone).any(|claim| claims(pod).any(|own| own == claim))
            }
            Event::NodeAdded(_) => true,
            Event::Claim(Update { old: None, new }) => {
                new.metadata.namespace.as_deref() == Some(&*pod.namespace)
                    && claims(pod).any(|claim| Some(claim) == new.metadata.name.as_deref())
            }
            _ => false,
        }
    }
}
