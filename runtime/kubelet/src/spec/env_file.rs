//! Files of variables (`fileKeyRef`, KEP-3721): a strict part of what a shell reads. Values stand in single quotes, as they are,
//! over several lines if need be.

/// The value of a variable in a file; `None` if it is not there.
pub(crate) fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |why: &str| Err(format!("invalid environment variable format at line {}: {why}", index + 1));
        let Some((name, value)) = line.split_once('=') else { return fault("missing '='") };
        if name.trim_end_matches([' ', '\t']).is_empty() {
            return fault("empty variable name");
        }
        if name.ends_with([' ', '\t']) {
            return fault("whitespace before '=' is not allowed");
        }
        // To a shell this is an empty value, and a command after it.
        if value.starts_with([' ', '\t']) {
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let Some(mut rest) = value.strip_prefix('\'') else { return fault("value must be enclosed in single quotes") };
        let mut found = String::new();
        loop {
            if let Some((last, after)) = rest.split_once('\'') {
                found.push_str(last);
                let after = after.trim_start_matches([' ', '\t']);
                if !after.is_empty() && !after.starts_with('#') {
                    return fault("unexpected content after closing quote");
                }
                break;
            }
            found.push_str(rest);
            found.push('\n');
            let Some((_, next)) = lines.next() else {
                let start = index + 1;
                return Err(format!(
                    "invalid environment variable format starting at line {start}: unclosed single quote"
                ));
            };
            rest = next;
        }
        if name == key {
            // Upstream takes an empty value for none.
            return Ok(Some(found).filter(|value| !value.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_would() {
        let file = "# comment\n\n  A='one' # after\n\tB='two # not a comment'\nC='many\n lines'\nD= 'x'\nE=''\n";
        let rows = [
            ("A", Some("one")),
            ("B", Some("two # not a comment")),
            ("C", Some("many\n lines")),
            ("D", None),
            ("E", None),
            ("F", None),
        ];
        for (key, expected) in rows {
            assert_eq!(find(file, key), Ok(expected.map(str::to_owned)), "{key}");
        }
    }

    #[test]
    fn what_is_not_strict_is_refused_with_its_line() {
        let rows = [
            ("A='1'\nB", "at line 2: missing '='"),
            ("='1'", "at line 1: empty variable name"),
            ("A ='1'", "at line 1: whitespace before '=' is not allowed"),
            ("A=1", "at line 1: value must be enclosed in single quotes"),
            ("A='1'x", "at line 1: unexpected content after closing quote"),
            ("\nA='1\n2", "starting at line 2: unclosed single quote"),
        ];
        for (file, why) in rows {
            assert_eq!(find(file, "Z"), Err(format!("invalid environment variable format {why}")), "{file}");
        }
    }
}
