//! One card's share of a cluster.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kiln_node_config::{NodeConfig, Role, ServerUrl, Token, edit};
use kiln_pki::{Authority, Certificate, ca_hash};

use super::{ClusterError, names};
use crate::profile::ConfigFile;

/// Finding the server by mDNS, as `node.toml` has it.
const DISCOVER: &str = "discover";

/// What the user says about a card.
#[derive(Clone, Debug)]
pub struct CardSpec {
    /// What the node is.
    pub role: Role,
    /// Its name; absent: the board's default.
    pub name: Option<String>,
    /// Agents: where the server is, a URL or `discover`. Servers: refused.
    pub server: Option<String>,
    /// Agents: another token than the cluster's own.
    pub token: Option<String>,
}

/// A cluster's directory, read and checked.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    ca: String,
    hash: String,
    token: Token,
}

impl Cluster {
    /// Reads a directory that [`super::init`] made.
    ///
    /// # Errors
    /// [`ClusterError`] with the file that is missing or wrong.
    pub fn read(directory: &Path) -> Result<Self, ClusterError> {
        let ca = read(directory, names::CA)?;
        let hash = ca_hash(&Certificate::from_pem(&ca)?.der);
        let token = Token::parse(&read(directory, names::TOKEN)?)
            .map_err(|source| ClusterError::Token { path: directory.join(names::TOKEN), source })?;
        let cluster = Self { directory: directory.to_owned(), ca, hash, token };
        cluster.check_token(&cluster.token)?;
        Ok(cluster)
    }

    /// The files for a card's CONFIG partition, `node.toml` first.
    ///
    /// # Errors
    /// A setting that `node.toml` does not take, or a file of the cluster that is missing or wrong.
    pub fn card(&self, spec: &CardSpec) -> Result<Vec<ConfigFile>, ClusterError> {
        let token = match &spec.token {
            Some(text) => Token::parse(text).map_err(ClusterError::GivenToken)?,
            None => self.token.clone(),
        };
        self.files(node_toml(spec, Some(&token))?)
    }

    /// The same for settings that are already written; an agent that has no token in them gets the cluster's.
    ///
    /// # Errors
    /// As [`Cluster::card`].
    pub fn files(&self, mut settings: String) -> Result<Vec<ConfigFile>, ClusterError> {
        let config = NodeConfig::parse(&settings, "node.toml").map_err(edit::EditError::Invalid)?;
        match config.cluster.and_then(|cluster| cluster.token) {
            Some(token) => self.check_token(&token)?,
            None if config.node.role == Role::Agent => {
                settings = edit::set(&settings, "cluster.token", &self.token.to_string())?;
            }
            None => {}
        }
        let file = |path: &str, content: String| ConfigFile { path: path.to_owned(), content: content.into_bytes() };
        let on_card = |name: &str, content: String| file(&format!("/cluster/{name}"), content);
        let mut files = vec![file("/node.toml", settings), on_card(names::CA, self.ca.clone())];
        if config.node.role == Role::Server {
            let key = read(&self.directory, names::KEY)?;
            // A key of another CA would be found out at the first join, when the card is in the board.
            Authority::load(&self.ca, &key)?;
            files.push(on_card(names::KEY, key));
            files.push(on_card(names::TOKENS, read(&self.directory, names::TOKENS)?));
        }
        Ok(files)
    }

    fn check_token(&self, token: &Token) -> Result<(), ClusterError> {
        if token.ca_hash() == self.hash {
            return Ok(());
        }
        Err(ClusterError::OtherCa {
            directory: self.directory.clone(),
            expected: self.hash.clone(),
            found: token.ca_hash().to_owned(),
        })
    }
}

/// The text of a card's `node.toml`.
///
/// # Errors
/// [`ClusterError::Server`] for a server's address that is none, [`ClusterError::Setting`] for the rest.
pub fn node_toml(spec: &CardSpec, token: Option<&Token>) -> Result<String, ClusterError> {
    let mut text = format!(
        "# Settings of this node; `imager config set` edits them.\nversion = 1\n\n[node]\nrole = \"{}\"\n",
        spec.role
    );
    if spec.role == Role::Agent {
        let server = match spec.server.as_deref() {
            None | Some(DISCOVER) => DISCOVER.to_owned(),
            Some(text) => server_url(text)?.to_string(),
        };
        text.push_str(&format!("\n[cluster]\nserver = \"{server}\"\n"));
        if let Some(token) = token {
            text.push_str(&format!("token = \"{token}\"\n"));
        }
    }
    if let Some(name) = &spec.name {
        text = edit::set(&text, "node.name", name)?;
    }
    NodeConfig::parse(&text, "node.toml").map_err(edit::EditError::Invalid)?;
    Ok(text)
}

