//! Names of images, by the grammar of the distribution project: `[host[:port]/]path[:tag][@digest]`.

use std::fmt;

use super::RegistryError;

/// Where names without a host are from, and the host that this registry is at.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// An image's name, with all that may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host, perhaps with a port.
    pub registry: String,
    /// Path in the registry.
    pub repository: String,
    /// Tag; none if there is a digest and no tag.
    pub tag: Option<String>,
    /// `sha256:` and 64 digits.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a name.
    ///
    /// # Errors
    /// [`RegistryError::Reference`].
    pub fn parse(text: &str) -> Result<Reference, RegistryError> {
        let wrong = |message: &str| RegistryError::Reference { text: text.to_owned(), message: message.to_owned() };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        if digest.as_deref().is_some_and(|digest| !is_digest(digest)) {
            return Err(wrong("a digest is sha256: and 64 hexadecimal digits"));
        }
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].split_once(':') {
            Some((name, tag)) => (&rest[..last + name.len()], Some(tag.to_owned())),
            None => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag is made of letters, digits, dots, dashes and underscores"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first == "localhost" || first.contains(['.', ':']) => (first, path.to_owned()),
            _ => (HUB.0, name.to_owned()),
        };
        if registry.starts_with(['.', ':', '-'])
            || !registry.chars().all(|c| c.is_ascii_alphanumeric() || "[].:-".contains(c))
        {
            return Err(wrong("its host is none"));
        }
        let repository = if registry == HUB.0 && !path.contains('/') { format!("library/{path}") } else { path };
        if !repository.split('/').all(is_part) {
            return Err(wrong("a name is made of lower-case letters and digits, with single separators"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }

    /// What the registry knows the image by: its digest, or its tag.
    pub(super) fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The URL of the registry's API. Only this machine is spoken to in the clear.
    pub(super) fn base(&self) -> String {
        let host = if self.registry == HUB.0 { HUB.1 } else { &self.registry };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_local = name == "localhost" || name == "[::1]" || name.starts_with("127.");
        format!("{}://{host}/v2/{}", if is_local { "http" } else { "https" }, self.repository)
    }

    /// Names under which credentials for the registry may be kept.
    pub(super) fn hosts(&self) -> Vec<&str> {
        match self.registry.as_str() {
            host if host == HUB.0 => vec!["https://index.docker.io/v1/", "index.docker.io", HUB.0, HUB.1],
            host => vec![host],
        }
    }

    /// A file name for the image: readable, and no other image's.
    pub(super) fn file_stem(&self, digest: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        let name: String = self.to_string().split('@').next().unwrap_or_default().chars().map(plain).collect();
        let short: String = digest.trim_start_matches("sha256:").chars().take(16).collect();
        format!("{name}-{short}")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether this is a digest that can be checked.
pub(super) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(plain) && text.chars().all(|c| plain(c) || ".-".contains(c))
}

fn is_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(plain).filter(|between| !between.is_empty());
    let known = |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-');
    part.starts_with(plain) && part.ends_with(plain) && separators.into_iter().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_name_is_added() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, whole, base) in [
            ("busybox", "docker.io/library/busybox:latest", "https://registry-1.docker.io/v2/library/busybox"),
            ("me/app:1.0", "docker.io/me/app:1.0", "https://registry-1.docker.io/v2/me/app"),
            ("localhost:5000/a:x", "localhost:5000/a:x", "http://localhost:5000/v2/a"),
            ("localhost/a", "localhost/a:latest", "http://localhost/v2/a"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "http://127.0.0.1:5000/v2/a/b"),
            ("r.example/a__b/c-d:1", "r.example/a__b/c-d:1", "https://r.example/v2/a__b/c-d"),
        ] {
            let reference = Reference::parse(text).expect("a name");
            assert_eq!((reference.to_string().as_str(), reference.base().as_str()), (whole, base));
        }
        let pinned = Reference::parse(&format!("r.example/a@{digest}")).expect("a name");
        assert_eq!((pinned.version(), pinned.tag.as_deref()), (digest.as_str(), None));
        assert_eq!(pinned.file_stem(&digest), format!("r.example_a-{}", "a".repeat(16)));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "Busybox",
            "a//b",
            "a:",
            "a:-x",
            "a@sha256:12",
            "r.example/",
            "a..b",
            "/etc/passwd",
            "r example/a",
            "-a",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
