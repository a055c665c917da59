//! Names of time zones.

/// True for a zone of the time zone database.
pub(super) fn is_known(name: &str) -> bool {
    kiln_apimachinery::cron::zone(name).is_some()
}

/// What is wrong with the name of a zone.
pub(super) fn check(name: &str) -> Vec<String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let part =
        |p: &str| (1..=14).contains(&p.len()) && !matches!(p, "." | "..") && !p.starts_with('-') && p.bytes().all(word);
    if name.is_empty() {
        return vec!["timeZone must be nil or non-empty string".into()];
    }
    let unknown = format!("unknown time zone {name}");
    if !name.split('/').all(part) {
        return vec![unknown];
    }
    if name.eq_ignore_ascii_case("local") {
        return vec!["timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into()];
    }
    if is_known(name) { Vec::new() } else { vec![unknown] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_those_of_the_database() {
        for good in ["Etc/UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"] {
            assert!(check(good).is_empty(), "{good}");
        }
        for bad in ["Mars/Base", "../etc", "europe/berlin", "Local", ""] {
            assert!(!check(bad).is_empty(), "{bad}");
        }
    }
}
