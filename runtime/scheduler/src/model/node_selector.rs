//! What a pod or a volume says of the nodes it wants.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use super::labels::{Operator, Requirement};
use super::{LabelSet, Name, Node, Selector};

/// Conditions of which all must hold. A term without any holds for no node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NodeTerm {
    labels: Box<[Requirement]>,
    /// Conditions on `metadata.name`, the one field there is.
    fields: Box<[Requirement]>,
    /// An operator that is none: the term holds for no node.
    broken: bool,
}

/// A node's fields.
struct Fields<'a>(&'a str);

impl LabelSet for Fields<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        (key == "metadata.name").then_some(self.0)
    }
}

impl NodeTerm {
    pub(crate) fn of(term: &NodeSelectorTerm, mut name: impl FnMut(&str) -> Name) -> Self {
        let labels = requirements(term.match_expressions.as_deref(), &mut name);
        let fields = requirements(term.match_fields.as_deref(), &mut name);
        let broken = labels.is_none() || fields.is_none();
        Self { labels: labels.unwrap_or_default(), fields: fields.unwrap_or_default(), broken }
    }

    /// Whether it holds for a node of this name and labels.
    pub(crate) fn holds(&self, name: &str, labels: &impl LabelSet) -> bool {
        !(self.broken || self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|requirement| requirement.holds(labels))
            && self.fields.iter().all(|requirement| requirement.holds(&Fields(name)))
    }

    /// The names that its conditions on the name leave; `None` if it has none of the kind `In`.
    fn names(&self) -> Option<Vec<Name>> {
        let mut all = self.fields.iter().filter(|r| &*r.key == "metadata.name" && r.operator == Operator::In);
        let first = all.next()?.values.to_vec();
        Some(all.fold(first, |names, r| names.into_iter().filter(|name| r.values.contains(name)).collect()))
    }
}

/// Whether one of several terms holds.
pub(crate) fn matches_any(terms: &[NodeTerm], name: &str, labels: &impl LabelSet) -> bool {
    terms.iter().any(|term| term.holds(name, labels))
}

fn requirements(
    given: Option<&[NodeSelectorRequirement]>,
    name: &mut impl FnMut(&str) -> Name,
) -> Option<Box<[Requirement]>> {
    let of = |requirement: &NodeSelectorRequirement| {
        let operator = match &*requirement.operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => return None,
        };
        let values = requirement.values.iter().flatten().map(|value| name(value)).collect();
        Some(Requirement { key: name(&requirement.key), operator, values })
    };
    given.unwrap_or_default().iter().map(of).collect()
}

/// What a pod requires of its node: its `nodeSelector` and its required node affinity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct RequiredNodes {
    /// `nodeSelector`, if there is one.
    pub(crate) selector: Option<Selector>,
    /// The terms of the affinity, of which one must hold.
    pub(crate) terms: Option<Box<[NodeTerm]>>,
}

impl RequiredNodes {
    /// Whether the pod requires nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_none() && self.terms.is_none()
    }

    /// Whether a node has what is required.
    pub(crate) fn matches(&self, node: &Node) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(&*node.labels))
            && self.terms.as_ref().is_none_or(|terms| matches_any(terms, &node.name, &*node.labels))
    }

    /// The nodes that the affinity names, if it names any; an empty list says that its terms contradict each other.
    pub(crate) fn names(&self) -> Option<Vec<Name>> {
        let terms = self.terms.as_ref().filter(|terms| !terms.is_empty())?;
        let mut names = Vec::new();
        for term in terms {
            names.extend(term.names()?);
        }
        names.sort();
        names.dedup();
        Some(names)
    }
}

/// Terms with the weight that each adds to a node for which it holds.
pub(crate) type PreferredNodes = Box<[(i64, NodeTerm)]>;
