//! Kubeconfig files: what `kubectl` reads, loaded into an [`HttpsConfig`] and saved.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_yaml_ng::Mapping;

use crate::error::ClientError;
use crate::https::{Auth, HttpsConfig};

/// A kubeconfig file. Fields that are not known here are kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kubeconfig {
    /// Always `v1`.
    #[serde(rename = "apiVersion", default = "api_version")]
    pub api_version: String,
    /// Always `Config`.
    #[serde(default = "kind")]
    pub kind: String,
    /// Servers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub clusters: Vec<NamedCluster>,
    /// Credentials.
    #[serde(default, deserialize_with = "null_as_default")]
    pub users: Vec<NamedUser>,
    /// Pairs of a server and credentials.
    #[serde(default, deserialize_with = "null_as_default")]
    pub contexts: Vec<NamedContext>,
    /// The context that is used unless another is asked for.
    #[serde(default)]
    pub current_context: String,
    /// Everything else.
    #[serde(flatten)]
    pub other: Mapping,
}

/// A server and its name in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedCluster {
    /// The name.
    pub name: String,
    /// The server.
    pub cluster: Cluster,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// `https://host:port`.
    pub server: String,
    /// The CA certificate's PEM text in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    /// The CA certificate's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// The name that the server's certificate must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Mapping,
}

/// Credentials and their name in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedUser {
    /// The name.
    pub name: String,
    /// The credentials.
    #[serde(default)]
    pub user: User,
}

/// Credentials.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    /// The client certificate's PEM text in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    /// The client certificate's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// The private key's PEM text in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    /// The private key's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A file with a bearer token.
    #[serde(rename = "tokenFile", default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Mapping,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(..)")
    }
}

/// A context and its name in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedContext {
    /// The name.
    pub name: String,
    /// The context.
    pub context: Context,
}

/// A server and credentials, by their names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The server's name.
    pub cluster: String,
    /// The credentials' name.
    #[serde(default)]
    pub user: String,
    /// Everything else, the default namespace among it.
    #[serde(flatten)]
    pub other: Mapping,
}

fn api_version() -> String {
    "v1".to_owned()
}

fn kind() -> String {
    "Config".to_owned()
}

/// `kubectl` writes `clusters: null` for an empty file.
fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Kubeconfig {
    /// Reads a file. The error names the file and, in YAML, the line.
    pub fn load(path: &Path) -> Result<Self, ClientError> {
        let text = fs::read_to_string(path).map_err(|error| at(path, error))?;
        serde_yaml_ng::from_str(&text).map_err(|error| at(path, error))
    }

    /// Writes a file that only its owner can read, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), ClientError> {
        let text = serde_yaml_ng::to_string(self).map_err(|error| at(path, error))?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(|error| at(path, error))
    }

    /// One server with a client certificate, all in the file itself.
    pub fn for_certificate(name: &str, server: &str, ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Self {
        let encode = |pem: &str| Some(STANDARD.encode(pem));
        let cluster =
            Cluster { server: server.to_owned(), certificate_authority_data: encode(ca_pem), ..Cluster::default() };
        let user = User {
            client_certificate_data: encode(certificate_pem),
            client_key_data: encode(key_pem),
            ..User::default()
        };
        let context = Context { cluster: name.to_owned(), user: name.to_owned(), ..Context::default() };
        Self {
            api_version: api_version(),
            kind: kind(),
            clusters: vec![NamedCluster { name: name.to_owned(), cluster }],
            users: vec![NamedUser { name: name.to_owned(), user }],
            contexts: vec![NamedContext { name: name.to_owned(), context }],
            current_context: name.to_owned(),
            other: Mapping::new(),
        }
    }

    /// The server and credentials of a context (the current one if none is named). `file` is where the kubeconfig came
    /// from: file names in it are relative to its folder.
    pub fn https(&self, context: Option<&str>, file: &Path) -> Result<HttpsConfig, ClientError> {
        let missing = |what: &str, name: &str| ClientError::Config(format!("{}: no {what} {name:?}", file.display()));
        let name = context.unwrap_or(&self.current_context);
        let context = self.contexts.iter().find(|entry| entry.name == name).ok_or_else(|| missing("context", name))?;
        let Context { cluster, user, .. } = &context.context;
        let cluster = self.clusters.iter().find(|entry| entry.name == *cluster);
        let cluster = &cluster.ok_or_else(|| missing("cluster", &context.context.cluster))?.cluster;
        let user = self.users.iter().find(|entry| entry.name == *user).map(|entry| &entry.user);

        let folder = file.parent().unwrap_or(Path::new(""));
        let text = |data: &Option<String>, path: &Option<PathBuf>| material(file, folder, data, path);
        let ca_pem = text(&cluster.certificate_authority_data, &cluster.certificate_authority)?.unwrap_or_default();
        let mut auth = Auth::Anonymous;
        if let Some(user) = user {
            let certificate = text(&user.client_certificate_data, &user.client_certificate)?;
            let key = text(&user.client_key_data, &user.client_key)?;
            let token_file = text(&None, &user.token_file)?.map(|token| token.trim().to_owned());
            if let (Some(certificate_pem), Some(key_pem)) = (certificate, key) {
                auth = Auth::Certificate { certificate_pem, key_pem };
            } else if let Some(token) = user.token.clone().or(token_file) {
                auth = Auth::Bearer(token);
            }
        }
        let tls_server_name = cluster.tls_server_name.clone();
        Ok(HttpsConfig { server: cluster.server.clone(), ca_pem, auth, tls_server_name, ..HttpsConfig::default() })
    }
}

