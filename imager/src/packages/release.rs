//! What a verified `InRelease` says, and whether it may be used now.

use std::collections::HashMap;

use super::{Error, Result, keyring::CLOCK_SKEW, paragraph::Paragraph};

/// The fields of a `Release` file that matter here.
#[derive(Debug)]
pub(super) struct Release {
    suite: String,
    codename: String,
    /// `Date`, seconds since 1970.
    pub(super) date: i64,
    /// The same as the index writes it.
    pub(super) date_text: String,
    valid_until: Option<(i64, String)>,
    /// Whether index files are also offered under their hash, where a mirror that is just being updated still has them.
    pub(super) by_hash: bool,
    /// Whether packages are only taken when asked for by suite, as with backports.
    pub(super) not_automatic: bool,
    files: HashMap<String, IndexFile>,
}

/// Size and hash of a file that the index lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexFile {
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256, lower-case hex.
    pub(super) sha256: String,
}

impl Release {
    /// Reads the text that [`super::Keyring`] has verified; `url` is for messages.
    pub(super) fn parse(text: &str, url: &str) -> Result<Self> {
        let malformed = |reason: String| Error::Malformed { what: url.into(), reason };
        let fields = Paragraph::parse(text).map_err(malformed)?;
        let yes = |name| fields.get(name) == Some("yes");
        let time = |name: &str, value: &str| {
            parse_date(value).ok_or_else(|| malformed(format!("{name}: `{value}` is not a date")))
        };
        let date_text = fields.get("Date").ok_or_else(|| malformed("it has no Date".into()))?;
        let valid_until = match fields.get("Valid-Until") {
            Some(value) => Some((time("Valid-Until", value)?, value.to_owned())),
            None => None,
        };
        let list = fields.get("SHA256").ok_or_else(|| malformed("it lists no SHA256".into()))?;
        let mut files = HashMap::new();
        for line in list.lines().filter(|line| !line.is_empty()) {
            let (name, file) = parse_file(line).ok_or_else(|| malformed(format!("SHA256: cannot read `{line}`")))?;
            if name.ends_with("/Packages.xz") {
                files.insert(name, file);
            }
        }
        Ok(Self {
            suite: fields.get("Suite").unwrap_or_default().into(),
            codename: fields.get("Codename").unwrap_or_default().into(),
            date: time("Date", date_text)?,
            date_text: date_text.into(),
            valid_until,
            by_hash: yes("Acquire-By-Hash"),
            not_automatic: yes("NotAutomatic"),
            files,
        })
    }

    /// Whether this is the suite that was asked for, and neither expired nor from the future at `now` (Unix seconds).
    pub(super) fn check(&self, suite: &str, now: i64, url: &str) -> Result<()> {
        let url = url.to_owned();
        if suite != self.suite && suite != self.codename {
            let got = format!("{} ({})", self.suite, self.codename);
            return Err(Error::WrongSuite { url, wanted: suite.into(), got });
        }
        if self.date > now + CLOCK_SKEW {
            return Err(Error::FromTheFuture { url, date: self.date_text.clone() });
        }
        match &self.valid_until {
            Some((end, text)) if *end < now => Err(Error::Expired { url, valid_until: text.clone() }),
            _ => Ok(()),
        }
    }

    /// The `Packages.xz` of a component and architecture.
    pub(super) fn packages(&self, component: &str, arch: &str) -> Option<(String, &IndexFile)> {
        let name = format!("{component}/binary-{arch}/Packages.xz");
        let file = self.files.get(&name)?;
        Some((name, file))
    }
}

/// ` <sha256> <size> <path>`.
fn parse_file(line: &str) -> Option<(String, IndexFile)> {
    let mut words = line.split_whitespace();
    let (sha256, size, name) = (words.next()?, words.next()?, words.next()?);
    let hex = sha256.len() == 64 && sha256.bytes().all(|c| c.is_ascii_hexdigit());
    hex.then_some(())?;
    Some((name.into(), IndexFile { size: size.parse().ok()?, sha256: sha256.to_lowercase() }))
}

/// `Sat, 15 Nov 2025 09:34:12 UTC` to seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let text = match text.strip_suffix("UTC") {
        Some(head) => format!("{head}+0000"),
        None => text.into(),
    };
    jiff::fmt::rfc2822::parse(&text).ok().map(|time| time.timestamp().as_second())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    const DAY: i64 = 86400;

    fn release(extra: &str) -> Release {
        let hash = "ab".repeat(32);
        let text = format!(
            "Suite: stable\nCodename: trixie\nDate: Sat, 15 Nov 2025 09:34:12 UTC\n{extra}SHA256:\n \
             {hash} 17 main/binary-arm64/Packages.xz\n {hash} 18 main/binary-arm64/Packages\n"
        );
        Release::parse(&text, "u").unwrap()
    }

    #[test]
    fn the_date_is_read_and_files_are_found() {
        let release = release("Acquire-By-Hash: yes\nNotAutomatic: yes\n");
        assert_eq!(release.date, 1_763_199_252);
        assert!(release.by_hash && release.not_automatic);
        assert_eq!(release.packages("main", "arm64").unwrap().1.size, 17);
        assert!(release.packages("main", "armhf").is_none());
    }

    #[test]
    fn suite_and_codename_both_name_it_and_another_is_refused() {
        let release = release("");
        let now = release.date;
        release.check("trixie", now, "u").unwrap();
        release.check("stable", now, "u").unwrap();
        assert!(matches!(release.check("bookworm", now, "u"), Err(Error::WrongSuite { .. })));
    }

    #[test]
    fn an_index_is_good_from_its_date_with_some_skew_until_it_expires() {
        let release = release("Valid-Until: Sat, 22 Nov 2025 09:34:12 UTC\n");
        release.check("trixie", release.date - CLOCK_SKEW, "u").unwrap();
        release.check("trixie", release.date + 7 * DAY, "u").unwrap();
        let error = release.check("trixie", release.date + 7 * DAY + 1, "u").unwrap_err();
        assert!(error.to_string().contains("expired on Sat, 22 Nov 2025"), "{error}");
        assert!(matches!(release.check("trixie", release.date - DAY, "u"), Err(Error::FromTheFuture { .. })));
    }

    #[test]
    fn a_damaged_index_says_what_is_wrong() {
        let error = Release::parse("Date: yesterday\nSHA256:\n", "u").unwrap_err();
        assert_eq!(error.to_string(), "u: Date: `yesterday` is not a date");
        let error = Release::parse("Date: Sat, 15 Nov 2025 09:34:12 UTC\nSHA256:\n zz 1 x\n", "u").unwrap_err();
        assert_eq!(error.to_string(), "u: SHA256: cannot read `zz 1 x`");
    }
}
