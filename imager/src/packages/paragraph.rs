//! Paragraphs of `Field: value` lines, as in control files, `InRelease` and deb822 sources.

/// One paragraph: fields in their order, continuation lines joined by `\n` without their leading space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paragraph {
    fields: Vec<(String, String)>,
}

impl Paragraph {
    /// Reads the first paragraph of `text`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_all(text)?.into_iter().next().ok_or_else(|| "it is empty".into())
    }

    /// Reads all paragraphs of `text`; `#` starts a comment line.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        let mut current = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() {
                if !current.fields.is_empty() {
                    all.push(std::mem::take(&mut current));
                }
            } else if line.starts_with('#') {
            } else if line.starts_with([' ', '\t']) {
                let Some((_, value)) = current.fields.last_mut() else {
                    return Err(format!("line {}: continuation without a field", number + 1));
                };
                value.push('\n');
                value.push_str(line.trim_start());
            } else {
                let Some((name, value)) = line.split_once(':') else {
                    return Err(format!("line {}: no `Field:`", number + 1));
                };
                current.fields.push((name.into(), value.trim().into()));
            }
        }
        if !current.fields.is_empty() {
            all.push(current);
        }
        Ok(all)
    }

    /// The value of a field, its name in any case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_split_folded_and_found_in_any_case() {
        let all = Paragraph::parse_all("# head\nA: 1\nList:\n x\n  y\n\n\nB: 2\n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("LIST"), Some("\nx\ny"));
        assert_eq!(all[1].get("b"), Some("2"));
        assert_eq!(all[1].get("a"), None);
    }

    #[test]
    fn a_line_without_a_field_is_named() {
        assert_eq!(Paragraph::parse("A: 1\nnonsense\n").unwrap_err(), "line 2: no `Field:`");
    }
}
