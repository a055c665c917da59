//! What can be wrong with a `node.toml`, and where.

use std::fmt;

/// A `node.toml` that was refused: `file:line:column: what is wrong and what to do`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct ConfigError {
    /// The name that the caller gave the text, usually a path.
    pub file: String,
    /// Line of the key or value, from 1.
    pub line: usize,
    /// Column of the key or value in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Box<Problem>,
}

/// The kinds of fault. None of them carries a token's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Not TOML at all; the parser's own words.
    Syntax(String),
    /// A key that has no meaning at this place.
    UnknownKey {
        /// The key as written.
        key: String,
        /// The table it stands in, as `[node]`; empty at the top of the file.
        table: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
        /// Every key that is valid in this table.
        valid: Vec<&'static str>,
    },
    /// A key that is no flag, in a file of flags.
    UnknownFlag {
        /// The key as written.
        key: String,
        /// The flag that was probably meant.
        nearest: Option<String>,
    },
    /// A key that must be there and isn't.
    Missing {
        /// The dotted key.
        key: String,
        /// Why it is needed, and an example of it.
        why: String,
    },
    /// A value of another type than the key takes.
    WrongType {
        /// The dotted key.
        key: String,
        /// The type it takes, with an article.
        wanted: &'static str,
        /// The type that was found, with an article.
        found: &'static str,
    },
    /// A value of the right type that isn't allowed.
    WrongValue {
        /// The dotted key.
        key: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// Keys that are right by themselves and contradict each other.
    Conflict(String),
    /// A file of a later format than this program knows.
    NewerVersion {
        /// The version that the file asks for.
        found: i64,
        /// The newest version that is known here.
        known: u32,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Syntax(message) => write!(f, "{message}"),
            Problem::UnknownKey { key, nearest: Some(nearest), .. } => {
                write!(f, "unknown key `{key}`; did you mean `{nearest}`?")
            }
            Problem::UnknownKey { key, table, nearest: None, valid } => {
                let place = if table.is_empty() { "the top of the file" } else { table };
                let keys: Vec<String> = valid.iter().map(|k| format!("`{k}`")).collect();
                write!(f, "unknown key `{key}`; {place} takes {}", keys.join(", "))
            }
            Problem::UnknownFlag { key, nearest: Some(nearest) } => {
                write!(f, "unknown key `{key}`; did you mean `{nearest}`?")
            }
            Problem::UnknownFlag { key, nearest: None } => {
                write!(f, "unknown key `{key}`; the keys are the names of the flags, without dashes before them")
            }
            Problem::Missing { key, why } => write!(f, "`{key}` is missing: {why}"),
            Problem::WrongType { key, wanted, found } => {
                write!(f, "`{key}` takes {wanted}, not {found}")
            }
            Problem::WrongValue { key, why } => write!(f, "`{key}`: {why}"),
            Problem::Conflict(message) => write!(f, "{message}"),
            Problem::NewerVersion { found, known } => write!(
                f,
                "`version` is {found}, but this image knows node.toml up to version {known}; update the image, or write the file for version {known}"
            ),
        }
    }
}

/// Line and column, both from 1, of a byte offset. Columns count characters, as editors do.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

/// The candidate that `word` was probably meant to be: the fewest insertions, deletions, replacements and swaps of
/// neighbours, and at most half the word.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let normal = word.replace('_', "-").to_ascii_lowercase();
    candidates
        .iter()
        .map(|c| (distance(&normal, c), *c))
        .min()
        .filter(|(d, c)| *d <= (c.len().max(normal.len()) / 2).max(1))
        .map(|(_, c)| c)
}

/// Damerau-Levenshtein distance in its "optimal string alignment" form.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_with_the_fewest_typing_errors() {
        let keys = ["match", "method", "address", "gateway", "dns"];
        assert_eq!(nearest("adress", &keys), Some("address"));
        assert_eq!(nearest("mehtod", &keys), Some("method"));
        assert_eq!(nearest("gate_way", &keys), Some("gateway"));
        assert_eq!(nearest("completely-else", &keys), None);
    }

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        let text = "a = 1\nüb = 2\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find("b =").unwrap_or(0)), (2, 2));
        assert_eq!(position(text, 999), (3, 1));
    }
}
