//! Expressions as a tree.

use std::sync::Arc;

use crate::value::Value;

/// A node, with the place of its text.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) expr: Expr,
}

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Value<'static>),
    Name(Arc<str>),
    /// `operand.field`, or `operand.?field`.
    Select {
        operand: Box<Node>,
        field: Arc<str>,
        optional: bool,
    },
    /// `has(operand.field)`.
    Has {
        operand: Box<Node>,
        field: Arc<str>,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    Call {
        name: Arc<str>,
        target: Option<Box<Node>>,
        args: Vec<Node>,
    },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Choose(Box<[Node; 3]>),
    /// Elements, and whether each is there only if an optional has a value.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// A message: `Object.spec{replicas: 1}`.
    Message {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Node, bool)>,
    },
    Fold(Box<Fold>),
    /// `cel.bind(name, value, body)` and `optional.optMap(name, body)` alike.
    OptMap {
        target: Box<Node>,
        variable: Arc<str>,
        body: Box<Node>,
        flat: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// A list of what the body makes of elements.
    Map,
    /// The same over keys and values, to a map.
    MapValues,
    /// The same, where the body makes entries.
    MapEntries,
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) range: Node,
    pub(crate) first: Arc<str>,
    /// With two variables the first is the index or key, and this one the value.
    pub(crate) second: Option<Arc<str>>,
    /// Only elements of which this is true.
    pub(crate) filter: Option<Node>,
    pub(crate) body: Node,
}

impl Node {
    pub(crate) fn new(at: usize, expr: Expr) -> Self {
        Self { at, expr }
    }

    /// `a.b.c` as one name, if the node is nothing else.
    pub(crate) fn dotted(&self) -> Option<String> {
        match &self.expr {
            Expr::Name(name) => Some(name.to_string()),
            Expr::Select { operand, field, optional: false } => Some(format!("{}.{field}", operand.dotted()?)),
            _ => None,
        }
    }

    /// The names that are not bound inside.
    pub(crate) fn free_names<'n>(&'n self, bound: &mut Vec<&'n str>, out: &mut Vec<String>) {
        match &self.expr {
            Expr::Literal(_) => {}
            Expr::Name(name) => {
                if !bound.contains(&&**name) && !out.iter().any(|o| **o == **name) {
                    out.push(name.to_string());
                }
            }
            Expr::Fold(fold) => {
                fold.range.free_names(bound, out);
                let depth = bound.len();
                bound.push(&fold.first);
                bound.extend(fold.second.as_deref());
                fold.filter.iter().chain([&fold.body]).for_each(|n| n.free_names(bound, out));
                bound.truncate(depth);
            }
            Expr::OptMap { target, variable, body, .. } => {
                target.free_names(bound, out);
                bound.push(variable);
                body.free_names(bound, out);
                bound.pop();
            }
            other => other.children().into_iter().for_each(|n| n.free_names(bound, out)),
        }
    }
}

impl Expr {
    /// The nodes below, of those that bind no names.
    pub(crate) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Literal(_) | Self::Name(_) => Vec::new(),
            Self::Select { operand, .. } | Self::Has { operand, .. } => vec![operand],
            Self::Index { operand, index, .. } => vec![operand, index],
            Self::Call { target, args, .. } => target.iter().map(|t| &**t).chain(args).collect(),
            Self::And(a, b) | Self::Or(a, b) => vec![a, b],
            Self::Choose(all) => all.iter().collect(),
            Self::List(items) => items.iter().map(|(n, _)| n).collect(),
            Self::Map(entries) => entries.iter().flat_map(|(k, v, _)| [k, v]).collect(),
            Self::Message { fields, .. } => fields.iter().map(|(_, n, _)| n).collect(),
            Self::Fold(fold) => [&fold.range].into_iter().chain(&fold.filter).chain([&fold.body]).collect(),
            Self::OptMap { target, body, .. } => vec![target, body],
        }
    }
}
