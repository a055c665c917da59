//! The order in which groups and versions are told: clients take the first that fits. APIServices say it; what has none yet
//! comes where its APIService will put it.

use std::cmp::Reverse;

use crate::aggregation::Table;
use crate::apiextensions::registration::{GROUP_PRIORITY, VERSION_PRIORITY};
use crate::registry::extension;

/// Before all others: no APIService is of these.
const FIRST: [&str; 2] = ["", extension::GROUP];

/// Puts groups and the versions of each in order.
pub(super) fn sort(groups: &mut [(String, Vec<String>)], table: &Table) {
    let of_group = |group: &str, versions: &[String]| {
        let fixed = versions.iter().filter_map(|v| extension::priorities(group, v)).map(|(minimum, _)| minimum).max();
        table.group_priority(group).or(fixed).unwrap_or(GROUP_PRIORITY)
    };
    let of_version = |group: &str, version: &str| {
        let fixed = extension::priorities(group, version).map(|(_, priority)| priority);
        table.version_priority(group, version).or(fixed).unwrap_or(VERSION_PRIORITY)
    };
    for (group, versions) in groups.iter_mut() {
        versions.sort_by_cached_key(|v| Reverse((of_version(group, v), rank(v))));
    }
    groups.sort_by_cached_key(|(group, versions)| {
        let place = FIRST.iter().position(|f| f == group).unwrap_or(FIRST.len());
        (place, Reverse(of_group(group, versions)), group.clone())
    });
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
            ("metrics.k8s.io".to_owned(), vec!["v1beta1".to_owned()]),
            ("apps".to_owned(), vec!["v1".to_owned()]),
            ("a.example.com".to_owned(), vec![]),
        ];
        sort(&mut groups, &Table::default());
        assert_eq!(
            groups.iter().map(|(g, _)| g.as_str()).collect::<Vec<_>>(),
            ["apps", "a.example.com", "example.com", "metrics.k8s.io"]
        );
        assert_eq!(groups[2].1, ["v10", "v1", "v1beta2", "v1beta1", "v2alpha1", "foo"]);
    }
}
