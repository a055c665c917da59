//! The CA by which servers of aggregated APIs believe this one whose requests it passes on. It is no other's: what it signs may
//! act as anyone there. Each server has its own; the cluster's ConfigMap holds those of all.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use kiln_apiserver::{FrontProxy, ProxyIdentity};
use kiln_pki::{Authority, LEAF_LIFETIME, files};

/// Who the server is to them.
const NAME: &str = "front-proxy-client";

/// What the API server shows, by the CA in `folder`; one is made if there is none, or none that will last.
///
/// # Errors
/// When files can't be used.
pub(super) fn open(folder: &Path, now: SystemTime) -> anyhow::Result<FrontProxy> {
    let authority = authority(folder, now)?;
    let ca_pem = authority.certificate_pem().to_owned();
    let identity = move || {
        let issued = authority.issue_client(NAME, None, SystemTime::now()).map_err(|e| e.to_string())?;
        Ok(ProxyIdentity { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem })
    };
    Ok(FrontProxy { ca_pem, allowed_names: vec![NAME.to_owned()], identity: Arc::new(identity) })
}

fn authority(folder: &Path, now: SystemTime) -> anyhow::Result<Authority> {
    let (certificate, key) = (folder.join("request-header-ca.crt"), folder.join("request-header-ca.key"));
    if let (Some(pem), Some(key)) = (files::read(&certificate)?, files::read(&key)?) {
        let kept = Authority::load(&pem, &key).with_context(|| certificate.display().to_string())?;
        if kept.certificate().not_after > now + LEAF_LIFETIME {
            return Ok(kept);
        }
    }
    let made = Authority::create_named("kiln-request-header-ca", now).context("making the front proxy's CA")?;
    // The key first: without its certificate it is made anew.
    files::write_private(&key, &made.key_pem())?;
    files::write_public(&certificate, made.certificate_pem())?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ca_is_kept_and_replaced_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = authority(dir.path(), now).unwrap();
        assert_eq!(authority(dir.path(), now).unwrap().hash(), first.hash());
        let late = now + kiln_pki::CA_LIFETIME - LEAF_LIFETIME;
        assert_ne!(authority(dir.path(), late).unwrap().hash(), first.hash());
        let identity = (open(dir.path(), now).unwrap().identity)().unwrap();
        assert!(identity.certificate_pem.contains("BEGIN CERTIFICATE"));
    }
}
