//! The node's credentials on disk: `client.{crt,key}`, `serving.{crt,key,names}`, `ca.crt` and `server` (the API's URL).
//!
//! A certificate and its key are two files, and power may fail between them: a new pair is first written whole beside the old one
//! (`.new`), then moved in, certificate first. [`Store::pair`] finishes a move that was interrupted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kiln_pki::{Certificate, PkiError, files, key_matches};

/// A certificate and its private key, both PEM, known to belong together.
#[derive(Clone)]
pub struct Pair {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PEM.
    pub key_pem: String,
    /// The certificate, read.
    pub certificate: Certificate,
}

impl Pair {
    /// Reads the certificate and checks that the key is its own.
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`], or why one of the two can't be read.
    pub fn new(certificate_pem: String, key_pem: String) -> Result<Self, PkiError> {
        let certificate = Certificate::from_pem(&certificate_pem)?;
        if !key_matches(&certificate, &key_pem)? {
            return Err(PkiError::KeyMismatch);
        }
        Ok(Pair { certificate_pem, key_pem, certificate })
    }
}

/// What a joined node has.
#[derive(Clone)]
pub struct Credentials {
    /// The cluster's CA, PEM.
    pub ca_pem: String,
    /// Client certificate of `system:node:<name>`.
    pub client: Pair,
    /// Serving certificate; absent until the node is registered, since the server looks for its names there.
    pub serving: Option<Pair>,
    /// `https://host:port` of the API that was joined.
    pub server: String,
}

/// The folder that holds them.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// Names of the pairs' files, without their endings.
const CLIENT: &str = "client";
const SERVING: &str = "serving";
/// Holds the names and addresses that the serving certificate was requested for, one a line.
const REQUESTED: &str = "serving.names";
/// Holds the id of the single-use token that was used.
const SPENT: &str = "spent-token";

impl Store {
    /// The store in this folder, which is made (mode 0700) when something is saved.
    pub fn new(folder: &Path) -> Self {
        Store { folder: folder.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The credentials of an earlier join: those that fit together, belong to this node name, and, where a CA hash is given, to
    /// that CA. `None` where there are none; validity in time is for the caller to judge, once the clock is right.
    ///
    /// # Errors
    /// [`PkiError::File`] where a file can't be read.
    pub fn load(&self, node_name: &str, ca_hash: Option<&str>) -> Result<Option<Credentials>, PkiError> {
        let (Some(ca_pem), Some(server)) = (files::read(&self.path("ca.crt"))?, files::read(&self.path("server"))?)
        else {
            return Ok(None);
        };
        let Ok(ca) = Certificate::from_pem(&ca_pem) else {
            return Ok(None);
        };
        if ca_hash.is_some_and(|wanted| wanted != kiln_pki::ca_hash(&ca.der)) {
            tracing::info!(
                "the certificates of an earlier join belong to another cluster than the token; joining anew"
            );
            return Ok(None);
        }
        let user = format!("{}{node_name}", kiln_pki::NODE_USER_PREFIX);
        let fits = |pair: &Pair| pair.certificate.is_signed_by(&ca) && pair.certificate.common_name == user;
        let Some(client) = self.pair(CLIENT)?.filter(fits) else {
            return Ok(None);
        };
        let serving = self.pair(SERVING)?.filter(fits);
        Ok(Some(Credentials { ca_pem, client, serving, server: server.trim().to_owned() }))
    }

    /// Saves everything, the client's pair last: it is what makes a join complete.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save(&self, credentials: &Credentials) -> Result<(), PkiError> {
        files::private_folder(&self.folder)?;
        files::write_public(&self.path("ca.crt"), &credentials.ca_pem)?;
        files::write_public(&self.path("server"), &format!("{}\n", credentials.server))?;
        if let Some(serving) = &credentials.serving {
            self.save_serving(serving)?;
        }
        self.save_client(&credentials.client)
    }

    /// Replaces the client's pair.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save_client(&self, pair: &Pair) -> Result<(), PkiError> {
        self.save_pair(CLIENT, pair)
    }