/// A text that is in the kubeconfig itself, in base64, or in a file of its own.
fn material(
    file: &Path,
    folder: &Path,
    data: &Option<String>,
    path: &Option<PathBuf>,
) -> Result<Option<String>, ClientError> {
    if let Some(data) = data {
        let bytes = STANDARD.decode(data.trim()).map_err(|error| at(file, error))?;
        return String::from_utf8(bytes).map(Some).map_err(|error| at(file, error));
    }
    let Some(path) = path else { return Ok(None) };
    let path = folder.join(path);
    fs::read_to_string(&path).map(Some).map_err(|error| at(&path, error))
}

fn at(path: &Path, error: impl std::fmt::Display) -> ClientError {
    ClientError::Config(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_saved_kubeconfig_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kiln.yaml");
        let saved = Kubeconfig::for_certificate("kiln", "https://10.0.0.1:6443", "CA", "CERT", "KEY");
        saved.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = Kubeconfig::load(&path).unwrap();
        assert_eq!(loaded, saved);
        let https = loaded.https(None, &path).unwrap();
        assert_eq!((https.server.as_str(), https.ca_pem.as_str()), ("https://10.0.0.1:6443", "CA"));
        assert!(matches!(https.auth, Auth::Certificate { ref key_pem, .. } if key_pem == "KEY"));
    }

    #[test]
    fn files_beside_the_kubeconfig_and_fields_of_others_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), "THE CA").unwrap();
        fs::write(folder.path().join("token"), "secret\n").unwrap();
        let path = folder.path().join("config");
        let text = "apiVersion: v1\nkind: Config\npreferences: {}\nclusters:\n- name: c\n  cluster:\n    \
                    server: https://a:1\n    certificate-authority: ca.crt\n    proxy-url: http://p\nusers:\n- name: u\n  \
                    user:\n    tokenFile: token\ncontexts:\n- name: x\n  context:\n    cluster: c\n    user: u\n    \
                    namespace: n\n";
        fs::write(&path, text).unwrap();
        let config = Kubeconfig::load(&path).unwrap();
        let https = config.https(Some("x"), &path).unwrap();
        assert_eq!(https.ca_pem, "THE CA");
        assert!(matches!(https.auth, Auth::Bearer(ref token) if token == "secret"));
        let again = serde_yaml_ng::to_string(&config).unwrap();
        for kept in ["proxy-url: http://p", "namespace: n", "preferences: {}"] {
            assert!(again.contains(kept), "{kept} is lost in {again}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        assert!(Kubeconfig::load(&path).unwrap_err().to_string().contains("config"));
        fs::write(&path, "clusters: null\nusers: null\ncontexts: null\n").unwrap();
        let error = Kubeconfig::load(&path).unwrap().https(Some("x"), &path).unwrap_err().to_string();
        assert!(error.ends_with("no context \"x\""), "{error}");
    }
}
