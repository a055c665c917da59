//! Names of images, by the grammar of distributions' registries: `[host[:port]/]path[:tag][@digest]`.

/// A name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Its path has capital letters.
    #[error("repository name must be lowercase")]
    Case,
}

struct Parts<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

fn split(text: &str) -> Result<Parts<'_>, NameError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon before a slash is that of a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let parts = Parts { name, tag, digest };
    check(&parts)?;
    Ok(parts)
}

fn check(parts: &Parts<'_>) -> Result<(), NameError> {
    let (host, path) = host(parts.name);
    if host.is_some_and(|host| !is_host(host)) || path.is_empty() {
        return Err(NameError::Format);
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(NameError::Case);
    }
    let is_tag = |tag: &str| {
        let first = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        first && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let is_digest = |digest: &str| {
        let (kind, hash) = digest.split_once(':').unwrap_or_default();
        let letters = hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        !kind.is_empty() && hash.len() >= 32 && letters && (kind != "sha256" || hash.len() == 64)
    };
    let right = path.split('/').all(is_component)
        && parts.tag.is_none_or(is_tag)
        && parts.digest.is_none_or(is_digest)
        && parts.name.len() <= 255;
    if right { Ok(()) } else { Err(NameError::Format) }
}

/// The host of a name, if its first part is one: that is if it has a dot or a port, or is `localhost`.
fn host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), path),
        _ => (None, name),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_v6 = name.starts_with('[') && name.ends_with(']');
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    !name.is_empty() && (is_v6 || letters) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Small letters and digits, with single separators between them: `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(is_word) || !text.ends_with(is_word) {
        return false;
    }
    let between = text.split(is_word).filter(|separator| !separator.is_empty());
    between.into_iter().all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// The name with the tag `latest`, if it has neither tag nor digest: as the kubelet asks the runtime for it.
///
/// # Errors
/// When it is no name.
pub(crate) fn with_tag(name: &str) -> Result<String, NameError> {
    let parts = split(name)?;
    let is_bare = parts.tag.is_none() && parts.digest.is_none();
    Ok(if is_bare { format!("{name}:latest") } else { name.to_owned() })
}

/// The name with its host and tag, as stores have it: `busybox` is `docker.io/library/busybox:latest`.
///
/// # Errors
/// When it is no name.
pub(crate) fn normalised(name: &str) -> Result<String, NameError> {
    let name = with_tag(name)?;
    let Parts { name: path, .. } = split(&name)?;
    Ok(match host(path) {
        (Some("index.docker.io"), _) => name.replacen("index.docker.io", "docker.io", 1),
        (Some(_), _) => name,
        (None, path) if path.contains('/') => format!("docker.io/{name}"),
        (None, _) => format!("docker.io/library/{name}"),
    })
}

/// The registry's host in a name.
pub(crate) fn registry(name: &str) -> &str {
    match split(name).map(|parts| host(parts.name).0) {
        Ok(Some(host)) => host,
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        let rows = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("registry:5000/a/b:v1", "registry:5000/a/b:v1"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ];
        for (name, whole) in rows {
            assert_eq!(normalised(name).as_deref(), Ok(whole));
        }
        assert_eq!(with_tag(&digest), Ok(digest.clone()));
        assert_eq!(registry("registry:5000/a"), "registry:5000");
        assert_eq!(registry("a/b"), "docker.io");
    }

    #[test]
    fn what_is_no_name_is_refused_with_upstreams_words() {
        assert_eq!(with_tag("Busybox"), Err(NameError::Case));
        for name in ["", ":", "a:", "a b", "a//b", "a/-b", "FAILED_IMAGE:x y", "a@sha256:12", "a..b", "a:t:u"] {
            assert!(with_tag(name).is_err(), "{name:?}");
        }
    }
}
