//! What makes a pod the one of its ordinal: its name, labels, host name and claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};

use super::spec;
use crate::owned::{name, reference};
use crate::pods::from_template;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// Says which revision a pod is of.
const REVISION_LABEL: &str = "controller-revision-hash";

/// The set's name and the ordinal in a pod's name.
fn parse(pod: &str) -> Option<(&str, i32)> {
    let (set, digits) = pod.rsplit_once('-')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(|ordinal| (set, ordinal))
}

/// A pod's ordinal; `None` if its name has none.
pub(super) fn ordinal(pod: &Pod) -> Option<i32> {
    parse(name(pod)).map(|(_, ordinal)| ordinal)
}

/// Whether a pod's name is of this set.
pub(super) fn is_member(set: &StatefulSet, pod: &Pod) -> bool {
    // Digits that are too many for an ordinal make a member all the same, which is left alone.
    name(pod).rsplit_once('-').is_some_and(|(parent, digits)| {
        parent == name(set) && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The name of the revision that a pod is of; empty if it does not say.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION_LABEL)).map_or("", String::as_str)
}

fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", name(set))
}

/// The name of the claim after a template for the pod of an ordinal.
pub(super) fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name(template), name(set))
}

/// Whether a claim of this name may be one of the set's.
pub(super) fn may_claim(set: &StatefulSet, claim: &str) -> bool {
    let templates = set.spec.as_ref().map(spec::claim_templates).unwrap_or_default();
    templates
        .iter()
        .any(|template| parse(claim).is_some_and(|(prefix, _)| prefix == format!("{}-{}", name(template), name(set))))
}

/// The claims of the pod of an ordinal.
pub(super) fn claims(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let claims = spec::claim_templates(spec).iter().map(|template| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        claim
    });
    claims.collect()
}

/// The pod of an ordinal after a template.
pub(super) fn pod(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Pod {
    let mut pod = from_template(template, reference(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(pod_name(set, ordinal));
    pod.metadata.namespace = set.metadata.namespace.clone();
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    set_labels(set, &mut pod, ordinal);
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(pod_name(set, ordinal));
    pod_spec.subdomain = spec.service_name.clone().filter(|service| !service.is_empty());
    set_volumes(set, spec, &mut pod, ordinal);
    pod
}

/// Whether a pod has its ordinal's labels.
pub(super) fn has_identity(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(NAME_LABEL)) == pod.metadata.name.as_ref()
}

pub(super) fn set_labels(set: &StatefulSet, pod: &mut Pod, ordinal: i32) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), pod_name(set, ordinal));
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
}

/// Whether a pod has the volumes of its ordinal's claims.
pub(super) fn has_volumes(set: &StatefulSet, spec: &StatefulSetSpec, pod: &Pod, ordinal: i32) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    spec::claim_templates(spec).iter().all(|template| {
        let volume = volumes.iter().find(|volume| volume.name == name(template));
        let source = volume.and_then(|volume| volume.persistent_volume_claim.as_ref());
        source.is_some_and(|source| source.claim_name == claim_name(set, template, ordinal))
    })
}

pub(super) fn set_volumes(set: &StatefulSet, spec: &StatefulSetSpec, pod: &mut Pod, ordinal: i32) {
    let templates = spec::claim_templates(spec);
    if templates.is_empty() {
        return;
    }
    let claimed: BTreeMap<&str, String> =
        templates.iter().map(|template| (name(template), claim_name(set, template, ordinal))).collect();
    let volumes = pod.spec.get_or_insert_default().volumes.get_or_insert_default();
    volumes.retain(|volume| !claimed.contains_key(volume.name.as_str()));
    let own = claimed.into_iter().map(|(name, claim_name)| Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
        ..Volume::default()
    });
    volumes.splice(0..0, own);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_name_says_its_set_and_ordinal() {
        for (name, expected) in [
            ("web-0", Some(("web", 0))),
            ("my-web-12", Some(("my-web", 12))),
            ("web", None),
            ("web-", None),
            ("web-x1", None),
            ("web-+1", None),
            ("web-99999999999", None),
        ] {
            assert_eq!(parse(name), expected, "{name}");
        }
    }
}
