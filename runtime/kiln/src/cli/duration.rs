//! Durations as people write them: `30m`, `24h`, `7d`.

use std::time::Duration;

/// Reads a whole number with a unit of s, m, h or d; a bare `0` needs none.
///
/// # Errors
/// What would be right.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write a number with s, m, h or d, as 24h");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    // A century: past it, calendars end before tokens do.
    const LONGEST: u64 = 100 * 365 * 86400;
    match number.checked_mul(seconds) {
        Some(total) if total <= LONGEST => Ok(Duration::from_secs(total)),
        _ => Err(format!("`{text}` is longer than 100 years; write 0 for no end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, seconds) in [("0", 0), ("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1", "1x", "-1h", "1h30m", "99999999d", "18446744073709551615d", "1ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
