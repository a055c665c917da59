//! Rules for single words, each in Kubernetes' words.

/// The name of a port: at most fifteen letters, digits and hyphens.
pub(in crate::registry::workloads) fn port_name(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.len() > 15 {
        out.push("must be no more than 15 bytes".to_owned());
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// The name of a variable of the environment: printable ASCII without `=`.
pub(super) fn variable(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.is_empty() {
        out.push("environment variable name must be non-empty".to_owned());
    }
    if name.bytes().any(|b| !(b' '..=b'~').contains(&b) || b == b'=') {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        out.push(why.to_owned());
    }
    out
}

/// The name of a header of HTTP.
pub(super) fn header(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
         validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// A number and a percent sign.
pub(in crate::registry::workloads) fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
         for validation is '[0-9]+%')"
            .to_owned(),
    ]
}

/// A domain to search names in: a subdomain that may have underscores.
pub(super) fn search_domain(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.len() > 253 {
        out.push("must be no more than 253 bytes".to_owned());
    }
    let end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let label = |part: &str| part.bytes().all(inner) && end(part.bytes().next()) && end(part.bytes().last());
    if !name.split('.').all(label) {
        out.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')"
                .to_owned(),
        );
    }
    out
}

/// The name of a kernel parameter, with dots or slashes between its parts.
pub(super) fn is_sysctl(name: &str) -> bool {
    let alnum = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let part = |p: &str| p.bytes().all(inner) && alnum(p.bytes().next()) && alnum(p.bytes().last());
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_what_is_none() {
        assert_eq!(port_name("http-1"), Vec::<String>::new());
        assert_eq!(port_name("-").len(), 2);
        assert_eq!(
            port_name("1--2"),
            ["must contain at least one letter (a-z)", "must not contain consecutive hyphens"]
        );
        assert!(variable("MY VAR-1.x").is_empty() && !variable("A=B").is_empty() && !variable("é").is_empty());
        assert!(header("X-Header").is_empty() && !header("X Header").is_empty());
        assert!(percent("25%").is_empty() && !percent("25").is_empty() && !percent("%").is_empty());
        assert!(search_domain("_tcp.example.com").is_empty() && !search_domain("a..b").is_empty());
        assert!(is_sysctl("net.ipv4/ip_forward") && !is_sysctl("Net") && !is_sysctl("a..b"));
    }
}
