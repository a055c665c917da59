//! What a Secret of the controller's keeps: the certificate, and what was tried last.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_acme::marks;
use kiln_client::exponential;
use kiln_pki::{Certificate, key_matches};
use serde::{Deserialize, Serialize};

use super::covers;

pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// How long to leave the server alone after the first failure, and at the most. Let's Encrypt takes five failures of a name in an hour.
const FIRST: Duration = Duration::from_secs(300);
const MOST: Duration = Duration::from_secs(3_600);

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    directory: String,
    /// One whose key is there too.
    certificate: Option<Certificate>,
    attempt: Option<Attempt>,
}

/// What is being tried, or did not end well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    directory: String,
    hosts: Vec<String>,
    /// How often.
    tries: u32,
    /// When it may be tried again.
    pub(super) next: Time,
}

/// Whether a Secret is the controller's.
pub(super) fn is_ours(secret: &Secret) -> bool {
    secret.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(marks::DIRECTORY))
}

impl Kept {
    pub(super) fn read(secret: Option<&Secret>) -> Self {
        let Some(secret) = secret else { return Self::default() };
        let annotation = |name: &str| secret.metadata.annotations.as_ref()?.get(name);
        let data = |name: &str| std::str::from_utf8(&secret.data.as_ref()?.get(name)?.0).ok();
        let certificate = data(CERTIFICATE).and_then(|pem| Certificate::from_pem(pem).ok());
        let has_key =
            |certificate: &Certificate| data(KEY).is_some_and(|key| key_matches(certificate, key).is_ok_and(|is| is));
        Self {
            directory: annotation(marks::DIRECTORY).cloned().unwrap_or_default(),
            certificate: certificate.filter(has_key),
            attempt: annotation(marks::ATTEMPT).and_then(|text| serde_json::from_str(text).ok()),
        }
    }

    /// The certificate, if it is of this server and for these hosts.
    pub(super) fn certificate(&self, directory: &str, hosts: &[String]) -> Option<&Certificate> {
        self.certificate.as_ref().filter(|certificate| self.directory == directory && covers(certificate, hosts))
    }

    /// Before when the server is not to be asked for this again.
    pub(super) fn not_before(&self, directory: &str, hosts: &[String]) -> Option<Timestamp> {
        self.last(directory, hosts).map(|attempt| attempt.next.0)
    }

    /// What is about to be tried.
    pub(super) fn attempt_at(&self, directory: &str, hosts: &[String], now: Timestamp) -> Attempt {
        let tries = self.last(directory, hosts).map_or(0, |attempt| attempt.tries);
        let next = now.checked_add(exponential(FIRST, MOST, tries)).unwrap_or(Timestamp::MAX);
        Attempt {
            directory: directory.to_owned(),
            hosts: hosts.to_vec(),
            tries: tries.saturating_add(1),
            next: Time(next),
        }
    }

    fn last(&self, directory: &str, hosts: &[String]) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.directory == directory && attempt.hosts == hosts)
    }
}

impl Attempt {
    /// As it is noted.
    pub(super) fn to_text(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_server_is_left_alone_ever_longer_unless_something_else_is_wanted() {
        let (directory, hosts, now) = ("https://a/", ["a.com".to_owned()], Timestamp::UNIX_EPOCH);
        let mut kept = Kept::default();
        for seconds in [300, 600, 1_200, 2_400, 3_600, 3_600] {
            let attempt = kept.attempt_at(directory, &hosts, now);
            assert_eq!(attempt.next.0.as_second(), seconds);
            let noted =
                json!({"metadata": {"annotations": {marks::DIRECTORY: "x", marks::ATTEMPT: attempt.to_text()}}});
            kept = Kept::read(Some(&serde_json::from_value(noted).unwrap()));
            assert_eq!(kept.attempt, Some(attempt));
            assert_eq!(kept.not_before(directory, &hosts).map(Timestamp::as_second), Some(seconds));
        }
        assert_eq!(kept.not_before(directory, &["b.com".to_owned()]), None);
        assert_eq!(kept.not_before("https://b/", &hosts), None);
        assert_eq!(kept.attempt_at("https://b/", &hosts, now).next.0.as_second(), 300);
    }
}
