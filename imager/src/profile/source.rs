//! Reading our TOML files so that a mistake is reported where it stands.

use std::{fs, io, path::Path, path::PathBuf};

use serde::de::DeserializeOwned;

/// Why a board, an overlay or a profile could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file of `boards/` or `overlays/` could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not parse, or says something that cannot be; the message names the place and the nearest right key.
    #[error("{file}:{line}:{column}: {message}")]
    Invalid {
        /// The file as the user would open it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// An archive of container images is of no use on the board.
    #[error("{}: {message}", path.display())]
    ContainerImage {
        /// The archive.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A manifest is of no use to the server.
    #[error("{}: {message}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// There is no such board.
    #[error("there is no board `{name}`{}; boards: {}", suggestion(.nearest.as_deref()), .known.join(", "))]
    UnknownBoard {
        /// What was asked for.
        name: String,
        /// The known name closest to it.
        nearest: Option<String>,
        /// Every known name.
        known: Vec<String>,
    },
    /// There is no such overlay (asked for on the command line; in a board file it is [`ProfileError::Invalid`]).
    #[error("there is no overlay `{name}`{}; overlays: {}", suggestion(.nearest.as_deref()), .known.join(", "))]
    UnknownOverlay {
        /// What was asked for.
        name: String,
        /// The known name closest to it.
        nearest: Option<String>,
        /// Every known name.
        known: Vec<String>,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}

/// A file's text with the name errors give it.
pub(super) struct SourceFile {
    pub(super) name: String,
    pub(super) text: String,
}

impl SourceFile {
    pub(super) fn read(path: &Path) -> Result<SourceFile, ProfileError> {
        let text = fs::read_to_string(path).map_err(|source| ProfileError::Read { path: path.to_owned(), source })?;
        Ok(SourceFile { name: path.display().to_string(), text })
    }

    /// Parses the file as `T`.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ProfileError> {
        toml::from_str(&self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            self.invalid(offset, with_suggestion(error.message()))
        })
    }

    /// An error at a byte offset of the text.
    pub(super) fn invalid(&self, offset: usize, message: String) -> ProfileError {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ProfileError::Invalid {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}

/// Turns serde's list of what it expected into the one key that was probably meant.
fn with_suggestion(message: &str) -> String {
    for kind in ["field", "variant"] {
        let Some(rest) = message.strip_prefix(&format!("unknown {kind} `")) else { continue };
        let Some((got, expected)) = rest.split_once('`') else { continue };
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let what = if kind == "field" { "key" } else { "value" };
        return match nearest(got, known.iter().copied()) {
            Some(near) => format!("unknown {what} `{got}`; did you mean `{near}`?"),
            None => format!("unknown {what} `{got}`; known: {}", known.join(", ")),
        };
    }
    message.trim_end().replace('\n', ", ")
}

/// The candidate that is fewest edits away from `word`, if it is close enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(2);
    candidates.map(|c| (edits(word, c), c)).filter(|(d, _)| *d <= limit).min().map(|(_, c)| c)
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
