//! Debian version numbers, ordered as in Debian policy 5.6.12.

use std::cmp::Ordering;

/// Compares two Debian versions, epoch and revision included.
///
/// A missing epoch is 0 and a missing revision sorts as `0`. `~` sorts before everything, the end of the string too;
/// letters sort before other characters; runs of digits compare as numbers of any length.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_upstream, a_revision) = split(a);
    let (b_epoch, b_upstream, b_revision) = split(b);
    compare_digits(a_epoch.as_bytes(), b_epoch.as_bytes())
        .then_with(|| compare_part(a_upstream.as_bytes(), b_upstream.as_bytes()))
        .then_with(|| compare_part(a_revision.as_bytes(), b_revision.as_bytes()))
}

/// Epoch, upstream version and revision; what is missing is empty, which compares like zero.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares an upstream version or a revision: alternately a run of non-digits and a run of digits.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = cut(a, |c| !c.is_ascii_digit());
        let (b_text, b_rest) = cut(b, |c| !c.is_ascii_digit());
        let order = compare_text(a_text, b_text);
        if order.is_ne() {
            return order;
        }
        let (a_digits, a_rest) = cut(a_rest, u8::is_ascii_digit);
        let (b_digits, b_rest) = cut(b_rest, u8::is_ascii_digit);
        let order = compare_digits(a_digits, b_digits);
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

fn cut(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|c| !belongs(c)).unwrap_or(text.len()))
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    (0..a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Where a character sorts: `~`, the end, letters, the rest.
fn weight(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

/// Compares numbers by their digits, so that none is too long.
fn compare_digits(a: &[u8], b: &[u8]) -> Ordering {
    let a = cut(a, |c| *c == b'0').1;
    let b = cut(b, |c| *c == b'0').1;
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_policy_says() {
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0+b1",
            "1.0~rc1-1",
            "1.0-1~bpo12+1",
            "1.0-1",
            "1.0-1+b2",
            "1.0-1+deb13u1",
            "1.0-1+deb13u10",
            "1.0-2",
            "1.0.1-1",
            "1.2-3-1",
            "1.9",
            "1.10",
            "20241209",
            "1:0.1",
            "2:0",
            "10:0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn zero_epoch_zero_revision_and_leading_zeros_make_no_difference() {
        for (a, b) in [("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.01", "1.1"), ("1.", "1.0"), ("00:1", "1")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} against {b}");
        }
    }

    #[test]
    fn digits_beyond_any_integer_compare() {
        let big = "9".repeat(60);
        assert_eq!(compare(&format!("1.{big}"), &format!("1.1{big}")), Ordering::Less);
    }
}
