//! Containerd's `hosts.toml`, by its documentation of hosts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::file::{Settings, Tls, prefix};
use crate::containerd::config::quote;

/// Docker Hub's name, and the host that its images are at.
pub(super) const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// The files, by the name of their folder.
pub(super) fn all(settings: &Settings) -> BTreeMap<String, String> {
    let own = settings.configs.iter().filter(|(_, config)| config.tls != Tls::default()).map(|(host, _)| host);
    let names = settings.mirrors.keys().chain(own);
    names
        .map(|registry| {
            let folder = if registry == "*" { "_default" } else { registry };
            (folder.to_owned(), text(settings, registry))
        })
        .collect()
}

fn text(settings: &Settings, registry: &str) -> String {
    let mut text = String::new();
    // A string takes whatever is written.
    if let Some(tls) = tls(settings, registry) {
        let host = if registry == HUB.0 { HUB.1 } else { registry };
        _ = writeln!(text, "server = {}", quote(&format!("https://{host}")));
        text.push_str(&keys(tls, ""));
    }
    let Some(mirror) = settings.mirrors.get(registry) else { return text };
    let prefix = mirror.rewrite.iter().find_map(|(from, to)| prefix(from, to));
    for endpoint in &mirror.endpoint {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some(parts) => parts,
            None => (scheme(settings, endpoint), endpoint.as_str()),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        // Containerd puts /v2 behind a host by itself; a path is taken as it is.
        let path = match (path, prefix) {
            ("", None) => String::new(),
            (path, None) => format!("/{path}"),
            ("", Some(prefix)) => format!("/v2/{prefix}"),
            (path, Some(prefix)) => format!("/{path}/{prefix}"),
        };
        _ = writeln!(text, "\n[host.{}]", quote(&format!("{scheme}://{host}{path}")));
        text.push_str("  capabilities = [\"pull\", \"resolve\"]\n");
        if !path.is_empty() {
            text.push_str("  override_path = true\n");
        }
        if let Some(tls) = tls(settings, host) {
            text.push_str(&keys(tls, "  "));
        }
    }
    text
}

/// What is set about a host's certificates.
fn tls<'a>(settings: &'a Settings, host: &str) -> Option<&'a Tls> {
    let config = settings.configs.get(host).or_else(|| settings.configs.get(HUB.1).filter(|_| host == HUB.0));
    config.map(|config| &config.tls).filter(|tls| **tls != Tls::default())
}

/// Of a host without a scheme: as containerd does it, only this machine is spoken to in the clear.
fn scheme(settings: &Settings, endpoint: &str) -> &'static str {
    let host = endpoint.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    if is_local && tls(settings, host).is_none() { "http" } else { "https" }
}

fn keys(tls: &Tls, indent: &str) -> String {
    let mut text = String::new();
    if !tls.ca_file.is_empty() {
        _ = writeln!(text, "{indent}ca = {}", quote(&tls.ca_file));
    }
    if !tls.cert_file.is_empty() {
        _ = writeln!(text, "{indent}client = [[{}, {}]]", quote(&tls.cert_file), quote(&tls.key_file));
    }
    if tls.insecure_skip_verify {
        _ = writeln!(text, "{indent}skip_verify = true");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> BTreeMap<String, String> {
        all(&serde_yaml_ng::from_str(text).expect("right"))
    }

    #[test]
    fn mirrors_are_asked_in_order_each_with_its_own_certificates() {
        let files = files(
            "mirrors:\n  docker.io: {endpoint: [\"https://m.example:5000\", \"localhost:5000\", \"https://n.example/p/v2\"]}\n  \
             \"*\": {endpoint: [\"m.example:5000\"]}\n\
             configs:\n  m.example:5000: {tls: {ca_file: /ca, cert_file: /c, key_file: /k}}\n  docker.io: {tls: {insecure_skip_verify: true}}\n",
        );
        let hub = "server = \"https://registry-1.docker.io\"\nskip_verify = true\n\n\
                   [host.\"https://m.example:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"/ca\"\n  client = [[\"/c\", \"/k\"]]\n\n\
                   [host.\"http://localhost:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n\n\
                   [host.\"https://n.example/p/v2\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n";
        assert_eq!(files["docker.io"], hub);
        assert!(files["_default"].starts_with("\n[host.\"https://m.example:5000\"]"));
        assert_eq!(
            files["m.example:5000"],
            "server = \"https://m.example:5000\"\nca = \"/ca\"\nclient = [[\"/c\", \"/k\"]]\n"
        );
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn a_prefix_is_part_of_the_path() {
        let files = files(
            "mirrors:\n  a.example: {endpoint: [\"https://m\", \"https://n/x\"], rewrite: {\"^(.*)$\": \"hub/$1\"}}\n",
        );
        assert!(
            files["a.example"]
                .contains("[host.\"https://m/v2/hub\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path")
        );
        assert!(files["a.example"].contains("[host.\"https://n/x/hub\"]"));
    }
}
