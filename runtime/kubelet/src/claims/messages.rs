//! Messages of DRA plugins (`k8s.io.kubelet.pkg.apis.dra.v1`; those of `v1beta1` are the same on the wire).

use std::collections::HashMap;

use prost::Message;

/// Which claim is meant.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Claim {
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
}

/// Asks to prepare claims, or to take them back.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClaimsRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) claims: Vec<Claim>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PrepareResponse {
    /// By the claims' uids.
    #[prost(map = "string, message", tag = "1")]
    pub(crate) claims: HashMap<String, Prepared>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Prepared {
    #[prost(message, repeated, tag = "1")]
    pub(crate) devices: Vec<PreparedDevice>,
    /// Why it was not prepared, if so.
    #[prost(string, tag = "2")]
    pub(crate) error: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PreparedDevice {
    /// The requests that it is for; all, if there are none.
    #[prost(string, repeated, tag = "1")]
    pub(crate) request_names: Vec<String>,
    #[prost(string, tag = "2")]
    pub(crate) pool_name: String,
    #[prost(string, tag = "3")]
    pub(crate) device_name: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) cdi_device_ids: Vec<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) share_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UnprepareResponse {
    /// By the claims' uids.
    #[prost(map = "string, message", tag = "1")]
    pub(crate) claims: HashMap<String, Unprepared>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Unprepared {
    /// Why it was not taken back, if so.
    #[prost(string, tag = "1")]
    pub(crate) error: String,
}
