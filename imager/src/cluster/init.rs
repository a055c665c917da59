//! Making a cluster's directory.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use kiln_node_config::{ServerUrl, Token};
use kiln_pki::{Authority, files, kubeconfig::Kubeconfig, secret};
use serde::Serialize;
use serde_json::json;

use super::{ClusterError, names};

/// The admin: a user of the group that may do everything.
const ADMIN: &str = "kiln-admin";
const ADMINS: &str = "system:masters";

/// What the user says about a new cluster.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The name that the kubeconfig gives it.
    pub name: String,
    /// Where the admin's kubectl finds the API.
    pub server: ServerUrl,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The directory.
    pub directory: PathBuf,
    /// The cluster's name.
    pub name: String,
    /// SHA-256 of the CA's certificate, 64 hex digits.
    pub ca_hash: String,
    /// The server in the kubeconfig.
    pub server: String,
    /// The files, by name.
    pub files: Vec<String>,
}

/// Makes `directory` with a new CA, join token and kubeconfig: all of it, or nothing.
///
/// # Errors
/// [`ClusterError::Exists`] when there is something in it, and what the system or the PKI says.
pub fn init(directory: &Path, options: &InitOptions, now: SystemTime) -> Result<Created, ClusterError> {
    check_name(&options.name)?;
    refuse_if_used(directory)?;
    let authority = Authority::create(now)?;
    let ca_hash = authority.hash();
    let (id, token_secret) = secret::new_token()?;
    let token = Token::new(&ca_hash, &id, &token_secret)
        .map_err(|source| ClusterError::Token { path: directory.join(names::TOKEN), source })?;
    let tokens = json!([{
        "id": id,
        "secretSha256": secret::hash(&token_secret),
        "description": "made by imager cluster init",
        "expires": null,
        "singleUse": false,
        "node": null,
    }]);
    let admin = authority.issue_client(ADMIN, Some(ADMINS), now)?;
    let kubeconfig = Kubeconfig {
        name: &options.name,
        server: &options.server.to_string(),
        ca_pem: authority.certificate_pem(),
        client_cert_pem: &admin.certificate_pem,
        client_key_pem: &admin.key_pem,
    };

    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(ClusterError::io("make", parent))?;
    let scratch =
        tempfile::Builder::new().prefix(".kiln-cluster-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent);
    let scratch = scratch.map_err(ClusterError::io("write in", parent))?;
    let at = |name: &str| scratch.path().join(name);
    files::write_public(&at(names::CA), authority.certificate_pem())?;
    files::write_private(&at(names::KEY), &authority.key_pem())?;
    files::write_private(&at(names::TOKEN), &format!("{token}\n"))?;
    files::write_private(&at(names::TOKENS), &format!("{tokens:#}\n"))?;
    files::write_private(&at(names::KUBECONFIG), &kubeconfig.render())?;
    // Renaming over an empty directory replaces it; over a used one it fails.
    files::rename(scratch.path(), directory)?;
    // What the guard would remove has moved away.
    let _ = scratch.keep();
    Ok(Created {
        directory: directory.to_owned(),
        name: options.name.clone(),
        ca_hash,
        server: options.server.to_string(),
        files: [names::CA, names::KEY, names::TOKEN, names::TOKENS, names::KUBECONFIG].map(str::to_owned).to_vec(),
    })
}

fn check_name(name: &str) -> Result<(), ClusterError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if (1..=63).contains(&name.len()) && name.chars().all(fits) {
        Ok(())
    } else {
        Err(ClusterError::Name(name.to_owned()))
    }
}

fn refuse_if_used(directory: &Path) -> Result<(), ClusterError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(ClusterError::Exists { directory: directory.to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(ClusterError::Exists { directory: directory.to_owned() })
        }
        Err(error) => Err(ClusterError::io("read", directory)(error)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::cluster) fn made() -> (tempfile::TempDir, PathBuf, Created) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("home");
        let options = InitOptions { name: "home".to_owned(), server: "https://10.0.2.2:6443".parse().expect("a URL") };
        let created = init(&path, &options, SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000));
        (directory, path, created.expect("made"))
    }

    #[test]
    fn secrets_are_for_their_owner_alone() {
        let (_directory, path, created) = made();
        for file in &created.files {
            let mode = fs::metadata(path.join(file)).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, if file == names::CA { 0o644 } else { 0o600 }, "{file}");
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
    }

    #[test]
    fn a_cluster_is_never_written_over() {
        let (directory, path, created) = made();
        let options = InitOptions { name: "home".to_owned(), server: created.server.parse().expect("a URL") };
        let again = init(&path, &options, SystemTime::now());
        assert!(matches!(again, Err(ClusterError::Exists { .. })), "{again:?}");
        let left: Vec<_> = fs::read_dir(directory.path()).expect("readable").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn the_token_pins_the_ca_and_its_secret_is_kept_as_a_hash() {
        let (_directory, path, created) = made();
        let token = Token::parse(&fs::read_to_string(path.join(names::TOKEN)).expect("there")).expect("a token");
        assert_eq!(token.ca_hash(), created.ca_hash);
        let tokens = fs::read_to_string(path.join(names::TOKENS)).expect("there");
        assert!(tokens.contains(&secret::hash(token.secret())) && !tokens.contains(token.secret()));
    }
}
