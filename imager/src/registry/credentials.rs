//! Credentials of registries from Docker's `config.json`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Reference, RegistryError};

/// Name and password by host.
#[derive(Clone, Default)]
pub struct Credentials(Vec<(String, String, String)>);

impl Credentials {
    /// Reads a file, or if none is named the user's: `config.json` in `DOCKER_CONFIG` or in `~/.docker`, if it is there.
    ///
    /// # Errors
    /// The named file is not there, or one is wrong.
    pub fn read(named: Option<&Path>) -> Result<Credentials, RegistryError> {
        let usual = || {
            let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
            folder
                .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".docker")))
                .map(|f| f.join("config.json"))
        };
        let Some(path) = named.map(Path::to_owned).or_else(usual) else { return Ok(Credentials::default()) };
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Credentials::default());
            }
            text => text.map_err(RegistryError::io("reading", &path))?,
        };
        parse(&text).map_err(|message| RegistryError::Credentials { path, message })
    }

    /// Those for an image's registry.
    pub(super) fn of(&self, reference: &Reference) -> Option<(&str, &str)> {
        let hosts = reference.hosts();
        let is_for = |place: &str| hosts.iter().any(|host| place == *host || bare(place) == *host);
        let found = self.0.iter().find(|(place, ..)| is_for(place))?;
        Some((&found.1, &found.2))
    }
}

/// A host that was written as a URL.
fn bare(place: &str) -> &str {
    let place = place.trim_start_matches("https://").trim_start_matches("http://");
    place.split('/').next().unwrap_or_default()
}

fn parse(text: &[u8]) -> Result<Credentials, String> {
    let config: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (place, entry) in config["auths"].as_object().into_iter().flatten() {
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let (mut name, mut password) = (field("username"), field("password"));
        let both = field("auth");
        if !both.is_empty() {
            let decoded = STANDARD.decode(both.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
            let (user, secret) = pair.ok_or_else(|| format!("auths.{place:?}.auth is not base64 of name:password"))?;
            (name, password) = (user.to_owned(), secret.to_owned());
        }
        // With a helper of the desktop an entry is empty: it is not for us.
        if !name.is_empty() {
            found.push((place.clone(), name, password));
        }
    }
    Ok(Credentials(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_the_registrys_host() {
        let text = format!(
            r#"{{"auths": {{"r.example:5000": {{"auth": "{}"}}, "https://index.docker.io/v1/": {{"username": "h", "password": "p"}}, "x": {{}}}}}}"#,
            STANDARD.encode("me:se:cret")
        );
        let credentials = parse(text.as_bytes()).expect("right");
        let of = |name: &str| credentials.of(&Reference::parse(name).expect("a name"));
        assert_eq!(of("r.example:5000/a"), Some(("me", "se:cret")));
        assert_eq!(of("busybox"), Some(("h", "p")));
        assert_eq!(of("r.example/a"), None);
        assert_eq!(
            parse(br#"{"auths": {"a": {"auth": "!"}}}"#).err().as_deref(),
            Some("auths.\"a\".auth is not base64 of name:password")
        );
        assert!(parse(b"x").is_err());
    }
}
