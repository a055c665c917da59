//! Labels and what selects by them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Name;

/// Something with labels.
pub(crate) trait LabelSet {
    /// The value of a label.
    fn value(&self, key: &str) -> Option<&str>;
}

impl LabelSet for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// An object's labels, in the order of their keys.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Labels(pub(super) Box<[(Name, Name)]>);

impl Labels {
    /// The value of a label.
    pub(crate) fn get(&self, key: &str) -> Option<&Name> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Name, Name)> {
        self.0.iter()
    }
}

impl LabelSet for Labels {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(|value| &**value)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Requirement {
    pub(super) key: Name,
    pub(super) operator: Operator,
    pub(super) values: Box<[Name]>,
}

impl Requirement {
    pub(super) fn holds(&self, labels: &impl LabelSet) -> bool {
        let value = labels.value(&self.key);
        let is_among = |value: &str| self.values.iter().any(|known| &**known == value);
        let compares = |holds: fn(i64, i64) -> bool| {
            let number = |text: &str| text.parse::<i64>().ok();
            let limit = self.values.first().and_then(|limit| number(limit));
            value.and_then(number).zip(limit).is_some_and(|(value, limit)| holds(value, limit))
        };
        match self.operator {
            Operator::In => value.is_some_and(is_among),
            Operator::NotIn => value.is_none_or(|value| !is_among(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compares(|value, limit| value > limit),
            Operator::Lt => compares(|value, limit| value < limit),
        }
    }
}

/// Selects by labels. The default selects nothing, as a missing selector does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selector(Option<Box<[Requirement]>>);

impl Selector {
    pub(super) fn of(requirements: Vec<Requirement>) -> Self {
        Self(Some(requirements.into()))
    }

    /// Whether it selects these labels.
    pub(crate) fn matches(&self, labels: &impl LabelSet) -> bool {
        self.0.as_ref().is_some_and(|all| all.iter().all(|requirement| requirement.holds(labels)))
    }

    /// Whether it has no condition, so that it selects everything.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.as_ref().is_some_and(|all| all.is_empty())
    }

    /// Whether it can't select anything.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// The conditions of this one and of another; one that selects nothing stays so.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(mine), Some(others)) => Self(Some(mine.into_iter().chain(others).collect())),
            _ => Self(None),
        }
    }

    /// Selects what has all these labels.
    pub(crate) fn all_of<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        name: impl FnMut(&str) -> Name,
    ) -> Self {
        let mut name = name;
        let equals = labels.into_iter().map(|(key, value)| Requirement {
            key: name(key),
            operator: Operator::In,
            values: Box::new([name(value)]),
        });
        Self(Some(equals.collect()))
    }
}

/// The selector of an API object, with names made by `name`. One with an operator that is none selects nothing.
pub(crate) fn selector_of(selector: Option<&LabelSelector>, mut name: impl FnMut(&str) -> Name) -> Selector {
    let Some(selector) = selector else { return Selector::default() };
    let mut requirements = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        requirements.push(Requirement { key: name(key), operator: Operator::In, values: Box::new([name(value)]) });
    }
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match &*expression.operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return Selector::default(),
        };
        let values = expression.values.iter().flatten().map(|value| name(value)).collect();
        requirements.push(Requirement { key: name(&expression.key), operator, values });
    }
    Selector::of(requirements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select_as_the_documentation_of_labels_says() {
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned()), ("n".to_owned(), "5".to_owned())]);
        let requirement = |key: &str, operator, values: &[&str]| Requirement {
            key: Name::new(key),
            operator,
            values: values.iter().map(|value| Name::new(value)).collect(),
        };
        let rows = [
            (requirement("tier", Operator::In, &["web", "db"]), true),
            (requirement("tier", Operator::NotIn, &["web"]), false),
            (requirement("other", Operator::NotIn, &["web"]), true),
            (requirement("tier", Operator::Exists, &[]), true),
            (requirement("other", Operator::DoesNotExist, &[]), true),
            (requirement("n", Operator::Gt, &["4"]), true),
            (requirement("n", Operator::Lt, &["5"]), false),
            (requirement("tier", Operator::Gt, &["4"]), false),
        ];
        for (requirement, expected) in rows {
            assert_eq!(requirement.holds(&labels), expected, "{requirement:?}");
        }
        assert!(!Selector::default().matches(&labels));
        assert!(Selector::of(Vec::new()).matches(&labels));
    }
}
