//! What all servers of a cluster must have the same of: its CA, and the key that signs ServiceAccounts' tokens.
//!
//! A server with its own datastore keeps them in its folder. Servers that share an etcd find them there: the first one to
//! come puts them, sealed with the cluster's token, under a key that the API does not serve. Who reads etcd without the
//! token learns nothing from it; who has the token can be a server.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use kiln_pki::{Authority, PkiError, account_key, files, sealed};
use kiln_storage::{NewValue, Storage, StorageError};
use serde::{Deserialize, Serialize};

use super::authority;
use crate::exit::Failure;

/// Where they are in the datastore.
const KEY: &str = "/bootstrap/cluster";
/// Where they are in the server's folder.
const ACCOUNT_KEY: &str = "service-account.key";

/// What is shared, PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    ca_certificate: String,
    ca_key: String,
    account_key: String,
}

/// The cluster's keys, as this server holds them.
pub(super) struct Keys {
    pub(super) authority: Authority,
    /// PEM.
    pub(super) account_key: String,
}

/// The keys in `folder`; what is not there is imported from `cluster_dir` or made.
///
/// # Errors
/// When files can't be used.
pub(super) fn own(folder: &Path, cluster_dir: Option<&Path>, now: SystemTime) -> anyhow::Result<Keys> {
    let authority = authority::load_or_make(folder, cluster_dir, now)?;
    let account_key = account_key::load_or_make(&folder.join(ACCOUNT_KEY))?;
    Ok(Keys { authority, account_key })
}

/// The keys of the cluster that a shared datastore holds; the first server puts its own there.
///
/// # Errors
/// When the token is another than the one they were sealed with, or `folder` has another cluster's.
pub(super) async fn of_cluster(
    store: &dyn Storage,
    token: &str,
    folder: &Path,
    cluster_dir: Option<&Path>,
    now: SystemTime,
) -> anyhow::Result<Keys> {
    if let Some(bundle) = find(store, token).await? {
        return adopt(&bundle, folder, cluster_dir, now);
    }
    // A folder that had keys before keeps them, whoever comes first; a new one takes the winner's.
    let is_new = !folder.join("ca.crt").exists();
    let keys = own(folder, cluster_dir, now)?;
    let bundle = Bundle {
        ca_certificate: keys.authority.certificate_pem().to_owned(),
        ca_key: keys.authority.key_pem(),
        account_key: keys.account_key.clone(),
    };
    let plain = serde_json::to_string(&bundle).context("writing the cluster's keys")?;
    let sealed = seal(token.to_owned(), plain).await?;
    match store.create(KEY.to_owned(), NewValue::plain(sealed)).await {
        Ok(_) => return Ok(keys),
        Err(StorageError::Exists) => {}
        Err(error) => return Err(error).context("sharing the cluster's keys"),
    }
    if is_new {
        for name in ["ca.crt", "ca.key", ACCOUNT_KEY] {
            std::fs::remove_file(folder.join(name)).with_context(|| folder.join(name).display().to_string())?;
        }
    }
    let bundle = find(store, token).await?.context("the cluster's keys came and went")?;
    adopt(&bundle, folder, cluster_dir, now)
}

async fn find(store: &dyn Storage, token: &str) -> anyhow::Result<Option<Bundle>> {
    let Some(record) = store.get(KEY).await.context("reading the cluster's keys")? else { return Ok(None) };
    let sealed = String::from_utf8_lossy(&record.value).into_owned();
    let plain = match open(token.to_owned(), sealed).await? {
        Err(PkiError::Sealed) => {
            let text = "the token is not this cluster's: give every server the --token of the first";
            return Err(Failure::Input(text.to_owned()).into());
        }
        other => other?,
    };
    serde_json::from_str(&plain).map(Some).context("the cluster's keys in the datastore")
}

/// Takes over the cluster's keys, where this server has none yet.
fn adopt(bundle: &Bundle, folder: &Path, cluster_dir: Option<&Path>, now: SystemTime) -> anyhow::Result<Keys> {
    let of_cluster = Authority::load(&bundle.ca_certificate, &bundle.ca_key).context("the CA in the datastore")?;
    if files::read(&folder.join("ca.crt"))?.is_none() {
        files::write_private(&folder.join("ca.key"), &bundle.ca_key)?;
        files::write_public(&folder.join("ca.crt"), &bundle.ca_certificate)?;
    }
    let authority = authority::load_or_make(folder, cluster_dir, now)?;
    if authority.hash() != of_cluster.hash() {
        let text = format!(
            "{} has the CA of another cluster than the datastore; remove that folder, or choose another --data-dir",
            folder.display()
        );
        return Err(Failure::Input(text).into());
    }
    files::write_private(&folder.join(ACCOUNT_KEY), &bundle.account_key)?;
    Ok(Keys { authority, account_key: bundle.account_key.clone() })
}

/// Sealing takes a while on a small board: not on the thread that serves.
async fn seal(token: String, plain: String) -> anyhow::Result<String> {
    let sealing = tokio::task::spawn_blocking(move || sealed::seal(&token, &plain));
    Ok(sealing.await.context("sealing the cluster's keys")??)
}

async fn open(token: String, sealed: String) -> anyhow::Result<Result<String, PkiError>> {
    tokio::task::spawn_blocking(move || sealed::open(&token, &sealed)).await.context("opening the cluster's keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_of_one_datastore_have_one_ca_and_one_key_whoever_comes_first() {
        let store = kiln_storage::memory::open();
        let folders = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
        let keys = folders.each_ref().map(|f| of_cluster(&*store, "the token", f.path(), None, SystemTime::now()));
        let [a, b, c] = keys;
        let (a, b) = tokio::join!(a, b);
        let (a, b, c) = (a.unwrap(), b.unwrap(), c.await.unwrap());
        assert!(a.authority.hash() == b.authority.hash() && b.authority.hash() == c.authority.hash());
        assert!(a.account_key == b.account_key && b.account_key == c.account_key);
        let again = own(folders[1].path(), None, SystemTime::now()).unwrap();
        assert!(again.authority.hash() == a.authority.hash() && again.account_key == a.account_key);
        let stored = store.get(KEY).await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&stored.value).contains("PRIVATE"));
    }

    #[tokio::test]
    async fn another_token_and_another_clusters_folder_are_refused() {
        let store = kiln_storage::memory::open();
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        of_cluster(&*store, "right", first.path(), None, SystemTime::now()).await.unwrap();
        let wrong = of_cluster(&*store, "wrong", second.path(), None, SystemTime::now()).await.err().unwrap();
        assert!(wrong.to_string().contains("--token of the first"), "{wrong}");
        own(second.path(), None, SystemTime::now()).unwrap();
        let other = of_cluster(&*store, "right", second.path(), None, SystemTime::now()).await.err().unwrap();
        assert!(other.to_string().contains("another cluster"), "{other}");
    }
}
