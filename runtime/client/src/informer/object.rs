//! What an informer must know of an object's type.

use std::any::Any;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::{
    admissionregistration, apps, autoscaling, batch, certificates, coordination, core, discovery, networking, node,
    policy, rbac, resource, scheduling, storage,
};
use kiln_apimachinery::meta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ObjectRef;
use crate::decode::from_json;

/// Plain JSON as a type, by the reader of bytes: another, of values, would be as large again.
///
/// # Errors
/// When the JSON is none of the type.
pub fn typed<T: DeserializeOwned>(json: &Value) -> serde_json::Result<T> {
    from_json(&serde_json::to_vec(json)?)
}

/// An object of the API: plain JSON, or a type of k8s-openapi, which takes a third of the memory, or a type of the caller's with
/// just the fields that it reads, which takes less.
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    /// Its place in its collection.
    fn key(&self) -> ObjectRef;
    /// `metadata.uid`.
    fn uid(&self) -> &str;
    /// `metadata.resourceVersion`.
    fn resource_version(&self) -> &str;
    /// Drops what no reader of a mirror wants, and the room that nothing is in.
    fn prune(&mut self) {}
}

/// An object of whatever type, as the part of a mirror holds it that is the same for all of them.
pub(super) trait AnyObject: Any + Send + Sync {
    /// What tells one state of an object from another: its uid and its revision.
    fn state(&self) -> (&str, &str);
}

/// A mirrored object.
pub(super) type Held = Arc<dyn AnyObject>;

/// An object with its place.
pub(super) type Placed = (ObjectRef, Held);

impl<T: Object> AnyObject for T {
    fn state(&self) -> (&str, &str) {
        (self.uid(), self.resource_version())
    }
}

/// Reads an object of a type, and has it trimmed.
///
/// # Errors
/// When the JSON is none of the type.
pub(super) fn read<T: Object>(json: &[u8], trim: fn(&mut T)) -> serde_json::Result<Placed> {
    let mut object: T = from_json(json)?;
    trim(&mut object);
    object.prune();
    Ok((object.key(), Arc::new(object)))
}

/// The object as what it is.
#[allow(clippy::expect_used, reason = "a mirror of a type reads objects of that type alone")]
pub(super) fn concrete<T: Object>(held: Held) -> Arc<T> {
    let held: Arc<dyn Any + Send + Sync> = held;
    held.downcast().expect("an object of the mirror's type")
}

/// As [`concrete`], of an object that is lent.
#[allow(clippy::expect_used, reason = "as above")]
pub(super) fn borrowed<T: Object>(held: &Held) -> &T {
    let held: &dyn Any = &**held;
    held.downcast_ref().expect("an object of the mirror's type")
}

impl Object for Value {
    fn key(&self) -> ObjectRef {
        ObjectRef::of(self)
    }

    fn uid(&self) -> &str {
        meta::uid(self)
    }

    fn resource_version(&self) -> &str {
        meta::resource_version(self)
    }
}

macro_rules! objects {
    ($($kind:ty),* $(,)?) => {
        $(impl Object for $kind {
            fn key(&self) -> ObjectRef {
                let meta = self.metadata();
                ObjectRef {
                    namespace: meta.namespace.clone().unwrap_or_default(),
                    name: meta.name.clone().unwrap_or_default(),
                }
            }

            fn uid(&self) -> &str {
                self.metadata().uid.as_deref().unwrap_or_default()
            }

            fn resource_version(&self) -> &str {
                self.metadata().resource_version.as_deref().unwrap_or_default()
            }

            fn prune(&mut self) {
                self.metadata_mut().managed_fields = None;
                // What was read grew item by item, and has room for four where there is one: a copy has none to spare.
                *self = self.clone();
            }
        })*

        /// Whether JSON is one of these. Nobody asks: this compiles the types' readers into this crate, and what is compiled here
        /// the crates that depend on it share, where each would compile its own copy of hundreds of types.
        #[doc(hidden)]
        pub fn readers(json: &[u8]) -> bool {
            false $(|| from_json::<$kind>(json).is_ok())*
        }
    };
}

objects! {
    admissionregistration::v1::MutatingWebhookConfiguration,
    admissionregistration::v1::ValidatingWebhookConfiguration,
    apps::v1::ControllerRevision,
    apps::v1::DaemonSet,
    apps::v1::Deployment,
    apps::v1::ReplicaSet,
    apps::v1::StatefulSet,
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::CronJob,
    batch::v1::Job,
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::ConfigMap,
    core::v1::Endpoints,
    core::v1::Namespace,
    core::v1::Node,
    core::v1::PersistentVolume,
    core::v1::PersistentVolumeClaim,
    core::v1::Pod,
    core::v1::ReplicationController,
    core::v1::ResourceQuota,
    core::v1::Secret,
    core::v1::Service,
    core::v1::ServiceAccount,
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
    networking::v1::IngressClass,
    networking::v1::NetworkPolicy,
    networking::v1::ServiceCIDR,
    node::v1::RuntimeClass,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    resource::v1::DeviceClass,
    resource::v1::ResourceClaim,
    resource::v1::ResourceClaimTemplate,
    resource::v1::ResourceSlice,
    scheduling::v1::PriorityClass,
    storage::v1::CSIDriver,
    storage::v1::CSINode,
    storage::v1::CSIStorageCapacity,
    storage::v1::StorageClass,
    storage::v1::VolumeAttachment,
    storage::v1::VolumeAttributesClass,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_held_has_no_room_to_spare_and_no_managed_fields() {
        let json = json!({"metadata": {"name": "a", "managedFields": [{"manager": "m"}]}, "spec": {"hostname": "h",
            "volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "c", "args": ["x", "y", "z"]}]}});
        let trim = |pod: &mut core::v1::Pod| pod.spec.as_mut().unwrap().hostname = None;
        let (key, held) = read(json.to_string().as_bytes(), trim).unwrap();
        let pod = borrowed::<core::v1::Pod>(&held);
        assert_eq!((key.name.as_str(), &pod.metadata.managed_fields), ("a", &None));
        let spec = pod.spec.as_ref().unwrap();
        let (volumes, args) = (spec.volumes.as_ref().unwrap(), spec.containers[0].args.as_ref().unwrap());
        assert_eq!((volumes.capacity(), args.capacity(), spec.containers.capacity()), (1, 3, 1));
    }
}
