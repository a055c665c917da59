//! A kubeconfig file for `kubectl`: one cluster, one user, one context.

use base64::Engine as _;

/// What goes into the file.
#[derive(Clone)]
pub struct Kubeconfig<'a> {
    /// Name of cluster, user and context.
    pub name: &'a str,
    /// `https://host:port` of the API.
    pub server: &'a str,
    /// CA certificate, PEM.
    pub ca_pem: &'a str,
    /// Client certificate, PEM.
    pub client_cert_pem: &'a str,
    /// The client's private key, PEM.
    pub client_key_pem: &'a str,
}

impl Kubeconfig<'_> {
    /// The file as YAML. It holds a private key: write it with mode 0600.
    pub fn render(&self) -> String {
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let (name, server) = (quote(self.name), quote(self.server));
        let (ca, cert, key) = (base64(self.ca_pem), base64(self.client_cert_pem), base64(self.client_key_pem));
        format!(
            "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {name}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
current-context: {name}
preferences: {{}}
"
        )
    }
}

/// A YAML double-quoted scalar.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_has_one_context_that_is_current() {
        let text = Kubeconfig {
            name: "kiln \"x\"",
            server: "https://[fd00::1]:6443",
            ca_pem: "CA",
            client_cert_pem: "CERT",
            client_key_pem: "KEY",
        }
        .render();
        assert!(text.contains("current-context: \"kiln \\\"x\\\"\"\n"));
        assert!(text.contains("    server: \"https://[fd00::1]:6443\"\n"));
        assert!(text.contains("    client-key-data: S0VZ\n"));
    }
}
