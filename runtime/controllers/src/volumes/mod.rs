//! Storage: claims and the volumes behind them.
//!
//! [`binder`] brings claims and volumes together, [`local_path`] makes volumes on a node's own disk, [`attach`] attaches those
//! of CSI drivers to nodes, [`protection`] keeps what is in
//! use, [`ephemeral`] makes the claims of Pods that bring their own, and [`expand`] tells claims that ask for more what they wait for.

pub mod attach;
pub mod binder;
pub mod ephemeral;
pub mod expand;
pub mod local_path;
pub mod protection;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// An annotation of an object.
pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The node that the scheduler chose for the first Pod that uses a claim.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make a volume for a claim.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Who made a volume.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The storage class of a claim; empty for none.
pub(crate) fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, BETA_CLASS).or(class).unwrap_or_default()
}

/// The storage class of a volume; empty for none.
pub(crate) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, BETA_CLASS).or(class).unwrap_or_default()
}

/// The claim that a Pod's volume leads to.
pub(crate) fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    let own = || {
        let pod = pod.metadata.name.as_deref()?;
        volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
    };
    named.or_else(own)
}