    /// Replaces the serving pair.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save_serving(&self, pair: &Pair) -> Result<(), PkiError> {
        self.save_pair(SERVING, pair)
    }

    /// Notes the names and addresses that the serving certificate was requested for. The server may leave some out.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save_requested(&self, names: &BTreeSet<String>) -> Result<(), PkiError> {
        let lines: String = names.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
        files::write_public(&self.path(REQUESTED), &lines)
    }

    /// The names and addresses so noted; none if there is no note.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn requested(&self) -> Result<BTreeSet<String>, PkiError> {
        Ok(files::read(&self.path(REQUESTED))?.unwrap_or_default().lines().map(str::to_owned).collect())
    }

    /// Notes where the API is now.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save_server(&self, url: &str) -> Result<(), PkiError> {
        if files::read(&self.path("server"))?.is_some_and(|old| old.trim() == url) {
            return Ok(());
        }
        files::write_public(&self.path("server"), &format!("{url}\n"))
    }

    /// Notes that this token (its public id) was single-use and has been used, in case it is still where it was kept.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save_spent(&self, token_id: &str) -> Result<(), PkiError> {
        files::private_folder(&self.folder)?;
        files::write_public(&self.path(SPENT), &format!("{token_id}\n"))
    }

    /// Whether this token was noted so.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn is_spent(&self, token_id: &str) -> Result<bool, PkiError> {
        Ok(files::read(&self.path(SPENT))?.is_some_and(|id| id.trim() == token_id))
    }

    fn save_pair(&self, name: &str, pair: &Pair) -> Result<(), PkiError> {
        let [certificate, key] = ["crt", "key"].map(|e| self.path(&format!("{name}.{e}")));
        let [new_certificate, new_key] = ["crt", "key"].map(|e| self.path(&format!("{name}.{e}.new")));
        files::write_private(&new_key, &pair.key_pem)?;
        files::write_private(&new_certificate, &pair.certificate_pem)?;
        files::rename(&new_certificate, &certificate)?;
        files::rename(&new_key, &key)
    }

    /// The pair of this name, if it is whole.
    fn pair(&self, name: &str) -> Result<Option<Pair>, PkiError> {
        let [certificate, key, new_key] = ["crt", "key", "key.new"].map(|e| self.path(&format!("{name}.{e}")));
        let Some(certificate_pem) = files::read(&certificate)? else {
            return Ok(None);
        };
        if let Some(key_pem) = files::read(&key)?
            && let Ok(pair) = Pair::new(certificate_pem.clone(), key_pem)
        {
            return Ok(Some(pair));
        }
        // Power failed after the certificate was moved in and before its key was.
        let Some(key_pem) = files::read(&new_key)? else {
            return Ok(None);
        };
        let Ok(pair) = Pair::new(certificate_pem, key_pem) else {
            return Ok(None);
        };
        files::rename(&new_key, &key)?;
        Ok(Some(pair))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use kiln_pki::Authority;

    use super::*;

    fn pair(ca: &Authority, node: &str) -> Pair {
        let issued = ca.issue_client(&format!("system:node:{node}"), Some("system:nodes"), SystemTime::now()).unwrap();
        Pair::new(issued.certificate_pem, issued.key_pem).unwrap()
    }

    fn credentials(ca: &Authority) -> Credentials {
        Credentials {
            ca_pem: ca.certificate_pem().to_owned(),
            client: pair(ca, "pi"),
            serving: Some(pair(ca, "pi")),
            server: "https://a:1".to_owned(),
        }
    }

    #[test]
    fn credentials_come_back_for_the_same_node_and_cluster_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&dir.path().join("agent"));
        let ca = Authority::create(SystemTime::now()).unwrap();
        assert!(store.load("pi", None).unwrap().is_none());
        store.save(&credentials(&ca)).unwrap();
        let back = store.load("pi", Some(&ca.hash())).unwrap().unwrap();
        assert_eq!((back.server.as_str(), back.serving.is_some()), ("https://a:1", true));
        assert!(store.load("other", None).unwrap().is_none());
        assert!(store.load("pi", Some("00")).unwrap().is_none());
    }

    #[test]
    fn every_file_is_private_or_holds_no_secret() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        Store::new(dir.path()).save(&credentials(&Authority::create(SystemTime::now()).unwrap())).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let secret = fs::read_to_string(&path).unwrap().contains("PRIVATE KEY");
            assert!(!secret || mode == 0o600, "{} has mode {mode:o}", path.display());
        }
    }

    #[test]
    fn a_renewal_that_power_cut_in_half_leaves_one_pair_that_fits() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let ca = Authority::create(SystemTime::now()).unwrap();
        let old = credentials(&ca);
        let new = pair(&ca, "pi");
        let file = |name: &str| dir.path().join(name);
        // The states on disk after each of save_pair's steps.
        for (certificate, key, key_new, expect) in [
            (&old.client.certificate_pem, &old.client.key_pem, None, &old.client),
            (&old.client.certificate_pem, &old.client.key_pem, Some(&new.key_pem), &old.client),
            (&new.certificate_pem, &old.client.key_pem, Some(&new.key_pem), &new),
            (&new.certificate_pem, &new.key_pem, None, &new),
        ] {
            store.save(&old).unwrap();
            fs::write(file("client.crt"), certificate).unwrap();
            fs::write(file("client.key"), key).unwrap();
            if let Some(key) = key_new {
                fs::write(file("client.key.new"), key).unwrap();
            }
            let got = store.load("pi", None).unwrap().unwrap().client;
            assert_eq!(got.certificate_pem, expect.certificate_pem);
            assert_eq!(store.load("pi", None).unwrap().unwrap().client.key_pem, expect.key_pem);
        }
    }
}
