//! Just enough DER to read a certificate's notBefore; anything odd gives `None`, since it only bounds the clock.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// notBefore of the first certificate in a PEM text, seconds since 1970.
pub(super) fn not_before(pem: &str) -> Option<i64> {
    let body = pem.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    let der = base64(body)?;
    let (_, certificate, _) = element(&der)?;
    let (_, to_be_signed, _) = element(certificate)?;
    // [0] version (optional), serial, signature algorithm, issuer, then validity.
    let mut rest = to_be_signed;
    let (tag, _, after) = element(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (tag, value, _) = element(validity)?;
    time(tag, std::str::from_utf8(value).ok()?)
}

/// Splits the first element off: tag, content, what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        length = rest.get(..count)?.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        rest = rest.get(count..)?;
    }
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

fn time(tag: u8, text: &str) -> Option<i64> {
    let full = match tag {
        // UTCTime: years 50 to 99 are of the last century (RFC 5280).
        0x17 => format!("{}{text}", if text.get(..2)? >= "50" { "19" } else { "20" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%SZ", full).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for character in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_time_forms_are_read() {
        assert_eq!(time(0x17, "700101000000Z"), Some(0));
        assert_eq!(time(0x17, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(0x18, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(0x17, "x"), None);
    }

    #[test]
    fn the_date_of_a_real_certificate_is_read() {
        // A self-signed P-256 certificate as openssl makes it; its date is in the file beside it.
        let pem = include_str!("testdata/ca.crt");
        assert_eq!(not_before(pem), Some(include_str!("testdata/ca.not-before").trim().parse().expect("a number")));
    }

    #[test]
    fn a_cut_certificate_is_no_certificate() {
        assert_eq!(not_before("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"), None);
        assert_eq!(not_before(""), None);
    }
}
