//! Which paths of a package to leave out.

/// Globs of paths to leave out, and globs of paths to keep nevertheless.
///
/// `?` stands for one character and `*` for any number, neither crossing a `/`; `**` crosses. `/usr/share/doc/**` covers
/// the directory `/usr/share/doc` itself too. Paths are absolute and those after the merge of `/bin`, `/lib` and `/sbin`
/// into `/usr`.
#[derive(Clone, Debug, Default)]
pub struct PathFilter {
    exclude: Vec<String>,
    keep: Vec<String>,
}

/// A glob that could never match.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("path pattern `{pattern}` must start with `/`")]
pub struct FilterError {
    /// The pattern as given.
    pub pattern: String,
}

impl PathFilter {
    /// A filter that leaves out what `exclude` matches and `keep` does not.
    ///
    /// # Errors
    /// [`FilterError`] for a pattern that is not absolute.
    pub fn new<S: AsRef<str>>(exclude: &[S], keep: &[S]) -> Result<Self, FilterError> {
        let check = |patterns: &[S]| {
            patterns
                .iter()
                .map(|p| match p.as_ref() {
                    p if p.starts_with('/') => Ok(p.to_owned()),
                    p => Err(FilterError { pattern: p.into() }),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { exclude: check(exclude)?, keep: check(keep)? })
    }

    /// Whether `path` (absolute, no trailing slash) stays.
    #[must_use]
    pub fn keeps(&self, path: &str) -> bool {
        let any = |globs: &[String]| globs.iter().any(|glob| matches(glob, path));
        !any(&self.exclude) || any(&self.keep)
    }
}

fn matches(glob: &str, path: &str) -> bool {
    glob.strip_suffix("/**").is_some_and(|directory| glob_match(directory.as_bytes(), path.as_bytes()))
        || glob_match(glob.as_bytes(), path.as_bytes())
}

fn glob_match(glob: &[u8], path: &[u8]) -> bool {
    match glob {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|skip| glob_match(rest, &path[skip..])),
        [b'*', rest @ ..] => {
            let segment = path.iter().position(|&c| c == b'/').unwrap_or(path.len());
            (0..=segment).any(|skip| glob_match(rest, &path[skip..]))
        }
        [b'?', rest @ ..] => matches!(path, [c, tail @ ..] if *c != b'/' && glob_match(rest, tail)),
        [c, rest @ ..] => matches!(path, [p, tail @ ..] if p == c && glob_match(rest, tail)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn globs_match_within_a_segment_and_across() {
        let filter =
            PathFilter::new(&["/usr/share/doc/**", "/usr/lib/*/lib?.a", "/**/*.pyc"], &["/usr/share/doc/*/copyright"])
                .unwrap();
        for (path, kept) in [
            ("/usr/share/doc", false),
            ("/usr/share/doc/zlib1g/changelog.gz", false),
            ("/usr/share/doc/zlib1g/copyright", true),
            ("/usr/share/docs", true),
            ("/usr/lib/arm/libz.a", false),
            ("/usr/lib/arm/deep/libz.a", true),
            ("/usr/lib/x/y/z.pyc", false),
        ] {
            assert_eq!(filter.keeps(path), kept, "{path}");
        }
    }

    #[test]
    fn a_relative_pattern_is_refused() {
        assert_eq!(
            PathFilter::new(&["usr/share/**"], &[]).unwrap_err().to_string(),
            "path pattern `usr/share/**` must start with `/`"
        );
    }
}
