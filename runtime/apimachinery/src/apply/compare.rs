//! What changed between two objects, as sets of fields.

use serde_json::Value;

use super::path::{Element, same};
use super::set::Set;
use super::shape::{self, Shape};
use crate::typed::Type;

/// The fields that differ between two objects; none is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the first only.
    pub removed: Set,
    /// In both, with other values.
    pub modified: Set,
    /// In the second only.
    pub added: Set,
}

/// What became of a field itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Removed,
    Modified,
    Added,
}

/// Compares two objects of a type. Values that don't fit the type are compared as a whole.
pub fn compare<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>) -> Comparison {
    let mut out = Comparison::default();
    walk(ty, left, right, &mut out);
    out
}

impl Comparison {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Takes out fields with everything below them.
    pub(super) fn ignore(&mut self, fields: &Set) {
        self.removed.subtract_trees(fields);
        self.modified.subtract_trees(fields);
        self.added.subtract_trees(fields);
    }

    fn take(&mut self, element: Element, fate: Fate, below: Self) {
        if fate == Fate::Removed || !below.removed.is_empty() {
            self.removed.put(element.clone(), fate == Fate::Removed, below.removed);
        }
        if fate == Fate::Modified || !below.modified.is_empty() {
            self.modified.put(element.clone(), fate == Fate::Modified, below.modified);
        }
        if fate == Fate::Added || !below.added.is_empty() {
            self.added.put(element, fate == Fate::Added, below.added);
        }
    }

    fn descend<T: Type>(
        &mut self,
        ty: Option<T>,
        left: Option<&Value>,
        right: Option<&Value>,
        element: impl FnOnce() -> Element,
    ) {
        let mut below = Self::default();
        let fate = match ty {
            Some(ty) => walk(ty, left, right, &mut below),
            // A field that the type has not, which decoding would have dropped.
            None => leaf(left, right),
        };
        if fate != Fate::Kept || !below.is_empty() {
            self.take(element(), fate, below);
        }
    }
}

fn presence(left: Option<&Value>, right: Option<&Value>) -> Fate {
    match (left, right) {
        (None, Some(_)) => Fate::Added,
        (Some(_), None) => Fate::Removed,
        _ => Fate::Kept,
    }
}

fn leaf(left: Option<&Value>, right: Option<&Value>) -> Fate {
    match (left, right) {
        (Some(a), Some(b)) if !same(a, b) => Fate::Modified,
        _ => presence(left, right),
    }
}

/// Compares two values, giving what became of the field itself and putting what is below into `out`.
fn walk<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>, out: &mut Comparison) -> Fate {
    let shape = shape::common(ty, left, right);
    match shape {
        // Whether a field is absent, null or empty is told only as long as it is one of these.
        Some(Shape::Map | Shape::List) if shape::is_void(left) && shape::is_void(right) => leaf(left, right),
        Some(Shape::Map) => {
            maps(ty, left, right, out);
            presence(left, right)
        }
        Some(Shape::List) => {
            lists(ty, left, right, out);
            presence(left, right)
        }
        Some(Shape::Leaf) => leaf(left, right),
        None => {
            // One is an object, the other is not: its fields are gone or new, and the field itself has another value.
            if shape::map(left).is_some() {
                maps(ty, left, None, out);
            } else {
                maps(ty, None, right, out);
            }
            leaf(left, right)
        }
    }
}

fn maps<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>, out: &mut Comparison) {
    const NOTHING: Value = Value::Null;
    let (lhs, rhs) = (left.is_some(), right.is_some());
    let mut lefts = shape::map(left).into_iter().flatten().peekable();
    let mut rights = shape::map(right).into_iter().flatten().peekable();
    loop {
        let name = match (lefts.peek(), rights.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
            (Some((name, _)), None) | (None, Some((name, _))) => *name,
            (None, None) => return,
        };
        let l = lefts.next_if(|(key, _)| *key == name).map(|(_, value)| value);
        let r = rights.next_if(|(key, _)| *key == name).map(|(_, value)| value);
        let field = shape::child(ty, name);
        // A field that is always there and not said is empty, not absent, as long as its struct is there.
        let always = (l.is_none() || r.is_none()) && ty.always(name);
        let empty = |there: bool| (always && there).then_some(&NOTHING);
        let (l, r) = (l.or(empty(lhs)), r.or(empty(rhs)));
        if always && shape::is_void(l) && shape::is_void(r) && l.is_some() && r.is_some() {
            continue;
        }
        out.descend(field, l, r, || Element::field(name));
    }
}

fn lists<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>, out: &mut Comparison) {
    let (left, right) = (shape::list(left), shape::list(right));
    if left == right {
        return;
    }
    let (left, right) = (grouped(ty, left), grouped(ty, right));
    let mut right: Vec<Option<(Element, Vec<&Value>)>> = right.into_iter().map(Some).collect();
    let item = ty.item();
    for (element, l) in left {
        let other = right.iter_mut().find(|r| r.as_ref().is_some_and(|(e, _)| *e == element));
        let r = other.and_then(Option::take).map(|(_, values)| values).unwrap_or_default();
        items(item, element, &l, &r, out);
    }
    for (element, r) in right.into_iter().flatten() {
        items(item, element, &[], &r, out);
    }
}

/// The elements by what tells them apart; those of which that can't be said are left out.
fn grouped<T: Type>(ty: T, list: &[Value]) -> Vec<(Element, Vec<&Value>)> {
    let mut out: Vec<(Element, Vec<&Value>)> = Vec::with_capacity(list.len());
    for (element, value) in list.iter().filter_map(|v| Some((shape::element(ty, v).ok()?, v))) {
        match out.iter_mut().find(|(known, _)| *known == element) {
            Some((_, values)) => values.push(value),
            None => out.push((element, vec![value])),
        }
    }
    out
}

/// Elements that stand several times are owned as one.
fn items<T: Type>(ty: Option<T>, element: Element, left: &[&Value], right: &[&Value], out: &mut Comparison) {
    match (left, right) {
        ([] | [_], [] | [_]) => out.descend(ty, left.first().copied(), right.first().copied(), || element),
        ([_, _, ..], [_, _, ..]) => {
            if left.len() != right.len() || !left.iter().zip(right).all(|(a, b)| same(a, b)) {
                out.take(element, Fate::Modified, Comparison::default());
            }
        }
        ([_, _, ..], _) => {
            if let Some(right) = right.first() {
                out.descend(ty, None, Some(right), || element.clone());
            }
            out.take(element, Fate::Removed, Comparison::default());
        }
        (_, [_, _, ..]) => {
            if let Some(left) = left.first() {
                out.descend(ty, Some(left), None, || element.clone());
            }
            out.take(element, Fate::Added, Comparison::default());
        }
    }
}
