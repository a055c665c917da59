//! Label selectors, in text (`a=b,c in (d,e),!f,g>3`) and as objects (`matchLabels`, `matchExpressions`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::SelectorError;
use crate::meta;
use crate::names;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a whole number above the value.
    GreaterThan,
    /// The label is a whole number below the value.
    LessThan,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Comparison.
    pub operator: Operator,
    /// Values, as the operator needs.
    pub values: Vec<String>,
}

/// A parsed label selector; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The requirements, in the order given.
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Reads the text form; empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { rest: text };
        let mut requirements = Vec::new();
        parser.skip_space();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?);
            parser.skip_space();
            if parser.take(",") {
                parser.skip_space();
                if parser.rest.is_empty() {
                    return Err(parser.error("identifier after ','"));
                }
            } else if !parser.rest.is_empty() {
                return Err(parser.error("',' or 'end of string'"));
            }
        }
        Ok(Self { requirements })
    }

    /// Reads the object form (`metav1.LabelSelector`). An empty object selects everything.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let mut requirements: Vec<Requirement> = meta::string_map(selector.get("matchLabels"))
            .into_iter()
            .map(|(k, v)| Requirement { key: k.into(), operator: Operator::In, values: vec![v.into()] })
            .collect();
        for e in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let values: Vec<String> = meta::strings(e.get("values")).into_iter().map(Into::into).collect();
            let operator = match (meta::text(e, &["operator"]), values.is_empty()) {
                ("In", false) => Operator::In,
                ("NotIn", false) => Operator::NotIn,
                ("Exists", true) => Operator::Exists,
                ("DoesNotExist", true) => Operator::DoesNotExist,
                (op, _) => {
                    return Err(SelectorError::Label(format!("{op:?} is not a valid label selector operator here")));
                }
            };
            requirements.push(Requirement { key: meta::text(e, &["key"]).into(), operator, values });
        }
        Ok(Self { requirements })
    }

    /// True if it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// True if labels fulfil every requirement.
    pub fn matches(&self, labels: &BTreeMap<&str, &str>) -> bool {
        self.requirements.iter().all(|r| r.matches(labels.get(r.key.as_str()).copied()))
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|v| self.values.iter().any(|x| x == v));
        let number = |s: Option<&str>| s.and_then(|s| s.parse::<i64>().ok());
        let bound = || number(self.values.first().map(String::as_str));
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number(value).zip(bound()).is_some_and(|(v, b)| v > b),
            Operator::LessThan => number(value).zip(bound()).is_some_and(|(v, b)| v < b),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).inspect(|rest| self.rest = rest).is_some()
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let special = |c: char| c.is_whitespace() || matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>');
        let end = self.rest.find(special).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn error(&self, expected: &str) -> SelectorError {
        SelectorError::Label(format!("found '{}', expected: {expected}", self.rest))
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.take("!");
        let key = self.word().to_owned();
        if key.is_empty() {
            return Err(self.error("identifier"));
        }
        if let Some(why) = names::qualified_name(&key).into_iter().next() {
            return Err(SelectorError::Label(format!("key: Invalid value: {key:?}: {why}")));
        }
        self.skip_space();
        let done = |operator, values| Ok(Requirement { key: key.clone(), operator, values });
        if absent {
            return done(Operator::DoesNotExist, Vec::new());
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return done(Operator::Exists, Vec::new());
        }
        let (operator, many) = match () {
            () if self.take("!=") => (Operator::NotIn, false),
            () if self.take("==") || self.take("=") => (Operator::In, false),
            () if self.take(">") => (Operator::GreaterThan, false),
            () if self.take("<") => (Operator::LessThan, false),
            () => match self.word() {
                "in" => (Operator::In, true),
                "notin" => (Operator::NotIn, true),
                _ => return Err(self.error("in, notin, =, ==, !=, gt, lt")),
            },
        };
        let values = if many { self.values()? } else { vec![self.word().to_owned()] };
        for value in &values {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(SelectorError::Label(format!("values[0]: Invalid value: {value:?}: {why}")));
            }
            if let Some(why) = names::label_value(value).into_iter().next() {
                return Err(SelectorError::Label(format!("values[0][{key}]: Invalid value: {value:?}: {why}")));
            }
        }
        done(operator, values)
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        self.skip_space();
        if !self.take("(") {
            return Err(self.error("'('"));
        }
        let mut out = Vec::new();
        loop {
            out.push(self.word().to_owned());
            self.skip_space();
            if self.take(")") {
                return Ok(out);
            }
            if !self.take(",") {
                return Err(self.error("',' or ')'"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector).unwrap().matches(&labels.iter().copied().collect())
    }

    #[test]
    fn every_operator_of_the_grammar_selects_as_documented() {
        let l = [("env", "prod"), ("tier", "3")];
        for good in [
            "",
            "env=prod",
            "env==prod",
            "env!=dev",
            "x!=y",
            "env in (dev, prod)",
            "x notin (a)",
            "env",
            "!x",
            "tier>2",
            "tier<4,env=prod",
            " env = prod , tier ",
        ] {
            assert!(selects(good, &l), "{good}");
        }
        for bad in ["env=dev", "x=", "!env", "x", "env notin (prod)", "tier>3", "x>1"] {
            assert!(!selects(bad, &l), "{bad}");
        }
    }

    #[test]
    fn broken_selectors_are_errors_and_not_empty_ones() {
        for text in ["env in prod", "a b", "a in (", "=x", "a,", "a>x", "a=b c", "-a=b"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_object_form_is_the_same_selector() {
        let s = LabelSelector::from_object(&json!({"matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]}));
        assert_eq!(s.unwrap(), LabelSelector::parse("a=b,!c").unwrap());
    }
}
