//! Field selectors: `metadata.name=x,spec.nodeName!=y`.

use super::SelectorError;

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Path with dots, such as `involvedObject.name`.
    pub field: String,
    /// The text to compare with.
    pub value: String,
    /// True for `=` and `==`, false for `!=`.
    pub equal: bool,
}

/// A parsed field selector; all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The terms, in the order given.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads a selector; empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_unescaped(text).into_iter().filter(|p| !p.is_empty()) {
            let term = parse_term(part).ok_or_else(|| SelectorError::Field(text.to_owned(), part.to_owned()))?;
            terms.push(term);
        }
        Ok(Self { terms })
    }

    /// True if it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value `field` must equal, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// True if every term holds, with `get` giving the text at a path (`""` if absent).
    pub fn matches<'a>(&self, get: impl Fn(&str) -> std::borrow::Cow<'a, str>) -> bool {
        self.terms.iter().all(|t| (get(&t.field) == t.value) == t.equal)
    }
}

/// Splits at commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn parse_term(part: &str) -> Option<FieldTerm> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at(at);
    let (equal, value) = [("!=", false), ("==", true), ("=", true)]
        .into_iter()
        .find_map(|(op, equal)| rest.strip_prefix(op).map(|v| (equal, v)))?;
    Some(FieldTerm { field: field.trim().to_owned(), value: unescape(value)?, equal })
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_selectors_know_three_operators_and_escapes() {
        let s = FieldSelector::parse(r"metadata.name=a\,b,spec.x!=1,type==T").unwrap();
        assert_eq!(s.exact("metadata.name"), Some("a,b"));
        assert!(s.matches(|f| match f {
            "metadata.name" => "a,b".into(),
            "type" => "T".into(),
            _ => "".into(),
        }));
        assert!(FieldSelector::parse("metadata.name").is_err());
        assert!(FieldSelector::parse("").unwrap().is_empty());
    }
}
