//! The order in which groups and versions are told: clients take the first that fits.

use std::cmp::Reverse;

/// Groups with a fixed place, the most wanted first. Others follow by name.
const GROUPS: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// Puts groups and the versions of each in order.
pub(super) fn sort(groups: &mut [(String, Vec<String>)]) {
    groups.sort_by(|(a, _), (b, _)| {
        let place = |g: &str| GROUPS.iter().position(|known| *known == g).unwrap_or(GROUPS.len());
        (place(a), a).cmp(&(place(b), b))
    });
    for (_, versions) in groups {
        versions.sort_by_key(|v| Reverse(rank(v)));
    }
}

/// Stable before beta before alpha, and the newer first; what is no version of this kind comes last, by name.
fn rank(version: &str) -> (u8, u64, u64, Reverse<String>) {
    let other = || (0, 0, 0, Reverse(version.to_owned()));
    let Some(rest) = version.strip_prefix('v') else { return other() };
    let stage = [("alpha", 1), ("beta", 2)].into_iter().find_map(|(word, rank)| Some((rest.split_once(word)?, rank)));
    let parsed = match stage {
        Some(((major, minor), rank)) => major.parse().ok().zip(minor.parse().ok()).map(|(a, i)| (rank, a, i)),
        None => rest.parse().ok().map(|major| (3, major, 0)),
    };
    parsed.map_or_else(other, |(rank, major, minor)| (rank, major, minor, Reverse(String::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_and_newer_versions_come_first() {
        let mut groups = vec![
            ("example.com".to_owned(), ["v1beta1", "foo", "v1", "v10", "v2alpha1", "v1beta2"].map(Into::into).to_vec()),
            ("apps".to_owned(), vec!["v1".to_owned()]),
            ("a.example.com".to_owned(), vec![]),
        ];
        sort(&mut groups);
        assert_eq!(
            groups.iter().map(|(g, _)| g.as_str()).collect::<Vec<_>>(),
            ["apps", "a.example.com", "example.com"]
        );
        assert_eq!(groups[2].1, ["v10", "v1", "v1beta2", "v1beta1", "v2alpha1", "foo"]);
    }
}
