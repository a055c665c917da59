//! Volumes that have room of their own, and who measures it.

use std::path::PathBuf;

use super::{Mounted, Place, Volumes, claims, csi, namespace};

/// A volume of a pod that can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeAt {
    /// The pod's uid.
    pub uid: String,
    /// The volume's name in the pod.
    pub name: String,
    /// Namespace and name of its claim, if it is a claim's.
    pub claim: Option<(String, String)>,
    /// Who measures it.
    pub by: MeasuredBy,
}

/// Who knows how much room a volume has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeasuredBy {
    /// The kernel: it is a folder.
    Kernel(PathBuf),
    /// Its driver.
    Driver {
        /// Where the driver listens.
        socket: PathBuf,
        /// What it calls the volume.
        handle: String,
        /// Where the pod has it.
        path: PathBuf,
    },
}

impl Volumes {
    /// The volumes of claims and those of drivers that pods have now, sorted by pod and name.
    pub(crate) fn measurable(&self) -> Vec<VolumeAt> {
        let mut found = Vec::new();
        for (uid, entry) in self.0.pods().iter() {
            for volume in entry.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
                let claim = claims::named(&entry.pod, volume);
                let mounted = entry.mounted.as_ref().and_then(|mounted| mounted.get(&volume.name));
                let Some(mounted) = mounted.filter(|_| claim.is_some() || volume.csi.is_some()) else { continue };
                let claim = claim.map(|(claim, _)| (namespace(&entry.pod).to_owned(), claim));
                found.push((uid.clone(), volume.name.clone(), claim, mounted.clone()));
            }
        }
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        // What drivers have is looked up on disk, which nobody should have to wait for.
        let at = |(uid, name, claim, mounted): (String, String, _, Mounted)| {
            let by = self.measured_by(&uid, &mounted.place)?;
            Some(VolumeAt { uid, name, claim, by })
        };
        found.into_iter().filter_map(at).collect()
    }

    /// Of a driver that is not there nobody knows.
    fn measured_by(&self, uid: &str, place: &Place) -> Option<MeasuredBy> {
        match (csi::driven(self.dirs(), uid, place), place) {
            (Some((driver, handle)), Place::Path(path) | Place::Device(path)) => {
                let socket = self.0.config.drivers.socket(&driver).ok()?;
                Some(MeasuredBy::Driver { socket, handle, path: path.clone() })
            }
            (None, Place::Path(path)) => Some(MeasuredBy::Kernel(path.clone())),
            _ => None,
        }
    }
}
