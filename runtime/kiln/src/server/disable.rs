//! What `--disable` takes: parts of the server by their names or K3s', and manifests by the names of their files or folders.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_controllers::addons;

use crate::exit::Failure;

/// Names of manifests that were disabled here, a line each: their files are gone, and a restart names them all the same.
const RECORD: &str = "disabled-manifests";

/// Something that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The cluster's DNS.
    Dns,
    /// Serving Ingresses, on any node.
    Ingress,
    /// Advertising the server on the network.
    Mdns,
    /// Addresses of nodes for Services of the type LoadBalancer.
    Servicelb,
}

impl Part {
    const ALL: [Self; 4] = [Self::Dns, Self::Ingress, Self::Mdns, Self::Servicelb];

    /// What it is called, here first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Dns => &["dns", "coredns"],
            Self::Ingress => &["ingress", "traefik"],
            Self::Mdns => &["mdns"],
            Self::Servicelb => &["servicelb"],
        }
    }

    /// Whether it is named.
    pub(super) fn is_in(self, disabled: &BTreeSet<String>) -> bool {
        self.names().iter().any(|name| disabled.contains(*name))
    }
}

/// Holds names against what there is to leave out: parts, what lies in the folders of manifests, and what lay there. A server that
/// shares its data with others may lack a manifest that one of them has, so that it only warns.
///
/// # Errors
/// A name of nothing; or the record can't be read or written.
pub(super) fn check(
    disabled: &BTreeSet<String>,
    folder: &Path,
    folders: &[PathBuf],
    is_shared: bool,
) -> anyhow::Result<()> {
    let is_part = |name: &str| Part::ALL.iter().any(|part| part.names().contains(&name));
    let (there, record) = (addons::names(folders), folder.join(RECORD));
    let recorded = kiln_pki::files::read(&record)?.unwrap_or_default();
    let was_there = |name: &str| recorded.lines().any(|line| line == name);
    let manifests = disabled.iter().map(String::as_str).filter(|name| !is_part(name));
    let (known, unknown): (Vec<&str>, Vec<&str>) = manifests.partition(|name| there.contains(*name) || was_there(name));
    if let Some(name) = unknown.first() {
        let parts: Vec<&str> = Part::ALL.iter().map(|part| part.names()[0]).collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let what = format!(
            "--disable {name}: there is no part and no manifest of this name; parts are {}; manifests are {there}",
            parts.join(", ")
        );
        if !is_shared {
            return Err(Failure::Input(what).into());
        }
        tracing::warn!("{what}");
    }
    let lines: String = known.iter().map(|name| format!("{name}\n")).collect();
    if lines != recorded {
        kiln_pki::files::write_private(&record, &lines)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_is_a_parts_or_a_manifests_that_is_there_or_was() {
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir_all(manifests.join("apps/deep")).unwrap();
        for name in ["web.yaml", "apps/deep/shop.yml", "notes.txt"] {
            std::fs::write(manifests.join(name), "").unwrap();
        }
        let check = |all: &[&str], is_shared| {
            check(&names(all), folder.path(), std::slice::from_ref(&manifests), is_shared).map_err(|e| e.to_string())
        };
        assert_eq!(check(&["coredns", "mdns", "traefik", "servicelb"], false), Ok(()));
        let told = "--disable severlb: there is no part and no manifest of this name; parts are dns, ingress, mdns, servicelb; \
                    manifests are apps, apps/deep, shop, web";
        assert_eq!(check(&["severlb"], false), Err(told.to_owned()));
        assert!(check(&["notes"], false).is_err());
        assert_eq!(check(&["severlb"], true), Ok(()));
        assert_eq!(check(&["web", "apps/deep", "shop"], false), Ok(()));
        std::fs::remove_dir_all(&manifests).unwrap();
        assert_eq!(check(&["web", "shop"], false), Ok(()));
        assert!(check(&["apps/deep"], false).unwrap_err().ends_with("manifests are none"));
    }

    #[test]
    fn a_part_has_its_name_and_the_one_that_k3s_gives_it() {
        assert!(Part::Dns.is_in(&names(&["coredns"])) && Part::Dns.is_in(&names(&["dns"])));
        assert!(!Part::Dns.is_in(&names(&["mdns"])));
    }
}