/// A server's address as people give it: a URL, or a name or address with or without port.
///
/// # Errors
/// [`ClusterError::Server`].
pub fn server_url(text: &str) -> Result<ServerUrl, ClusterError> {
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    url.parse().map_err(|why| ClusterError::Server { text: text.to_owned(), why })
}

fn read(directory: &Path, file: &'static str) -> Result<String, ClusterError> {
    let path = directory.join(file);
    match fs::read_to_string(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(ClusterError::NotACluster { directory: directory.to_owned(), file })
        }
        other => other.map_err(ClusterError::io("read", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::init::tests::made;

    fn spec(role: Role) -> CardSpec {
        CardSpec { role, name: Some("pi-1".to_owned()), server: None, token: None }
    }

    fn paths(files: &[ConfigFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn an_agents_card_has_the_certificate_and_no_key() {
        let (_directory, path, _) = made();
        let files = Cluster::read(&path).expect("a cluster").card(&spec(Role::Agent)).expect("a card");
        assert_eq!(paths(&files), ["/node.toml", "/cluster/ca.crt"]);
        let text = String::from_utf8_lossy(&files[0].content);
        let config = NodeConfig::parse(&text, "node.toml").expect("valid");
        let cluster = config.cluster.expect("an agent's section");
        assert_eq!(cluster.server.to_string(), "discover");
        assert!(cluster.token.is_some());
    }

    #[test]
    fn a_servers_card_has_the_key_and_the_tokens_hashes_and_no_token() {
        let (_directory, path, _) = made();
        let files = Cluster::read(&path).expect("a cluster").card(&spec(Role::Server)).expect("a card");
        let expected = ["/node.toml", "/cluster/ca.crt", "/cluster/ca.key", "/cluster/bootstrap-tokens.json"];
        assert_eq!(paths(&files), expected);
        assert!(!String::from_utf8_lossy(&files[0].content).contains("K10"));
    }

    #[test]
    fn written_settings_get_the_clusters_files_and_an_agent_its_token() {
        let (_directory, path, _) = made();
        let cluster = Cluster::read(&path).expect("a cluster");
        let agent = "version = 1\n# Behind the till.\n[node]\nrole = \"agent\"\n[cluster]\nserver = \"discover\"\n";
        let files = cluster.files(agent.to_owned()).expect("a card");
        let text = String::from_utf8_lossy(&files[0].content);
        assert!(text.contains("K10") && text.contains("# Behind the till."), "{text}");
        let server = "version = 1\n[node]\nrole = \"server\"\n";
        assert_eq!(paths(&cluster.files(server.to_owned()).expect("a card")).len(), 4);
    }

    #[test]
    fn a_token_of_another_cluster_is_refused() {
        let (_directory, path, _) = made();
        let token = format!("K10{}::abcdef:0123456789abcdef", "ab".repeat(32));
        let spec = CardSpec { token: Some(token), ..spec(Role::Agent) };
        let error = Cluster::read(&path).expect("a cluster").card(&spec).expect_err("another CA");
        assert!(matches!(error, ClusterError::OtherCa { .. }), "{error}");
        assert!(!error.to_string().contains("0123456789abcdef"));
    }

    #[test]
    fn a_server_is_a_url_a_name_or_an_address() {
        for (text, url) in [
            ("https://10.0.0.1:7443", "https://10.0.0.1:7443"),
            ("10.0.0.1", "https://10.0.0.1:6443"),
            ("kiln.lan:6443", "https://kiln.lan:6443"),
        ] {
            assert_eq!(server_url(text).expect(text).to_string(), url);
        }
        assert!(server_url("http://10.0.0.1").is_err());
    }

    #[test]
    fn a_directory_without_a_ca_is_no_cluster() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Cluster::read(directory.path()).expect_err("empty");
        assert!(error.to_string().contains("it has no ca.crt"), "{error}");
    }
}
