//! A line of the CRI's log format: `2016-10-06T00:17:09.669794202Z stdout F the text`.

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// RFC 3339, as it stands.
    pub(super) time: &'a str,
    pub(super) stderr: bool,
    /// With its line feed, unless the line goes on in the next one.
    pub(super) text: &'a [u8],
}

/// Reads a line of a file, with its line feed if it has one. What is not in the format is `None`.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tags, text) = word(rest)?;
    let stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let time = std::str::from_utf8(time).ok().filter(|t| t.is_ascii() && t.len() >= 20 && t.as_bytes()[10] == b'T')?;
    let partial = tags == b"P" || tags.starts_with(b"P:");
    let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    Some(Line { time, stderr, text })
}

fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|b| *b == b' ')?;
    Some((&line[..at], &line[at + 1..]))
}

/// The time with nine digits of a second, as logs with timestamps show it.
pub(super) fn padded(time: &str) -> String {
    let zone = time[19..].find(|c: char| c != '.' && !c.is_ascii_digit()).map_or(time.len(), |at| 19 + at);
    let digits = time.get(20..zone).unwrap_or_default();
    format!("{}.{digits:0<9}{}", &time[..19], &time[zone..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_and_parts_of_a_line_have_no_end() {
        let time = "2016-10-06T00:17:09.669794202Z";
        let rows: [(&str, Option<(bool, &str)>); 8] = [
            ("stdout F hello world\n", Some((false, "hello world\n"))),
            ("stderr F \n", Some((true, "\n"))),
            ("stdout P first half\n", Some((false, "first half"))),
            ("stdout P:tag half\n", Some((false, "half"))),
            ("stdout F cut", Some((false, "cut"))),
            ("stdin F x\n", None),
            ("stdout\n", None),
            ("", None),
        ];
        for (rest, expected) in rows {
            let line = format!("{time} {rest}");
            let got = parse(line.as_bytes());
            let expected = expected.map(|(stderr, text)| Line { time, stderr, text: text.as_bytes() });
            assert_eq!(got, expected, "{rest:?}");
        }
        assert_eq!(parse(b"no time here F x\n"), None);
    }

    #[test]
    fn times_have_nine_digits() {
        for (time, expected) in [
            ("2016-10-06T00:17:09.669794202Z", "2016-10-06T00:17:09.669794202Z"),
            ("2016-10-06T00:17:09.6Z", "2016-10-06T00:17:09.600000000Z"),
            ("2016-10-06T00:17:09Z", "2016-10-06T00:17:09.000000000Z"),
            ("2016-10-06T00:17:09.5+02:00", "2016-10-06T00:17:09.500000000+02:00"),
        ] {
            assert_eq!(padded(time), expected);
        }
    }
}
