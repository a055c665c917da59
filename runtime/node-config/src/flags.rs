//! A file that stands for a command line: the keys are names of flags, so what may stand in it is the caller's to say.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::decode::{Fault, type_name};
use crate::error::{nearest, position};
use crate::schema::{Kind, ROOT};
use crate::{ConfigError, Problem};

/// A flag that the file may hold.
#[derive(Debug, Clone, Copy)]
pub struct Flag<'a> {
    /// Its name, without dashes.
    pub name: &'a str,
    /// What it takes.
    pub takes: Takes,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is there or not, `true` or `false` in the file.
    Nothing,
    /// One value.
    One,
    /// It may be repeated: an array, or one value.
    Many,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The flag's name.
    pub name: String,
    /// Its values; of a flag that takes nothing none.
    pub values: Vec<String>,
    /// Where it stands.
    pub line: usize,
    /// Where it stands.
    pub column: usize,
}

/// Whether a text is a `node.toml`, which has a version or at least one of its tables, rather than a file of flags.
pub fn is_node_config(text: &str) -> bool {
    let Ok(root) = DeTable::parse(text) else { return false };
    let is_its_own = |name: &str, value: &DeValue<'_>| {
        let tables = ROOT.iter().filter(|field| matches!(field.kind, Kind::Table(_)));
        name == "version" || (value.is_table() && tables.into_iter().any(|field| field.key == name))
    };
    root.get_ref().iter().any(|(key, value)| is_its_own(key.get_ref(), value.get_ref()))
}

/// Reads a file of flags. Flags that are off are left out.
///
/// # Errors
/// The first fault in the file, with its place.
pub fn parse(text: &str, source_name: &str, known: &[Flag<'_>]) -> Result<Vec<Entry>, ConfigError> {
    entries(text, known).map_err(|(span, problem)| {
        let (line, column) = position(text, span.start);
        ConfigError { file: source_name.to_owned(), line, column, problem: Box::new(problem) }
    })
}

fn entries(text: &str, known: &[Flag<'_>]) -> Result<Vec<Entry>, Fault> {
    let root = DeTable::parse(text)
        .map_err(|e| (e.span().unwrap_or(0..0), Problem::Syntax(e.message().replace('\n', "; "))))?;
    let mut out = Vec::new();
    for (key, value) in root.get_ref() {
        let name = key.get_ref().as_ref();
        let Some(flag) = known.iter().find(|flag| flag.name == name) else {
            let names: Vec<&str> = known.iter().map(|flag| flag.name).collect();
            let nearest = nearest(name, &names).map(str::to_owned);
            return Err((key.span(), Problem::UnknownFlag { key: name.to_owned(), nearest }));
        };
        let (line, column) = position(text, key.span().start);
        let entry = |values| Entry { name: name.to_owned(), values, line, column };
        match (flag.takes, value.get_ref()) {
            (Takes::Nothing, DeValue::Boolean(on)) => out.extend(on.then(|| entry(Vec::new()))),
            (Takes::Nothing, _) => return Err(wrong_type(name, "true or false", value)),
            (Takes::Many, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| scalar(name, "an array of strings", item));
                let texts = texts.collect::<Result<Vec<_>, _>>()?;
                out.extend((!texts.is_empty()).then(|| entry(texts)));
            }
            (Takes::One | Takes::Many, _) => out.push(entry(vec![scalar(name, "a string", value)?])),
        }
    }
    Ok(out)
}

fn scalar(key: &str, wanted: &'static str, value: &Spanned<DeValue<'_>>) -> Result<String, Fault> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        _ => Err(wrong_type(key, wanted, value)),
    }
}

fn wrong_type(key: &str, wanted: &'static str, value: &Spanned<DeValue<'_>>) -> Fault {
    let found = type_name(value.get_ref());
    (value.span(), Problem::WrongType { key: key.to_owned(), wanted, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag<'_>] = &[
        Flag { name: "https-listen-port", takes: Takes::One },
        Flag { name: "tls-san", takes: Takes::Many },
        Flag { name: "disable-agent", takes: Takes::Nothing },
        Flag { name: "server", takes: Takes::One },
    ];

    #[test]
    fn a_file_says_what_flags_say() {
        let text = "https-listen-port = 6444\ntls-san = [\"a\", \"b\"]\n\ndisable-agent = true\nserver = \"x\"\n";
        assert!(!is_node_config(text));
        let read: Vec<_> = parse(text, "f", KNOWN).unwrap().into_iter().map(|e| (e.name, e.values, e.line)).collect();
        let expect = |name: &str, values: &[&str], line| {
            (name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>(), line)
        };
        for entry in [
            expect("https-listen-port", &["6444"], 1),
            expect("tls-san", &["a", "b"], 2),
            expect("disable-agent", &[], 4),
            expect("server", &["x"], 5),
        ] {
            assert!(read.contains(&entry), "{entry:?}");
        }
        assert_eq!(parse("disable-agent = false\n", "f", KNOWN), Ok(Vec::new()));
        assert_eq!(parse("tls-san = \"a\"\n", "f", KNOWN).unwrap()[0].values, ["a"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
        for (text, message) in [
            (
                "tls-san = []\nhttps-listenport = 1\n",
                "f:2:1: unknown key `https-listenport`; did you mean `https-listen-port`?",
            ),
            (
                "  frobnicate = 1\n",
                "f:1:3: unknown key `frobnicate`; the keys are the names of the flags, without dashes before them",
            ),
            ("disable-agent = \"yes\"\n", "f:1:17: `disable-agent` takes true or false, not a string"),
            ("server = [\"a\"]\n", "f:1:10: `server` takes a string, not an array"),
            ("tls-san = [[]]\n", "f:1:12: `tls-san` takes an array of strings, not an array"),
        ] {
            assert_eq!(parse(text, "f", KNOWN).unwrap_err().to_string(), message);
        }
        assert!(parse("server = \n", "f", KNOWN).unwrap_err().to_string().starts_with("f:1:"));
    }

    #[test]
    fn a_node_toml_is_known_by_its_version_or_its_tables() {
        for text in ["version = 1\n", "[node]\nrole = \"agent\"\n", "[server]\nport = 1\n"] {
            assert!(is_node_config(text), "{text}");
        }
        assert!(!is_node_config("server = \"https://a\"\n"));
    }
}
