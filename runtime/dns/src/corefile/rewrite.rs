//! Names that are taken for others.

use regex_lite::Regex;

use super::{Wrong, name, wrong};
use crate::wire::Name;

/// Rules, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rewrites(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    matches: Matches,
    to: String,
    /// Whether later rules are looked at as well.
    goes_on: bool,
}

#[derive(Debug, Clone)]
enum Matches {
    Exact(Name),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Regex),
}

impl Rewrites {
    /// `[continue|stop] name [exact|prefix|suffix|substring|regex] FROM TO [answer auto]`
    pub(super) fn take(&mut self, words: &[String]) -> Result<(), Wrong> {
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut goes_on = false;
        if let Some(mode @ ("continue" | "stop")) = words.first().copied() {
            goes_on = mode == "continue";
            words.remove(0);
        }
        if words.first() != Some(&"name") {
            return wrong("only names are rewritten: `rewrite name FROM TO`");
        }
        words.remove(0);
        let how = match words.first().copied() {
            Some(how @ ("exact" | "prefix" | "suffix" | "substring" | "regex")) => {
                words.remove(0);
                how
            }
            _ => "exact",
        };
        let (from, to) = match *words.as_slice() {
            // Answers carry the name that was asked for in any case.
            [from, to] | [from, to, "answer", "auto"] => (from, to),
            [_, _, "answer", ..] => {
                return wrong("of `answer` there is `answer auto` only, which is what is done in any case");
            }
            _ => return wrong("a rule is `rewrite name FROM TO`"),
        };
        let dotted = |text: &str| format!("{}.", text.trim_end_matches('.').to_ascii_lowercase());
        let (matches, to) = match how {
            "prefix" => (Matches::Prefix(from.to_ascii_lowercase()), to.to_owned()),
            "suffix" => (Matches::Suffix(dotted(from)), dotted(to)),
            "substring" => (Matches::Substring(from.to_ascii_lowercase()), to.to_owned()),
            "regex" => {
                let regex = Regex::new(from).map_err(|error| (None, format!("`{from}`: {error}")))?;
                (Matches::Regex(regex), groups(to))
            }
            _ => (Matches::Exact(name(from)?), name(to)?.to_string()),
        };
        self.0.push(Rule { matches, to, goes_on });
        Ok(())
    }

    /// The name that a name is taken for, if it is another.
    pub(crate) fn apply(&self, asked: &Name) -> Option<Name> {
        let mut current = None;
        if self.0.is_empty() {
            return current;
        }
        let mut text = asked.to_string();
        for rule in &self.0 {
            let Some(next) = rule.apply(current.as_ref().unwrap_or(asked), &text) else { continue };
            // A name that can't be is no name to go on with.
            let Some(name) = Name::parse(&next) else { continue };
            text = name.to_string();
            current = Some(name);
            if !rule.goes_on {
                break;
            }
        }
        current
    }
}

impl Rule {
    fn apply(&self, name: &Name, text: &str) -> Option<String> {
        match &self.matches {
            Matches::Exact(from) => (from == name).then(|| self.to.clone()),
            Matches::Prefix(from) => Some(format!("{}{}", self.to, text.strip_prefix(from.as_str())?)),
            Matches::Suffix(from) => Some(format!("{}{}", text.strip_suffix(from.as_str())?, self.to)),
            Matches::Substring(from) => text.contains(from.as_str()).then(|| text.replace(from.as_str(), &self.to)),
            Matches::Regex(regex) => {
                let found = regex.captures(text)?;
                let mut out = String::new();
                found.expand(&self.to, &mut out);
                Some(out)
            }
        }
    }
}

/// CoreDNS writes `{1}` for a group.
fn groups(to: &str) -> String {
    let mut out = to.replace('$', "$$");
    for group in 0..10 {
        out = out.replace(&format!("{{{group}}}"), &format!("${{{group}}}"));
    }
    out
}
