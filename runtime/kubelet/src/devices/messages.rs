//! Messages of the device plugin API (`v1beta1`). Field numbers are those of its specification
//! (<https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/>).

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Serialize};

/// A request without fields, and an answer that says nothing.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

/// A plugin presents itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegisterRequest {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    /// The name of its socket in the folder of plugins.
    #[prost(string, tag = "2")]
    pub(crate) endpoint: String,
    #[prost(string, tag = "3")]
    pub(crate) resource_name: String,
}

/// What a plugin wants to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct PluginOptions {
    #[prost(bool, tag = "1")]
    pub(crate) pre_start_required: bool,
    #[prost(bool, tag = "2")]
    pub(crate) get_preferred_allocation_available: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListAndWatchResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) devices: Vec<PluginDevice>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PluginDevice {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// [`HEALTHY`], or anything else.
    #[prost(string, tag = "2")]
    pub(crate) health: String,
}

/// The health of a device that can be given to a container.
pub(crate) const HEALTHY: &str = "Healthy";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreferredAllocationRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) containers: Vec<ContainerPreferredRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerPreferredRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) available: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) must_include: Vec<String>,
    #[prost(int32, tag = "3")]
    pub(crate) size: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreferredAllocationResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) containers: Vec<DeviceIds>,
}

/// Devices of a container, in several messages.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeviceIds {
    #[prost(string, repeated, tag = "1")]
    pub(crate) ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AllocateRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) containers: Vec<DeviceIds>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AllocateResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) containers: Vec<Allocation>,
}

/// What a container needs to use its devices.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(crate) struct Allocation {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) envs: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) mounts: Vec<MountSpec>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) devices: Vec<DeviceSpec>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) cdi_devices: Vec<CdiName>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(crate) struct MountSpec {
    #[prost(string, tag = "1")]
    pub(crate) container_path: String,
    #[prost(string, tag = "2")]
    pub(crate) host_path: String,
    #[prost(bool, tag = "3")]
    pub(crate) read_only: bool,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(crate) struct DeviceSpec {
    #[prost(string, tag = "1")]
    pub(crate) container_path: String,
    #[prost(string, tag = "2")]
    pub(crate) host_path: String,
    /// Of `rwm`.
    #[prost(string, tag = "3")]
    pub(crate) permissions: String,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(crate) struct CdiName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}
