//! Volumes and claims.

use crate::registry::resource::{Resource, core};

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]).with_status().fields(&["spec", "status"]),
        core("PersistentVolume", "persistentvolumes").cluster().short(&["pv"]).with_status().fields(&["spec", "status"]),
    ]
}
