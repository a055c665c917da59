//! Times as the API writes them: RFC 3339 in UTC, with whole seconds (`Time`) or microseconds (`MicroTime`); and ages as
//! tables show them.

use jiff::Timestamp;

/// `2026-01-02T03:04:05Z`.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-02T03:04:05.000006Z`.
pub fn rfc3339_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads either form, with any offset; `None` if it is no time.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// An age in at most two units: `45s`, `5m12s`, `3h4m`, `2d3h`, `400d`, `3y20d`.
pub fn human_duration(seconds: i64) -> String {
    let pair = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < -1 => "<invalid>".into(),
        () if seconds < 0 => "0s".into(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(hours / 24, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, 'y', (hours / 24) % 365, 'd'),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// The age of something that began at `since` (RFC 3339): `<unknown>` if that is absent or no time.
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    since.and_then(parse).map_or_else(|| "<unknown>".into(), |t| human_duration(now.as_second() - t.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_in_at_most_two_units() {
        let cases = [(0, "0s"), (119, "119s"), (120, "2m"), (312, "5m12s"), (11_040, "3h4m"), (183_600, "2d3h")];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn times_are_written_with_whole_seconds_or_microseconds() {
        let t = parse("2026-01-02T03:04:05.000006Z").unwrap();
        assert_eq!(rfc3339(t), "2026-01-02T03:04:05Z");
        assert_eq!(rfc3339_micro(t), "2026-01-02T03:04:05.000006Z");
        assert_eq!(parse("2026-01-02T05:04:05+02:00").map(rfc3339).as_deref(), Some("2026-01-02T03:04:05Z"));
    }
}
