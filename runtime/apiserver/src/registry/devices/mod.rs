//! Dynamic resources: what devices there are, in which classes, and who claims them.

mod claim;
mod columns;
mod rules;
mod slice;

use columns as c;

use crate::registry::resource::{Resource, v1};

const RESOURCE: &str = "resource.k8s.io";

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        v1(RESOURCE, "DeviceClass", "deviceclasses").cluster().generations()
            .columns(c::PLAIN).strategy(slice::Classes),
        v1(RESOURCE, "ResourceClaim", "resourceclaims").with_status()
            .columns(c::CLAIM).strategy(claim::Claims),
        v1(RESOURCE, "ResourceClaimTemplate", "resourceclaimtemplates")
            .columns(c::PLAIN).strategy(claim::Templates),
        v1(RESOURCE, "ResourceSlice", "resourceslices").cluster().generations()
            .selectable(&["spec.nodeName", "spec.driver"]).columns(c::SLICE).strategy(slice::Slices),
    ]
}
