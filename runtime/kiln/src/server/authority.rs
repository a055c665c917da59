//! The cluster's CA on this server: kept, imported from the card, or made.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use kiln_pki::{Authority, files};

use crate::exit::Failure;

/// The CA in `folder`. Without one there, the pair in `cluster_dir` is imported; without that either, a new one is made.
///
/// # Errors
/// When files can't be used, or when `cluster_dir` holds another cluster's CA than `folder`.
pub(super) fn load_or_make(folder: &Path, cluster_dir: Option<&Path>, now: SystemTime) -> anyhow::Result<Authority> {
    let given = |name: &str| cluster_dir.map(|d| files::read(&d.join(name))).transpose().map(Option::flatten);
    let (given_certificate, given_key) = (given("ca.crt")?, given("ca.key")?);
    let (own_certificate, own_key) = (folder.join("ca.crt"), folder.join("ca.key"));
    if let (Some(certificate), Some(key)) = (files::read(&own_certificate)?, files::read(&own_key)?) {
        let authority =
            Authority::load(&certificate, &key).with_context(|| format!("the CA in {}", folder.display()))?;
        if let Some(given) = given_certificate {
            refuse_another(&authority, &given, folder, cluster_dir)?;
        }
        return Ok(authority);
    }
    let authority = match (given_certificate, given_key, cluster_dir) {
        (Some(certificate), Some(key), Some(dir)) => {
            let authority = Authority::load(&certificate, &key);
            authority.with_context(|| format!("ca.crt and ca.key in {}", dir.display()))?
        }
        (Some(_), None, Some(dir)) => {
            let text = format!(
                "{} has ca.crt and no ca.key, and {} has no CA yet; a server card needs the key: make the card again with imager's --cluster and --role server",
                dir.display(),
                folder.display()
            );
            return Err(Failure::Input(text).into());
        }
        _ => Authority::create(now).context("making the cluster's CA")?,
    };
    // The key first: without its certificate it is made or imported anew.
    files::write_private(&own_key, &authority.key_pem())?;
    files::write_public(&own_certificate, authority.certificate_pem())?;
    tracing::info!(name = authority.certificate().common_name, hash = authority.hash(), "the cluster's CA is in place");
    Ok(authority)
}

fn refuse_another(own: &Authority, given_pem: &str, folder: &Path, dir: Option<&Path>) -> anyhow::Result<()> {
    let dir = dir.unwrap_or(Path::new("")).display();
    let given = kiln_pki::certificate_der(given_pem).with_context(|| format!("ca.crt in {dir}"))?;
    if kiln_pki::ca_hash(&given) == own.hash() {
        return Ok(());
    }
    let text = format!(
        "{dir} has the CA of another cluster than {}; write the card anew to start that cluster, or put back this one's ca.crt",
        folder.display()
    );
    Err(Failure::Input(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(dir: &Path, cluster: Option<&Path>) -> anyhow::Result<String> {
        load_or_make(dir, cluster, SystemTime::now()).map(|a| a.hash())
    }

    fn cluster(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn a_new_ca_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = import(dir.path(), None).unwrap();
        assert_eq!(import(dir.path(), None).unwrap(), first);
    }

    #[test]
    fn the_cards_ca_is_imported_and_still_there_when_its_key_is_gone_from_the_card() {
        let ca = Authority::create(SystemTime::now()).unwrap();
        let card = cluster(&[("ca.crt", ca.certificate_pem()), ("ca.key", &ca.key_pem())]);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(import(dir.path(), Some(card.path())).unwrap(), ca.hash());
        std::fs::remove_file(card.path().join("ca.key")).unwrap();
        assert_eq!(import(dir.path(), Some(card.path())).unwrap(), ca.hash());
    }

    #[test]
    fn another_clusters_ca_and_a_card_without_its_key_are_refused() {
        let ca = Authority::create(SystemTime::now()).unwrap();
        let card = cluster(&[("ca.crt", ca.certificate_pem())]);
        let dir = tempfile::tempdir().unwrap();
        assert!(import(dir.path(), Some(card.path())).unwrap_err().to_string().contains("no ca.key"));
        import(dir.path(), None).unwrap();
        assert!(import(dir.path(), Some(card.path())).unwrap_err().to_string().contains("another cluster"));
    }
}
