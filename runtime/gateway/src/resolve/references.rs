//! References to other objects: whether they may be made, and lead anywhere.

use kiln_client::ObjectRef;

use super::{Target, View, World};
use crate::GROUP;
use crate::objects::{BackendRef, ReferenceGrant, SecretRef};

/// Why a reference is no good: a reason in one word, and a text.
pub(super) type Wrong = (&'static str, String);

/// Whether an object of a kind in a namespace may refer to one in another namespace.
fn is_granted<'a>(
    grants: impl Iterator<Item = &'a ReferenceGrant>,
    (from_kind, from): (&str, &str),
    (to_kind, to): (&str, &ObjectRef),
) -> bool {
    from == to.namespace
        || grants.filter(|grant| grant.metadata.namespace == to.namespace).any(|grant| {
            let spec = &grant.spec;
            spec.from.iter().any(|one| one.group == GROUP && one.kind == from_kind && one.namespace == from)
                && spec.to.iter().any(|one| {
                    one.group.is_empty()
                        && one.kind == to_kind
                        && one.name.as_ref().is_none_or(|name| name.is_empty() || *name == to.name)
                })
        })
}

/// The port that a reference of an HTTPRoute in a namespace leads to.
///
/// # Errors
/// Why it leads nowhere, as the route's condition tells it.
pub fn backend<'a>(
    world: &dyn World,
    grants: impl Iterator<Item = &'a ReferenceGrant>,
    namespace: &str,
    reference: &BackendRef,
) -> Result<Target, (&'static str, String)> {
    let (group, kind) = (reference.group.as_deref().unwrap_or(""), reference.kind.as_deref().unwrap_or("Service"));
    if (group, kind) != ("", "Service") {
        return Err(("InvalidKind", format!("a backend of the kind {kind} of the group {group:?} is not supported")));
    }
    let place = reference.namespace.as_deref().unwrap_or(namespace);
    let service = ObjectRef::namespaced(place, reference.name.as_str());
    if !is_granted(grants, ("HTTPRoute", namespace), ("Service", &service)) {
        return Err((
            "RefNotPermitted",
            format!("no ReferenceGrant in {place} lets HTTPRoutes of {namespace} refer to {service}"),
        ));
    }
    let port = reference.port.unwrap_or_default();
    match world.has_port(&service, port) {
        Some(true) => Ok(Target { service, port }),
        Some(false) => Err(("BackendNotFound", format!("Service {service} has no port {port}"))),
        None => Err(("BackendNotFound", format!("there is no Service {service}"))),
    }
}

/// The Secret that a reference of a Gateway in a namespace leads to.
pub(super) fn certificate(view: &View<'_>, namespace: &str, reference: &SecretRef) -> Result<ObjectRef, Wrong> {
    let (group, kind) = (reference.group.as_deref().unwrap_or(""), reference.kind.as_deref().unwrap_or("Secret"));
    if (group, kind) != ("", "Secret") {
        let text = format!("a certificate of the kind {kind} of the group {group:?} is not supported");
        return Err(("InvalidCertificateRef", text));
    }
    let place = reference.namespace.as_deref().unwrap_or(namespace);
    let secret = ObjectRef::namespaced(place, reference.name.as_str());
    if !is_granted(view.grants.iter().map(|grant| &**grant), ("Gateway", namespace), ("Secret", &secret)) {
        let text = format!("no ReferenceGrant in {place} lets Gateways of {namespace} refer to Secret {secret}");
        return Err(("RefNotPermitted", text));
    }
    if !view.world.has_certificate(&secret) {
        return Err(("InvalidCertificateRef", format!("there is no certificate with its key in Secret {secret}")));
    }
    Ok(secret)
}
