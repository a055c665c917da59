//! The file: K3s' keys, as YAML or as TOML. What is wrong in it is told with its line and key.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The settings of registries could not be read or applied.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, and what is wrong with it.
        message: String,
    },
    /// Containerd's own file cannot be written or removed.
    #[error("{}: {error}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Mirrors by registry; `*` is all registries that have none.
    #[serde(default)]
    pub(super) mirrors: BTreeMap<String, Mirror>,
    /// Credentials and TLS by the host that is spoken to, be it a registry or a mirror.
    #[serde(default)]
    pub(super) configs: BTreeMap<String, Config>,
}

/// Where else to look for a registry's images, before it itself is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    /// URLs, in the order in which they are asked.
    #[serde(default, alias = "endpoints")]
    pub(super) endpoint: Vec<String>,
    /// What to ask the mirrors for in place of an image's name: `"^(.*)$"` to `"a/prefix/$1"`.
    #[serde(default)]
    pub(super) rewrite: BTreeMap<String, String>,
}

/// How a host is spoken to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Credentials.
    #[serde(default)]
    pub(super) auth: Option<Auth>,
    /// Certificates.
    #[serde(default)]
    pub(super) tls: Tls,
}

/// Credentials of a registry.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Who.
    #[serde(default)]
    pub username: String,
    /// Their password.
    #[serde(default)]
    pub password: String,
    /// Both in one, as in Docker's file: base64 of `name:password`.
    #[serde(default)]
    pub auth: String,
    /// A token in their place.
    #[serde(default, alias = "identitytoken")]
    pub identity_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets are not for logs.
        write!(out, "Auth({:?})", self.username)
    }
}

/// Certificates of a registry, and ours.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// The authority that signed the registry's certificate; PEM.
    #[serde(default)]
    pub(super) ca_file: String,
    /// Our certificate; PEM.
    #[serde(default)]
    pub(super) cert_file: String,
    /// Its key; PEM.
    #[serde(default)]
    pub(super) key_file: String,
    /// Take any certificate.
    #[serde(default)]
    pub(super) insecure_skip_verify: bool,
}

impl Settings {
    /// Reads and checks a file.
    pub(super) fn read(path: &Path) -> Result<Self, RegistriesError> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| RegistriesError::Read { path: path.to_owned(), error })?;
        let parsed =
            if path.extension().is_some_and(|extension| extension == "toml") { toml(&text) } else { yaml(&text) };
        let checked = parsed.and_then(|settings| settings.check(&text).map(|()| settings));
        checked.map_err(|(line, message)| RegistriesError::Wrong { path: path.to_owned(), line, message })
    }

    /// What no format says. Answers the line and what is wrong there.
    fn check(&self, text: &str) -> Result<(), (usize, String)> {
        let wrong = |word: &str, message: String| Err((line_of(text, word), message));
        for (registry, mirror) in &self.mirrors {
            let key = format!("mirrors.{registry:?}");
            if registry.is_empty() || registry.contains('/') {
                return wrong(registry, format!("{key}: a registry is a host, perhaps with a port, without a path"));
            }
            if mirror.endpoint.is_empty() {
                return wrong(registry, format!("{key}: endpoint is missing: a list of URLs"));
            }
            for endpoint in &mirror.endpoint {
                let rest = endpoint.split_once("://").map_or(Some(endpoint.as_str()), |(scheme, rest)| {
                    matches!(scheme, "http" | "https").then_some(rest)
                });
                if rest
                    .is_none_or(|rest| rest.is_empty() || rest.starts_with('/') || rest.contains(['?', '#', '@', ' ']))
                {
                    let message = format!("{key}.endpoint: {endpoint:?} is no URL; write it as https://host:port");
                    return wrong(endpoint, message);
                }
            }
            if mirror.rewrite.len() > 1 || mirror.rewrite.iter().any(|(from, to)| prefix(from, to).is_none()) {
                let pattern = mirror.rewrite.keys().last().map_or("rewrite", String::as_str);
                let message = format!(
                    "{key}.rewrite: {pattern:?}: containerd can only put a prefix before all names: \"^(.*)$\" = \"a/prefix/$1\""
                );
                return wrong(pattern, message);
            }
        }
        for (host, config) in &self.configs {
            let key = format!("configs.{host:?}");
            if host.is_empty() || host.contains('/') {
                return wrong(host, format!("{key}: this is a host, perhaps with a port, without a scheme or a path"));
            }
            if config.tls.cert_file.is_empty() != config.tls.key_file.is_empty() {
                return wrong(host, format!("{key}.tls: cert_file and key_file go together"));
            }
        }
        Ok(())
    }

    /// Credentials by the host that containerd speaks to.
    pub(super) fn credentials(&self) -> Vec<(String, Auth)> {
        let mut found = Vec::new();
        for (host, config) in &self.configs {
            let Some(auth) = &config.auth else { continue };
            found.push((host.clone(), auth.clone()));
            // Docker Hub is one name and another host.
            if host == super::hosts::HUB.0 && !self.configs.contains_key(super::hosts::HUB.1) {
                found.push((super::hosts::HUB.1.to_owned(), auth.clone()));
            }
        }
        found
    }
}

/// The prefix that a rewrite puts before all names; none if it does anything else.
pub(super) fn prefix<'a>(from: &str, to: &'a str) -> Option<&'a str> {
    let is_all = matches!(from, "^(.*)$" | "^(.*)" | "(.*)$" | "(.*)" | "^(.+)$" | "(.+)");
    let prefix = to.strip_suffix("$1").or_else(|| to.strip_suffix("${1}"))?;
    let is_path = prefix.ends_with('/') && !prefix.starts_with('/');
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
    (is_all && is_path && prefix.chars().all(plain)).then(|| prefix.trim_end_matches('/'))
}

fn toml(text: &str) -> Result<Settings, (usize, String)> {
    ::toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (text.get(..at).unwrap_or_default().matches('\n').count() + 1, error.message().to_owned())
    })
}

fn yaml(text: &str) -> Result<Settings, (usize, String)> {
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    serde_yaml_ng::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |place| place.line());
        (line, error.to_string())
    })
}

/// The first line that has a word, from 1; the first one if none has.
fn line_of(text: &str, word: &str) -> usize {
    text.lines().position(|line| !line.trim_start().starts_with('#') && line.contains(word)).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        Settings::read(&path).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn both_formats_say_the_same() {
        let yaml = "mirrors:\n  docker.io:\n    endpoint:\n      - https://m.example:5000\n    rewrite:\n      \"^(.*)$\": \"hub/$1\"\n\
                    configs:\n  m.example:5000:\n    auth:\n      username: me\n      password: secret\n    tls:\n      ca_file: /ca.pem\n";
        let toml = "[mirrors.\"docker.io\"]\nendpoint = [\"https://m.example:5000\"]\nrewrite = { \"^(.*)$\" = \"hub/$1\" }\n\
                    [configs.\"m.example:5000\"]\nauth = { username = \"me\", password = \"secret\" }\ntls = { ca_file = \"/ca.pem\" }\n";
        for (name, text) in [("registries.yaml", yaml), ("registries.toml", toml)] {
            let settings = read(name, text).expect("right");
            assert_eq!(settings.mirrors["docker.io"].endpoint, ["https://m.example:5000"]);
            assert_eq!(settings.mirrors["docker.io"].rewrite["^(.*)$"], "hub/$1");
            assert_eq!(settings.credentials()[0].1.password, "secret");
            assert_eq!(settings.configs["m.example:5000"].tls.ca_file, "/ca.pem");
            assert!(!format!("{settings:?}").contains("secret"), "secrets are not for logs");
        }
        assert!(read("registries.yaml", "# nothing yet\n").expect("right").mirrors.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_key() {
        for (name, text, told) in [
            ("r.toml", "[mirrors.\"docker.io\"]\nendpiont = []\n", "r.toml:2: unknown field `endpiont`"),
            (
                "r.toml",
                "\n[mirrors.\"a.example\"]\nendpoint = []\n",
                "r.toml:2: mirrors.\"a.example\": endpoint is missing",
            ),
            (
                "r.toml",
                "[mirrors.a]\nendpoint = [\n\"ftp://x\"]\n",
                "r.toml:3: mirrors.\"a\".endpoint: \"ftp://x\" is no URL",
            ),
            (
                "r.toml",
                "[configs.a]\ntls = { cert_file = \"/c\" }\n",
                "r.toml:1: configs.\"a\".tls: cert_file and key_file",
            ),
            ("r.yaml", "mirrors:\n  a:\n    endpoint: x\n", "r.yaml:3: mirrors.a.endpoint: invalid type: string \"x\""),
            (
                "r.yaml",
                "mirrors:\n  a:\n    endpoint: [\"https://x\"]\n    rewrite:\n      \"^b/(.*)$\": \"c/$1\"\n",
                "r.yaml:5: mirrors.\"a\".rewrite: \"^b/(.*)$\": containerd can only put a prefix",
            ),
        ] {
            let error = read(name, text).expect_err("wrong");
            assert!(error.starts_with(told), "{error}");
        }
    }

    #[test]
    fn the_documented_sample_is_right() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/registries.toml");
        let settings = Settings::read(&sample).expect("right");
        assert_eq!((settings.mirrors.len(), settings.credentials().len()), (2, 1));
    }

    #[test]
    fn a_rewrite_that_is_a_prefix_is_known_as_one() {
        assert_eq!(prefix("^(.*)$", "hub/cache/$1"), Some("hub/cache"));
        assert_eq!(prefix("(.*)", "hub/${1}"), Some("hub"));
        for (from, to) in
            [("^rancher/(.*)", "hub/$1"), ("^(.*)$", "hub-$1"), ("^(.*)$", "/hub/$1"), ("^(.*)$", "hub/$1/x")]
        {
            assert_eq!(prefix(from, to), None, "{from} {to}");
        }
    }
}
